"""Drain and resume, of all or of one pool; the queue's figures; and the answer to "why is it waiting?"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from opsconductor.prepared import prepared_cursor
from queueing.labels import DEFAULT_POOL, RULE, is_label
from queueing.models import EntryState, LockState, Pool, QueueControl, QueueEntry, Worker, WorkerState
from queueing.pool import PoolRefused
from safety import audit


class _Labels(TypedDict):
    pool: str
    region: str


class QueueFigures(TypedDict):
    """`waiting_seconds`: how long the entry that could start now and has waited longest is waiting; 0 for none."""

    depth: int
    waiting_seconds: float
    by_state: dict[str, int]
    workers: int
    draining: bool


def is_draining() -> bool:
    """Whether nothing new is taken in. Asked at every submit, so it is plain SQL."""
    with prepared_cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM queueing_queuecontrol WHERE draining)")
        row = cursor.fetchone()
    return bool(row and row[0])


def drain(*, by: str, reason: str = "") -> bool:
    """Take in nothing new and hand out nothing more; what runs goes on. Return whether that is a change."""
    return _set(draining=True, by=by, reason=reason)


def resume(*, by: str, reason: str = "") -> bool:
    """Open the queue again. Return whether that is a change."""
    return _set(draining=False, by=by, reason=reason)


def _set(*, draining: bool, by: str, reason: str) -> bool:
    with transaction.atomic(), connection.cursor() as cursor:
        changed = QueueControl.objects.filter(draining=not draining).update(
            draining=draining, changed_at=Now(), changed_by=by, reason=reason
        )
        cursor.execute("SELECT pg_notify('opsconductor_queue', ''), pg_notify('opsconductor_control', '')")
        if changed:
            audit.record("queue.drain" if draining else "queue.resume", actor=by, reason=reason)
    return changed == 1


# Up to so many entries of a state are counted one by one; beyond, what the planner expects is near enough.
COUNTED_EXACTLY = 20_000

# A state at a time, each by the index of what waits or of what is leased.
FIGURE = """
(SELECT '{state}', (SELECT count(*) FROM (
            SELECT FROM queueing_queueentry WHERE state = '{state}' LIMIT %(most)s + 1) counted), {seconds})
"""
OLDEST = """
(SELECT extract(epoch FROM statement_timestamp() - available_at) FROM queueing_queueentry
  WHERE state = '{state}' ORDER BY available_at LIMIT 1)
"""
FIGURES = " UNION ALL ".join(
    FIGURE.format(state=state, seconds=OLDEST.format(state=state) if state in ("ready", "blocked") else "NULL")
    for state in EntryState.values
)
ABOUT = "EXPLAIN (FORMAT JSON) SELECT FROM queueing_queueentry WHERE state = %s"


def queue_figures() -> QueueFigures:
    """Return depth (everything not yet leased), the longest wait, entries by state, live workers.

    Of more than COUNTED_EXACTLY entries in a state the number is about right, so that looking at a queue of a million
    costs no more than at one of a thousand.
    """
    with connection.cursor() as cursor:
        cursor.execute(FIGURES, {"most": COUNTED_EXACTLY})
        rows = cursor.fetchall()
        by_state = {state: count for state, count, _ in rows}
        for state in [state for state, count in by_state.items() if count > COUNTED_EXACTLY]:
            cursor.execute(ABOUT, [state])
            ((plan,),) = cursor.fetchall()
            by_state[state] = max(by_state[state], plan[0]["Plan"]["Plan Rows"])
    return {
        "depth": sum(count for state, count in by_state.items() if state != "leased"),
        "waiting_seconds": max(0.0, *(float(seconds or 0) for _, _, seconds in rows)),
        "by_state": {state: count for state, count in by_state.items() if count},
        "workers": live_workers(),
        "draining": is_draining(),
    }


def live_workers() -> int:
    """Return how many workers have beaten within the last lease."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM queueing_worker WHERE stopped_at IS NULL"
            " AND last_beat_at > statement_timestamp() - %s::interval",
            [str(settings.LEASE)],
        )
        row = cursor.fetchone()
    return row[0] if row else 0


