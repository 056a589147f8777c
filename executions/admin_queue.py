"""The Queue page: what waits and why, what runs and where. The order is the one in which entries are claimed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.db import connection
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from executions.models import Execution
from executions.pages.durations import between, span
from executions.waiting import sentences
from queueing import control
from queueing.admin.live import LivePage, address
from queueing.admin.words import Said, warning
from queueing.models import EntryState, QueueControl, QueueEntry, Worker
from safety.admin_access import user_of
from safety.models import DEFAULT_TENANT, Tenant, User

PAGE = 50
COUNTED = 10_000  # entries of one kind are counted up to this
MOST_AHEAD = 5_000  # of those that are before an entry in its line, so many are counted

LINES = "SELECT pool, region, tenant_id, waiting FROM queue_lines(%s)"
LEASED_BY_TENANT = "SELECT tenant_id, count(*) FROM queueing_queueentry WHERE state = 'leased' GROUP BY tenant_id"
COUNT = """
SELECT count(*) FROM (
    SELECT FROM queueing_queueentry WHERE state = %(state)s AND tenant_id = %(tenant)s LIMIT %(most)s) counted
"""

# Each reads its index in the order of that index, and stops after a page. Ready ones come line by line (entry_line),
# the others by the time since which they could start (entry_waiting). There, rows of the same time are told apart by
# how many of them have been shown: to sort them by number could mean to sort a queue that was filled at one moment.
READY = """
SELECT q.place, q.execution_id FROM unnest(%(pools)s::text[], %(regions)s::text[]) AS line(pool, region)
 CROSS JOIN LATERAL (
    SELECT e.place, e.execution_id FROM queueing_queueentry e
     WHERE e.state = 'ready' AND e.losses = 0 AND e.pool = line.pool AND e.region = line.region
       AND e.tenant_id = %(tenant)s AND (e.place, e.execution_id) > (%(at)s, %(number)s) {only}
     ORDER BY e.place, e.execution_id LIMIT %(limit)s
 ) q ORDER BY q.place, q.execution_id LIMIT %(limit)s
"""
APART = """
SELECT place, execution_id FROM queueing_queueentry
 WHERE state = 'ready' AND losses > 0 AND tenant_id = %(tenant)s AND (place, execution_id) > (%(at)s, %(number)s)
   {labels} ORDER BY place, execution_id LIMIT %(limit)s
"""
WAITING = """
SELECT available_at, execution_id FROM queueing_queueentry
 WHERE state = '{state}' AND tenant_id = %(tenant)s AND available_at >= %(at)s {labels} {only}
 ORDER BY available_at OFFSET %(number)s LIMIT %(limit)s
"""
LEASED = """
SELECT leased_at, execution_id FROM queueing_queueentry
 WHERE state = 'leased' AND tenant_id = %(tenant)s AND (leased_at, execution_id) > (%(at)s, %(number)s)
   {labels} {only} ORDER BY leased_at, execution_id LIMIT %(limit)s
