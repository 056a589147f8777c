"""What the Fleet page shows: figures, what is wrong in sentences, workers, clusters, lines, decisions.

Nothing here reads a big table as a whole: everything is counted by an index, and up to a limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from django.conf import settings
from django.db import connection
from django.db.models import Count
from django.urls import reverse

from queueing import control, pool
from queueing.admin.live import address
from queueing.admin.rows import LineRow, Row
from queueing.admin.words import Said, Tile, bad, count, note, span, warning, well
from queueing.health import with_health
from queueing.models import (
    AttemptEnd,
    EntryState,
    Pool,
    QueueControl,
    QueueEntry,
    ScalingDecision,
    Worker,
    WorkerState,
)
from queueing.scaling import WAIT_TARGET
from queueing.throughput import Throughput

throughput = Throughput()

SHOWN_WORKERS = 200
SEARCHED_ENDED = 2_000  # of the workers that ended, so many of the newest are looked at
SHOWN_DECISIONS = 5
DRAWN_DECISIONS = 60
NAMED = 5  # workers that are named in sentences of their own; the others are counted

# Of each state so many of those that have waited longest tell how the queue is made up.
SAMPLED = 5_000
PRIORITIES = "SELECT priority, count(*) FROM ({}) sample GROUP BY priority ORDER BY priority".format(
    " UNION ALL ".join(
        f"(SELECT priority FROM queueing_queueentry WHERE state = '{state}' ORDER BY available_at LIMIT {SAMPLED})"
        for state in EntryState.values
        if state != EntryState.LEASED
    )
)

# Attempts have no index by time; the newest are at the end of the table's key.
RECENT_ATTEMPTS = 5_000
ENDED_LATELY = """
SELECT "end", count(*) FROM (
    SELECT "end", ended_at FROM queueing_attempt ORDER BY id DESC LIMIT %s
) newest WHERE ended_at > statement_timestamp() - interval '1 hour' GROUP BY "end"
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """The newest decisions, oldest first: an area of what waited and a line of processes, in a box of 300 x 48."""

    waiting: str
    processes: str
    text: str