def pause_pool(name: str, *, by: str, reason: str = "") -> bool:
    """Hand out nothing of one pool; what runs goes on, and it takes in more. Return whether that is a change.

    Raises PoolRefused: bad_pool, for a name that no pool can have.
    """
    if not is_label(name):
        raise PoolRefused("bad_pool", f"{name[:80]!r} is not the name of a pool.", f"Name one: {RULE}.")
    return _set_paused(name, paused=True, by=by, reason=reason)


def resume_pool(name: str, *, by: str, reason: str = "") -> bool:
    """Hand out what waits in a pool again. Return whether that is a change."""
    return _set_paused(name, paused=False, by=by, reason=reason)


def _set_paused(name: str, *, paused: bool, by: str, reason: str) -> bool:
    with transaction.atomic(), connection.cursor() as cursor:
        # One statement: of two who pause at once, one changes something. To resume what was never paused leaves no row.
        cursor.execute(
            "INSERT INTO queueing_pool AS p (name, paused, changed_by, reason) SELECT %(name)s, %(paused)s, %(by)s,"
            " %(reason)s WHERE %(paused)s OR EXISTS (SELECT FROM queueing_pool WHERE name = %(name)s)"
            " ON CONFLICT (name) DO UPDATE SET paused = %(paused)s, changed_at = statement_timestamp(),"
            " changed_by = %(by)s, reason = %(reason)s WHERE p.paused <> %(paused)s",
            {"name": name, "paused": paused, "by": by, "reason": reason},
        )
        changed: bool = cursor.rowcount == 1
        cursor.execute("SELECT pg_notify('opsconductor_queue', '')")
        if changed:
            action = "queue.pause" if paused else "queue.unpause"
            audit.record(action, actor=by, object_type="pool", object_id=name, object_name=name, reason=reason)
    return changed


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool as operators see it. known: a worker names it, or something of it is in the queue."""

    name: str
    paused: bool
    changed_by: str
    reason: str
    running: int
    known: bool


def pool_state(name: str) -> PoolState:
    """Return what is known of a pool; one that nobody has ever named is open and not known."""
    row = Pool.objects.filter(name=name).first()
    running = QueueEntry.objects.filter(state=EntryState.LEASED, pool=name).count()
    known = (
        running > 0
        or name == DEFAULT_POOL
        or Worker.objects.filter(stopped_at=None, pools__contains=[name]).exists()
        or any(line.pool == name for line in lines())
    )
    return PoolState(
        name,
        paused=row is not None and row.paused,
        changed_by=row.changed_by if row else "",
        reason=row.reason if row else "",
        running=running,
        known=known,
    )


@dataclass(frozen=True, slots=True)
class Line:
    """What waits for workers with one pair of labels.

    waiting  entries, counted up to COUNTED_EXACTLY; seconds: how long the oldest of them waits
    served   whether a live worker that is not draining serves them; paused: whether the pool is paused
    """

    pool: str
    region: str
    waiting: int
    seconds: float
    served: bool
    paused: bool


LINES = """
SELECT l.pool, l.region, sum(l.waiting)::bigint, extract(epoch FROM statement_timestamp() - min(l.since))::float8,
       EXISTS (SELECT FROM queueing_worker w WHERE w.stopped_at IS NULL AND w.state = 'active' AND NOT w.draining
                  AND w.last_beat_at > statement_timestamp() - %(lease)s::interval
                  AND queue_serves(w.pools, w.regions, l.pool, l.region)),
       EXISTS (SELECT FROM queueing_pool p WHERE p.name = l.pool AND p.paused)
  FROM queue_lines(%(most)s) l GROUP BY l.pool, l.region ORDER BY l.pool, l.region