"""
MINUTE = "AND available_at < statement_timestamp() - interval '1 minute'"

# name -> (statement, whether rows of one time are told apart by their count)
SOURCES: dict[str, tuple[str, bool]] = {
    "apart": (APART, False),
    "ready": (READY.replace("{only}", ""), False),
    "blocked": (WAITING.replace("{state}", "blocked").replace("{only}", ""), True),
    "delayed": (WAITING.replace("{state}", "delayed").replace("{only}", ""), True),
    "long_ready": (READY.replace("{only}", MINUTE), False),
    "long_blocked": (WAITING.replace("{state}", "blocked").replace("{only}", MINUTE), True),
    "running": (LEASED.replace("{only}", ""), False),
    "again": (LEASED.replace("{only}", "AND attempt > 1"), False),
    "last": (LEASED.replace("{only}", "AND attempts_left <= 0"), False),
    "expired": (LEASED.replace("{only}", "AND lease_expires_at < statement_timestamp()"), False),
    "cancel": (LEASED.replace("{only}", "AND (cancel_reason IS NOT NULL OR revoked_at IS NOT NULL)"), False),
}

# question -> (status, icon, words, sources in the order in which they are shown)
QUESTIONS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "waiting": ("queued", "clock", "Waits", ("apart", "ready", "blocked", "delayed")),
    "worker": ("queued", "server", "Waits for a worker", ("ready",)),
    "machine": ("pending_approval", "lock", "Waits for a machine", ("blocked",)),
    "time": ("pending", "hourglass", "Waits for its time", ("delayed",)),
    "apart": ("needs_attention", "alert", "To be run apart", ("apart",)),
    "long": ("needs_attention", "clock", "Waits for more than a minute", ("long_ready", "long_blocked")),
    "running": ("running", "play", "Runs now", ("running",)),
    "again": ("cancelling", "retry", "Runs, not for the first time", ("again",)),
    "last": ("partial", "half", "Runs its last attempt", ("last",)),
    "expired": ("failed", "hourglass", "Lease ran out", ("expired",)),
    "cancel": ("cancelling", "stop", "Asked to stop", ("cancel",)),
}
LOOKS = {
    EntryState.READY: ("queued", "clock", "Ready"),
    EntryState.DELAYED: ("pending", "hourglass", "Delayed"),
    EntryState.BLOCKED: ("pending_approval", "lock", "Blocked"),
    EntryState.LEASED: ("running", "play", "Running"),
}
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
CURSOR = re.compile(r"(\w+)~([0-9T:.+-]{10,40})~(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Row:
    """An entry with its execution's title, the reason why it does not run, or where it runs."""

    entry: QueueEntry
    title: str
    position: str
    reason: SafeString
    look: tuple[str, str, str]
    worker: Worker | None


@dataclass(frozen=True, slots=True)
class Share:
    """What a tenant has of the queue: entries that run and that wait for a worker (counted up to a limit)."""

    tenant: str
    running: int
    percent: int
    ready: int