@dataclass
class Fleet:
    """All of the page. Everything is read when it is asked for, once.

    which: live, draining, silent, unwell or ended; words: a part of the host's name, or a process number.
    """

    which: str = "live"
    words: str = ""
    host: str = ""
    now: datetime = field(init=False)

    def __post_init__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            (self.now,) = cursor.fetchall()[0]

    # -- read

    @cached_property
    def live(self) -> list[Row]:
        """The workers that have not ended, worst first."""
        rows = with_health(Worker.objects.filter(stopped_at=None).exclude(state=WorkerState.STOPPED))
        return sorted((Row(worker, health) for worker, health in rows), key=lambda row: row.order)

    @cached_property
    def clusters(self) -> list[pool.Manned]:
        return pool.manned_clusters()

    @cached_property
    def figures(self) -> control.QueueFigures:
        return control.queue_figures()

    @cached_property
    def waiting_lines(self) -> list[control.Line]:
        return control.lines()

    @cached_property
    def control(self) -> QueueControl:
        return QueueControl.objects.get()

    @cached_property
    def paused(self) -> dict[str, Pool]:
        return {row.name: row for row in Pool.objects.filter(paused=True)}

    @cached_property
    def newest_decisions(self) -> list[ScalingDecision]:
        return list(ScalingDecision.objects.order_by("-at")[:DRAWN_DECISIONS])

    @cached_property
    def attempts_lost(self) -> dict[str, int]:
        """How the attempts of the last hour ended that did not end their execution."""
        with connection.cursor() as cursor:
            cursor.execute(ENDED_LATELY, [RECENT_ATTEMPTS])
            return dict(cursor.fetchall())

    @cached_property
    def suspects(self) -> int:
        return QueueEntry.objects.filter(state=EntryState.READY, losses__gt=0).count()

    # -- shown

    @cached_property
    def found(self) -> list[Row]:
        """The workers that were asked for."""
        if self.which == "ended":
            ended = Worker.objects.filter(stopped_at__isnull=False).order_by("-pk")
            newest = [worker for worker in ended[:SEARCHED_ENDED] if self._is_meant(worker)]
            rows = [Row(worker, None) for worker in newest]
        else:
            words = {"draining": "Draining", "silent": "Silent", "unwell": "Unwell"}
            wanted = words.get(self.which)
            rows = [row for row in self.live if wanted is None or row.look[2] == wanted]
            rows = [row for row in rows if self._is_meant(row.worker)]
        return rows

    def _is_meant(self, worker: Worker) -> bool:
        return self.words in str(worker) and self.host in ("", worker.host)

    @cached_property
    def rows(self) -> list[Row]:
        return self.found[:SHOWN_WORKERS]

    @cached_property
    def chips(self) -> list[tuple[str, str, str, int | None, str, bool]]:
        """(status, icon, word, count, link, chosen) for each question that can be asked of the workers."""
        base = reverse("admin:queueing_worker_changelist")
        counts = Counter(row.look[2] for row in self.live)
        asked = (
            ("live", "queued", "server", "All", len(self.live)),
            ("silent", "timed_out", "hourglass", "Silent", counts["Silent"]),
            ("unwell", "needs_attention", "alert", "Unwell", counts["Unwell"]),
            ("draining", "pending_approval", "half", "Draining", counts["Draining"]),
            ("ended", "cancelled", "stop", "Ended lately", None),
        )
        return [
            (status, icon, word, count, address(base, which=which, q=self.words, host=self.host), which == self.which)
            for which, status, icon, word, count in asked
        ]

    @property
    def draining_by(self) -> str:
        """Who drained the queue, and why; empty when it is open."""
        held = self.control
        return (f"{held.changed_by}: {held.reason}" if held.reason else held.changed_by) if held.draining else ""

    @cached_property
    def wanted(self) -> int:
        """Worker processes that the clusters are to have, all together."""
        return sum(one.cluster.processes for one in self.clusters)

    @property
    def room(self) -> int:
        return sum(one.cluster.max_processes for one in self.clusters)

    @cached_property
    def at_work(self) -> list[Row]:
        """The workers that beat and were not told to end, draining ones included."""
        return [row for row in self.live if row.look[2] in ("Active", "Unwell", "Draining")]

    @cached_property
    def tiles(self) -> list[Tile]:
        base, queue = reverse("admin:queueing_worker_changelist"), reverse("admin:queueing_queueentry_changelist")
        counts = Counter(row.look[2] for row in self.live)
        running = sum(row.worker.running for row in self.at_work)
        slots = sum(row.worker.slots for row in self.at_work)
        hosts = len({row.worker.host for row in self.live})
        seconds = self.figures["waiting_seconds"]
        rate = throughput.read(self.now)
        over = f"over {span(rate.over.total_seconds())}" if rate.over else "on average since the workers began"
        lost = {end: self.attempts_lost.get(end, 0) for end in (AttemptEnd.LEASE_EXPIRED, AttemptEnd.WORKER_DIED)}
        return [
            Tile("Workers alive", str(len(self.at_work)), f"{self.wanted} wanted, on {count(hosts, 'host')}",
                 f"{base}?which=live", "succeeded" if self.at_work else "failed"),
            Tile("Draining", str(counts["Draining"]), "claim nothing, finish what they run",
                 f"{base}?which=draining", "pending_approval" if counts["Draining"] else ""),
            Tile("Silent", str(counts["Silent"]), f"no beat for {settings.SILENT_AFTER.total_seconds():.0f} s",
                 f"{base}?which=silent", "timed_out" if counts["Silent"] else ""),
            Tile("Slots in use", f"{running:,} of {slots:,}", f"{100 * running / slots:.0f} %" if slots else "none",
                 f"{queue}?question=running", "running" if running else ""),
            Tile("In the queue", f"{self.figures['depth']:,}", self._made_up_of, queue,
                 "queued" if self.figures["depth"] else "", self._priorities),
            Tile("Oldest wait", span(seconds) if seconds else "–", "of those that could start now", queue,
                 "needs_attention" if seconds > WAIT_TARGET.total_seconds() else ""),
            Tile("Finished a minute", f"{rate.per_minute:,.0f}" if rate.per_minute >= 10 else f"{rate.per_minute:.1f}",
                 over, reverse("executions:list"), "running" if rate.per_minute else ""),
            Tile("Leases lost in an hour", str(sum(lost.values())),
                 f"{lost[AttemptEnd.LEASE_EXPIRED]} ran out, {lost[AttemptEnd.WORKER_DIED]} with a worker that died",
                 f"{base}?which=ended", "failed" if any(lost.values()) else ""),
        ]  # fmt: skip

    @cached_property
    def _priority_counts(self) -> list[tuple[int, int]]:
        with connection.cursor() as cursor:
            cursor.execute(PRIORITIES)
            return list(cursor.fetchall())

    @property
    def _priorities(self) -> tuple[tuple[str, int, int], ...]:
        most = max((count for _, count in self._priority_counts), default=1)
        return tuple((str(priority), n, max(1, round(100 * n / most))) for priority, n in self._priority_counts)

    @property
    def _made_up_of(self) -> str:
        sampled = sum(n for _, n in self._priority_counts)
        if not sampled:
            return "nothing waits"
        return "by priority" if sampled >= self.figures["depth"] else f"by priority, of the first {sampled:,}"

    @cached_property
    def lines(self) -> list[LineRow]:
        """What waits and what runs by pool and region, and the pools that workers name or somebody paused."""
        waiting = {(line.pool, line.region): line for line in self.waiting_lines}
        leased = QueueEntry.objects.filter(state=EntryState.LEASED).order_by()
        running = {
            (row["pool"], row["region"]): row["n"] for row in leased.values("pool", "region").annotate(n=Count("pk"))
        }
        claiming = [row.worker for row in self.at_work if not row.worker.draining]
        named = {name for worker in claiming for name in worker.pools if name != "*"} | set(self.paused) | {"default"}
        there = {key[0] for key in (*waiting, *running)}
        keys = sorted({*waiting, *running, *((name, "") for name in named - there)})
        return [
            LineRow(
                name, region,
                waiting=waiting[name, region].waiting if (name, region) in waiting else 0,
                seconds=waiting[name, region].seconds if (name, region) in waiting else 0.0,
                running=running.get((name, region), 0),
                serving=sum(_serves(worker, name, region) for worker in claiming),
                paused=self.paused.get(name),
            )
            for name, region in keys
        ]  # fmt: skip

    @property
    def decisions(self) -> list[ScalingDecision]:
        return self.newest_decisions[:SHOWN_DECISIONS]

    @property
    def sizing_sentence(self) -> str:
        """Who says how many workers there are."""
        held = self.control
        if held.autoscale != "off":
            dry = " It runs dry: it says what it would do, and changes nothing." if held.autoscale == "dry_run" else ""
            return f"Autoscaling: between {held.min_processes} and {held.max_processes} for each cluster.{dry}"
        if held.processes is not None:
            return f"{count(held.processes, 'process', 'processes')} in all, as an operator set it."
        return "Each cluster has the number that it was started with."

    @cached_property
    def picture(self) -> Picture | None:
        """None when there are too few decisions to draw."""
        decisions = self.newest_decisions[::-1]
        if len(decisions) < 3:
            return None
        known: dict[str, int] = {}
        for one in decisions:
            known.setdefault(one.cluster, one.before)
        totals = []
        for one in decisions:
            known[one.cluster] = one.after if one.applied else one.before
            totals.append(sum(known.values()))
        depths = [one.depth for one in decisions]
        left, right = f"{decisions[0].at:%d %b %H:%M}", f"{decisions[-1].at:%d %b %H:%M}"
        text = (
            f"{len(decisions)} decisions from {left} to {right} UTC: {min(totals)} to {max(totals)} processes,"
            f" up to {max(depths):,} entries waiting."
        )
        area = _points(depths)
        return Picture(f"0,48 {area} 300,48", _points(totals), text)

    # -- said

    @cached_property
    def sentences(self) -> list[Said]:
        """What is wrong, worst first; one that all is well when nothing is."""
        said = [*self._stands_still(), *self._silent(), *self._missing(), *self._lost(), *self._unwell()]
        order = ("failed", "needs_attention", "pending_approval", "queued")
        said.sort(key=lambda one: order.index(one.status))  # within a kind they stay in this order
        if any(one.status in ("failed", "needs_attention") for one in said):
            return said
        return [self._all_well(), *said]

    def _stands_still(self) -> Iterator[Said]:
        queue = reverse("admin:queueing_queueentry_changelist")
        depth = self.figures["depth"]
        if self.control.draining:
            by = f" by {self.draining_by}" if self.draining_by else ""
            yield warning(f"The queue is drained{by}. Nothing is taken in, nothing starts; {_wait(depth)}.")
            return
        if not self.at_work:
            yield bad(f"No worker is running: {_wait(depth)}. Start make serve, or manage.py worker on a host.", queue)
            return
        for line in self.waiting_lines:
            if not line.paused and not line.served:
                (text,) = control.line_sentences([line])
                yield bad(text, address(queue, pool=line.pool, region=line.region))
        for name, row in self.paused.items():
            waiting = sum(line.waiting for line in self.waiting_lines if line.pool == name)
            by = f" by {row.changed_by}" if row.changed_by else ""
            why = f": {row.reason.rstrip('.')}" if row.reason else ""
            text = f"Pool {name} is paused{by}{why}. {_wait(waiting).capitalize()}."
            yield warning(text, address(queue, pool=name))
        if self.suspects:
            one = self.suspects == 1
            text = f"{count(self.suspects, 'execution waits', 'executions wait')} to be run apart: a worker died of "
            yield warning(f"{text}{'it' if one else 'each'}.", f"{queue}?question=apart")
        if all(row.worker.draining for row in self.at_work):
            drained = f"{reverse('admin:queueing_worker_changelist')}?which=draining"
            yield warning(f"Every worker drains: nothing starts, {_wait(depth)}.", drained)
        active = [row.worker for row in self.at_work if not row.worker.draining and not row.worker.isolation]
        seconds = self.figures["waiting_seconds"]
        full = active and all(worker.running >= worker.slots for worker in active)
        if seconds > WAIT_TARGET.total_seconds() and full:
            yield warning(f"All slots are in use, and the oldest execution has waited for {span(seconds)}.", queue)

    def _silent(self) -> Iterator[Said]:
        base = reverse("admin:queueing_worker_changelist")
        silent = [row for row in self.live if row.look[2] == "Silent"]
        # A host that is gone is said once, not once for each of its workers.
        awake = {row.worker.cluster for row in self.live if row.look[2] != "Silent"}
        gone = {one.cluster.name for one in self.clusters if one.silent} - awake
        for one in self.clusters:
            if not one.silent:
                continue
            quiet = span((self.now - one.cluster.last_beat_at).total_seconds())
            own = sum(row.worker.cluster == one.cluster.name for row in silent)
            text = f"The cluster {one.cluster} has been silent for {quiet}: nobody there starts a worker anew."
            if one.cluster.name in gone:
                workers = f", and so {'is its worker' if own == 1 else f'are its {own} workers'}" if own else ""
                text = f"Host {one.cluster.host} has been silent for {quiet}{workers}."
            yield bad(text, address(base, host=one.cluster.host))
        silent = [row for row in silent if row.worker.cluster not in gone]
        for row in silent[:NAMED]:
            quiet = span((self.now - row.worker.last_beat_at).total_seconds())
            held = f", with {count(row.worker.running, 'execution')}" if row.worker.running else ""
            yield bad(f"Worker {row.worker} has been silent for {quiet}{held}.", f"{base}?which=silent")
        if len(silent) > NAMED:
            yield bad(f"{len(silent) - NAMED} more workers are silent.", f"{base}?which=silent")

    def _missing(self) -> Iterator[Said]:
        for one in self.clusters:
            missing = one.cluster.processes - one.alive
            if missing > 0 and not one.silent:
                are = "is" if missing == 1 else "are"
                text = f"{missing} of {count(one.cluster.processes, 'process', 'processes')} {are} missing on host "
                link = address(reverse("admin:queueing_worker_changelist"), host=one.cluster.host)
                yield warning(f"{text}{one.cluster.host}.", link)

    def _lost(self) -> Iterator[Said]:
        ended = f"{reverse('admin:queueing_worker_changelist')}?which=ended"
        if died := self.attempts_lost.get(AttemptEnd.WORKER_DIED, 0):
            text = f"{count(died, 'attempt')} ended with a worker that died, in the last hour."
            yield note(text, ended)
        if expired := self.attempts_lost.get(AttemptEnd.LEASE_EXPIRED, 0):
            yield note(f"{count(expired, 'lease')} ran out in the last hour.", ended)
        draining = sum(row.look[2] == "Draining" for row in self.live)
        if draining and draining < len(self.at_work):
            text = f"{draining} of {count(len(self.at_work), 'worker')} {'drains' if draining == 1 else 'drain'}."
            yield note(text, f"{reverse('admin:queueing_worker_changelist')}?which=draining")
        for one in self.clusters:
            if one.cluster.draining:
                link = address(reverse("admin:queueing_worker_changelist"), host=one.cluster.host)
                yield note(f"Host {one.cluster.host} is drained: what starts there drains as well.", link)
        versions = Counter(row.worker.version for row in self.live)
        if len(versions) > 1:
            yield note(f"Workers run {len(versions)} versions: {_listed(versions)}.")

    def _unwell(self) -> Iterator[Said]:
        link = f"{reverse('admin:queueing_worker_changelist')}?which=unwell"
        unwell = [row for row in self.live if row.look[2] == "Unwell"]
        for row in unwell[:NAMED]:
            wrong = " ".join(measure.title for measure in row.measures if not measure.good)
            yield warning(f"Worker {row.worker}: {wrong}", link)
        if len(unwell) > NAMED:
            yield warning(f"{len(unwell) - NAMED} more workers are unwell.", link)

    def _all_well(self) -> Said:
        hosts = len({row.worker.host for row in self.at_work})
        seconds = self.figures["waiting_seconds"]
        waits = f"the oldest waits for {span(seconds)}" if seconds else "nothing waits"
        return well(f"All is well: {count(len(self.at_work), 'worker')} on {count(hosts, 'host')}, {waits}.")


def _wait(number: int) -> str:
    return count(number, "execution waits", "executions wait") if number else "nothing waits"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({number})" for name, number in counts.most_common())


def _serves(worker: Worker, name: str, region: str) -> bool:
    """As queue_serves of the database; not asked there, to need no statement for each line."""
    return bool({name, "*"} & set(worker.pools)) and (not region or bool({region, "*"} & set(worker.regions)))


def _points(values: list[int]) -> str:
    most = max(*values, 1)
    step = 300 / max(1, len(values) - 1)
    return " ".join(f"{number * step:.1f},{46 - 42 * value / most:.1f}" for number, value in enumerate(values))