"""


def lines() -> list[Line]:
    """Return what waits, by pool and region, of all tenants."""
    with connection.cursor() as cursor:
        cursor.execute(LINES, {"lease": str(settings.LEASE), "most": COUNTED_EXACTLY})
        return [Line(*row) for row in cursor.fetchall()]


def line_sentences(waiting: Iterable[Line], draining: str | None = None) -> list[str]:
    """Return a sentence for each line that stands still, and why; `draining`: who drained the queue, if it is."""
    said = []
    for line in waiting:
        wait = f"{line.waiting} {'execution waits' if line.waiting == 1 else 'executions wait'}"
        if draining is not None:
            said.append(f"The queue is draining{f' ({draining})' if draining else ''}: {wait} in {_named(line)}.")
        elif line.paused:
            said.append(f"The pool {line.pool} is paused: {wait}{f' for {_named(line)}' if line.region else ''}.")
        elif not line.served:
            said.append(f"No worker serves {_named(line)}: {wait}.")
    return said


def _named(line: Line) -> str:
    if line.region:
        return f"region {line.region}" if line.pool == DEFAULT_POOL else f"pool {line.pool} in region {line.region}"
    return f"pool {line.pool}"


# Of each execution the one in the way: who holds the lock of an asset that it wants, or else who stands first in
# its line; and its position there.
IN_THE_WAY = """
SELECT way.execution_id, way.asset_id, way.other_id, way.other_state, way.seconds,
       (SELECT count(*) FROM (SELECT FROM queueing_assetlock line
         WHERE line.asset_id = way.asset_id AND line.state = 'queued'
           AND (line.place, line.execution_id) < (way.place, way.execution_id) LIMIT %(most)s) ahead)
  FROM (
    SELECT DISTINCT ON (mine.execution_id) mine.execution_id, mine.asset_id, mine.place,
           other.execution_id AS other_id, other.state AS other_state,
           coalesce(extract(epoch FROM statement_timestamp() - other.held_at), 0)::float8 AS seconds
      FROM queueing_assetlock mine
      JOIN LATERAL (
          (SELECT h.execution_id, h.state, h.held_at FROM queueing_assetlock h
            WHERE h.asset_id = mine.asset_id AND h.state = 'held' AND (h.exclusive OR mine.exclusive)
            ORDER BY h.held_at LIMIT 1)
           UNION ALL
          (SELECT q.execution_id, q.state, NULL FROM queueing_assetlock q
            WHERE q.asset_id = mine.asset_id AND q.state = 'queued' AND (q.exclusive OR mine.exclusive)
              AND (q.place, q.execution_id) < (mine.place, mine.execution_id)
            ORDER BY q.place, q.execution_id LIMIT 1)
          LIMIT 1
      ) other ON true
     WHERE mine.execution_id = ANY (%(ids)s) AND mine.state = 'queued'
     ORDER BY mine.execution_id, other.state, other.held_at
  ) way
"""

AHEAD = """
SELECT mine.execution_id, (SELECT count(*) FROM (SELECT FROM queueing_queueentry q
         WHERE q.state = 'ready' AND q.losses = 0 AND q.pool = mine.pool AND q.region = mine.region
           AND q.tenant_id = mine.tenant_id AND (q.place, q.execution_id) < (mine.place, mine.execution_id)
         LIMIT %(most)s) ahead)
  FROM queueing_queueentry mine WHERE mine.execution_id = ANY (%(ids)s)