@dataclass
class Queue:
    """All of the page, for one user. Everything is read when it is asked for, once."""

    user: User
    question: str = "waiting"
    pool: str = ""
    region: str = ""
    worker: int | None = None
    number: int | None = None
    after: str = ""
    installation: bool = False
    labels: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.labels = {
            name: value for name, value in (("pool", self.pool), ("region", self.region)) if value
        }  # an empty region is no question: there is no link to "those that any region may run"

    @cached_property
    def all_lines(self) -> list[tuple[str, str, int, int]]:
        """(pool, region, tenant, entries that wait for a worker)."""
        with connection.cursor() as cursor:
            cursor.execute(LINES, [COUNTED])
            return list(cursor.fetchall())

    @cached_property
    def lines(self) -> list[tuple[str, str]]:
        return [
            (pool, region) for pool, region, tenant, _ in self.all_lines
            if tenant == self.user.tenant_id and self.pool in ("", pool) and self.region in ("", region)
        ]  # fmt: skip

    @cached_property
    def leased_by_tenant(self) -> dict[int, int]:
        with connection.cursor() as cursor:
            cursor.execute(LEASED_BY_TENANT)
            return dict(cursor.fetchall())

    def _count(self, state: EntryState) -> int:
        with connection.cursor() as cursor:
            cursor.execute(COUNT, {"state": state.value, "tenant": self.user.tenant_id, "most": COUNTED + 1})
            (found,) = cursor.fetchone() or (0,)
        return int(found)

    @cached_property
    def chips(self) -> list[tuple[str, str, str, str | None, str, bool]]:
        """(status, icon, words, number, link, chosen) of each question."""
        own = self.user.tenant_id
        ready = sum(waiting for _, _, tenant, waiting in self.all_lines if tenant == own)
        blocked, delayed = self._count(EntryState.BLOCKED), self._count(EntryState.DELAYED)
        apart = QueueEntry.objects.filter(state=EntryState.READY, losses__gt=0, tenant_id=own).count()
        counts = {
            "waiting": ready + blocked + delayed + apart, "worker": ready, "machine": blocked, "time": delayed,
            "apart": apart, "running": self.leased_by_tenant.get(own, 0),
        }  # fmt: skip
        # What is a part of nothing is nothing; otherwise it is not worth its counting.
        if not counts["running"]:
            counts |= dict.fromkeys(("again", "last", "expired", "cancel"), 0)
        if not ready + blocked:
            counts["long"] = 0
        base = reverse("admin:queueing_queueentry_changelist")
        return [
            (
                status, icon, words, _number(counts[name]) if name in counts else None,
                address(base, question=name, pool=self.pool, region=self.region), name == self.question,
            )
            for name, (status, icon, words, _) in QUESTIONS.items()
        ]  # fmt: skip

    @cached_property
    def sentences(self) -> list[Said]:
        """What stands still as a whole. The lines of all tenants are for those who run the installation."""
        held = QueueControl.objects.get()
        if held.draining:
            by = f" by {held.changed_by}" if held.changed_by else ""
            why = f": {held.reason.rstrip('.')}" if held.reason else ""
            return [warning(f"The queue is drained{by}{why}. Nothing starts until an operator resumes it.")]
        return [warning(text) for text in control.line_sentences(control.lines())] if self.installation else []

    @cached_property
    def shares(self) -> list[Share]:
        """Of one's own tenant; of all, for those who run the installation. Those that run most come first."""
        ready: dict[int, int] = {}
        for _, _, tenant, waiting in self.all_lines:
            ready[tenant] = ready.get(tenant, 0) + waiting
        running = self.leased_by_tenant
        shown = {self.user.tenant_id, *((ready.keys() | running.keys()) if self.installation else ())}
        names = dict(Tenant.objects.filter(pk__in=shown).values_list("pk", "name"))
        total = sum(running.values())
        rows = [
            Share(
                names.get(pk, f"tenant {pk}"), running.get(pk, 0),
                round(100 * running.get(pk, 0) / total) if total else 0, ready.get(pk, 0),
            )
            for pk in shown
        ]  # fmt: skip
        return sorted(rows, key=lambda row: (-row.running, -row.ready, row.tenant))[:PAGE]

    @cached_property
    def _found(self) -> tuple[list[int], str]:
        """The numbers of a page, and the cursor of the next one; empty: there is none."""
        if self.number is not None:
            return [self.number], ""
        names = QUESTIONS[self.question][3]
        match = CURSOR.fullmatch(self.after)
        name, at, seen = match.groups() if match else (names[0], "", "0")
        try:
            since = datetime.fromisoformat(at) if at else BEGINNING
        except ValueError:
            since, seen = BEGINNING, "0"
        start = names.index(name) if name in names else 0
        found: list[tuple[str, datetime, int]] = []
        skipped = int(seen)
        for number, source in enumerate(names[start:]):
            first = number == 0
            rows = self._read(source, since if first else BEGINNING, skipped if first else 0, PAGE + 1 - len(found))
            found += [(source, at_time, pk) for at_time, pk in rows]
            if len(found) > PAGE:
                break
        page = found[:PAGE]
        return [pk for _, _, pk in page], (self._cursor(page, since, skipped) if len(found) > PAGE else "")

    def _read(self, source: str, at: datetime, number: int, limit: int) -> list[tuple[datetime, int]]:
        statement, _ = SOURCES[source]
        narrower = "".join(f" AND {name} = %({name})s" for name in self.labels)
        if self.worker is not None:
            narrower += " AND worker_id = %(worker)s"
        pools, regions = [line[0] for line in self.lines], [line[1] for line in self.lines]
        with connection.cursor() as cursor:
            cursor.execute(
                statement.replace("{labels}", narrower),
                {
                    "tenant": self.user.tenant_id, "at": at, "number": number, "limit": limit, "pools": pools,
                    "regions": regions, "worker": self.worker, **self.labels,
                },
            )  # fmt: skip
            return list(cursor.fetchall())

    @staticmethod
    def _cursor(page: list[tuple[str, datetime, int]], since: datetime, skipped: int) -> str:
        source, at, pk = page[-1]
        if not SOURCES[source][1]:
            return f"{source}~{at.isoformat()}~{pk}"
        same = sum(name == source and when == at for name, when, _ in page)
        return f"{source}~{at.isoformat()}~{same + (skipped if at == since else 0)}"

    @cached_property
    def next_link(self) -> str:
        after = self._found[1]
        base = reverse("admin:queueing_queueentry_changelist")
        asked = {"question": self.question, "pool": self.pool, "region": self.region, "worker": self.worker}
        return address(base, **asked, after=after) if after else ""

    @cached_property
    def rows(self) -> list[Row]:
        """The entries of the page in its order, each with its reason. At most ten statements, however many they are."""
        ids, _ = self._found
        own = QueueEntry.objects.filter(pk__in=ids, tenant_id=self.user.tenant_id).annotate(now=Now())
        entries = {row.pk: row for row in own}
        shown = [entries[pk] for pk in ids if pk in entries]
        waiting = [entry for entry in shown if entry.state != EntryState.LEASED]
        reasons = control.waiting_of_all(waiting, most=MOST_AHEAD)
        said = dict(zip(reasons, sentences(list(reasons.values())), strict=True))
        titles = dict(Execution.objects.filter(pk__in=entries).values_list("pk", "title"))
        workers = Worker.objects.in_bulk({entry.worker_id for entry in shown if entry.worker_id})
        return [
            Row(
                entry,
                title=titles.get(entry.pk, ""),
                position=_position(reasons.get(entry.pk)),
                reason=_linked(said[entry.pk], reasons[entry.pk].other) if entry.pk in said else _lease(entry),
                look=_look(entry),
                worker=workers.get(entry.worker_id or 0),
            )
            for entry in shown
        ]

    @property
    def shows_workers(self) -> bool:
        return any(row.worker for row in self.rows)

    @property
    def narrowed(self) -> list[str]:
        """By what the list was narrowed down, in words."""
        said = [f"{name} {value}" for name, value in self.labels.items()]
        said += [f"worker {self.worker}"] if self.worker is not None else []
        return said + ([f"execution #{self.number}"] if self.number is not None else [])


def _number(found: int) -> str:
    return f"{COUNTED:,} or more" if found >= COUNTED else f"{found:,}"


def _position(waiting: control.Waiting | None) -> str:
    if waiting is None or waiting.position is None:
        return "–"
    return f"> {waiting.position - 1:,}" if waiting.beyond else f"{waiting.position:,}"


def _look(entry: QueueEntry) -> tuple[str, str, str]:
    if entry.revoked_at is not None:
        return "cancelling", "stop", "Lease taken back"
    if entry.cancel_reason is not None:
        return "cancelling", "stop", "Asked to stop"
    if entry.state == EntryState.READY and entry.losses:
        return "needs_attention", "alert", "To be run apart"
    return LOOKS[EntryState(entry.state)]


def _linked(text: str, other: int | None) -> SafeString:
    """The sentence, in which the execution that is in the way is a link."""
    safe = escape(text)
    if other is None:
        return safe
    link = format_html('<a href="{}">#{}</a>', reverse("executions:detail", args=[other]), other)
    return mark_safe(safe.replace(f"#{other}", link, 1))  # both are escaped


def _lease(entry: Any) -> SafeString:
    """How long a leased entry has been running and its lease goes on, by the database's clock (`now`)."""
    left = (entry.lease_expires_at - entry.now).total_seconds()
    lease = f"its lease ends in {span(left)}" if left > 0 else f"its lease ran out {span(-left)} ago"
    text = f"Runs for {span(between(entry.leased_at, entry.now))}; {lease}."
    asked = f" Asked to stop: {entry.cancel_reason}" if entry.cancel_reason else ""
    return escape(text + asked)


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


@admin.register(QueueEntry)
class QueueEntryAdmin(LivePage):
    """Executions that wait for a worker, or are held by one."""

    page_title = "Queue"
    page_template = "admin/queueing/queue.html"
    parts = {"top": "admin/queueing/_queue_top.html", "entries": "admin/queueing/_queue_entries.html"}

    def page_context(self, request: HttpRequest) -> dict[str, Any]:
        asked: Callable[[str], str] = lambda name: request.GET.get(name, "").replace("\0", "").strip()  # noqa: E731
        user = user_of(request)
        worker = _whole(asked("worker"))
        question = asked("question") or ("running" if worker is not None else "waiting")
        words = asked("q").removeprefix("#")
        queue = Queue(
            user,
            question=question if question in QUESTIONS else "waiting",
            pool=asked("pool"), region=asked("region"), worker=worker,
            number=_whole(words) if words else None, after=asked("after"),
            installation=user.tenant.name == DEFAULT_TENANT,
        )  # fmt: skip
        return {"queue": queue, "words": words, "no_number": bool(words) and queue.number is None}