"""

SERVED = """
SELECT label.pool, label.region FROM unnest(%(pools)s::text[], %(regions)s::text[]) AS label(pool, region)
 WHERE EXISTS (SELECT FROM queueing_worker w WHERE w.stopped_at IS NULL AND w.state = 'active' AND NOT w.draining
                  AND w.last_beat_at > statement_timestamp() - %(lease)s::interval
                  AND queue_serves(w.pools, w.regions, label.pool, label.region))
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why an execution waits in the queue.

    kind      not_before, backoff, draining, paused (its pool), lock (somebody holds it), line (somebody is before it at
              an asset), no_worker, not_served (workers, but none for its labels), apart (a worker died of it: it waits
              to be run apart), or worker (all that serve it are busy)
    asset_id  whose lock or line; other: the execution that is in the way, which holds the lock for `seconds`
    position  place in line, from 1: at the asset, or among those that wait for the same workers
    beyond    the line is longer than was counted: the position is further back than that
    until     when its time comes, for not_before and backoff
    by        who drained or paused, and why
    """

    kind: str
    asset_id: int | None = None
    other: int | None = None
    seconds: float = 0.0
    position: int | None = None
    until: datetime | None = None
    pool: str = DEFAULT_POOL
    region: str = ""
    by: str = ""
    beyond: bool = False


def waiting(execution_id: int) -> Waiting | None:
    """Return why an execution that is in the queue does not run yet; None when it is not waiting in the queue."""
    entry = QueueEntry.objects.filter(pk=execution_id).exclude(state=EntryState.LEASED).first()
    return None if entry is None else waiting_of(entry)


def waiting_of(entry: QueueEntry) -> Waiting:
    """Return why a queue entry that is not leased waits."""
    return waiting_of_all([entry])[entry.pk]


def waiting_of_all(entries: Iterable[QueueEntry], most: int = COUNTED_EXACTLY) -> dict[int, Waiting]:
    """Return why each of these entries, none of them leased, waits; at most six statements, however many they are.

    most: of those that are before one of them, so many are counted.
    """
    reasons: dict[int, Waiting] = {}
    left: dict[int, QueueEntry] = {}
    for entry in entries:
        if entry.state == EntryState.DELAYED:
            reasons[entry.pk] = Waiting("backoff" if entry.attempt else "not_before", until=entry.available_at)
        else:
            left[entry.pk] = entry
    if not left:
        return reasons
    control = QueueControl.objects.filter(draining=True).first()
    if control is not None:
        by = _said(control.changed_by, control.reason)
        return reasons | {pk: Waiting("draining", by=by) for pk in left}
    pools = {entry.pool for entry in left.values()}
    paused = {row.name: row for row in Pool.objects.filter(name__in=pools, paused=True)}
    for pk, entry in list(left.items()):
        if entry.pool in paused:
            row = paused[entry.pool]
            reasons[pk] = Waiting("paused", by=_said(row.changed_by, row.reason), **_labels(entry))
            del left[pk]
    if left:
        _for_locks_or_workers(left, reasons, most)
    return reasons


def _for_locks_or_workers(left: dict[int, QueueEntry], reasons: dict[int, Waiting], most: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(IN_THE_WAY, {"ids": list(left), "most": most})
        for pk, asset, other, state, seconds, ahead in cursor.fetchall():
            reasons[pk] = Waiting(
                "lock" if state == LockState.HELD else "line", asset_id=asset, other=other, seconds=seconds,
                position=ahead + 1, beyond=ahead >= most, **_labels(left.pop(pk)),
            )  # fmt: skip
        if not left:
            return
        labels = sorted({(entry.pool, entry.region) for entry in left.values()})
        pools, regions = map(list, zip(*labels, strict=True))
        cursor.execute(SERVED, {"pools": pools, "regions": regions, "lease": str(settings.LEASE)})
        served = set(cursor.fetchall())
        any_worker = len(served) == len(labels) or live_workers() > 0
        for pk, entry in list(left.items()):
            if (entry.pool, entry.region) not in served:
                reasons[pk] = Waiting("not_served" if any_worker else "no_worker", **_labels(left.pop(pk)))
            elif entry.losses:
                reasons[pk] = Waiting("apart", **_labels(left.pop(pk)))
        cursor.execute(AHEAD, {"ids": list(left), "most": most})
        for pk, ahead in cursor.fetchall():
            reasons[pk] = Waiting("worker", position=ahead + 1, beyond=ahead >= most, **_labels(left.pop(pk)))
        # What has been taken out of the queue meanwhile was about to be served.
        reasons.update({pk: Waiting("worker", **_labels(entry)) for pk, entry in left.items()})


def _labels(entry: QueueEntry) -> _Labels:
    return {"pool": entry.pool, "region": entry.region}


def _said(by: str, reason: str) -> str:
    return f"{by}: {reason}" if by and reason else by or reason


def workers() -> list[Worker]:
    """Return the workers that have not ended, silent ones included, newest first."""
    return list(Worker.objects.filter(stopped_at__isnull=True).exclude(state=WorkerState.STOPPED).order_by("-pk"))
