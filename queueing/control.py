"""Drain and resume, of all or of one pool; the queue's figures; and the answer to "why is it waiting?"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from queueing.models import DEFAULT_POOL, EntryState, LockState, Pool, QueueControl, QueueEntry, Worker, WorkerState


class QueueFigures(TypedDict):
    """`waiting_seconds`: how long the entry that could start now and has waited longest is waiting; 0 for none."""

    depth: int
    waiting_seconds: float
    by_state: dict[str, int]
    workers: int
    draining: bool


def is_draining() -> bool:
    """Whether nothing new is taken in. Asked at every submit, so it is plain SQL."""
    with connection.cursor() as cursor:
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
    return changed == 1


# Up to so many entries of a state are counted one by one; beyond, what is known of the index is near enough.
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
ABOUT_READY = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'entry_line'::regclass"


def queue_figures() -> QueueFigures:
    """Return depth (everything not yet leased), the longest wait, entries by state, live workers.

    Of more than COUNTED_EXACTLY entries in a state the number is about right, so that looking at a queue of a million
    costs no more than at one of a thousand.
    """
    with connection.cursor() as cursor:
        cursor.execute(FIGURES, {"most": COUNTED_EXACTLY})
        rows = cursor.fetchall()
        by_state = {state: count for state, count, _ in rows}
        if by_state["ready"] > COUNTED_EXACTLY:
            cursor.execute(ABOUT_READY)
            (about,) = cursor.fetchone() or (0,)
            by_state["ready"] = max(by_state["ready"], about)
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
    """Hand out nothing of one pool; what runs goes on, and it takes in more. Return whether that is a change."""
    return _set_paused(name, paused=True, by=by, reason=reason)


def resume_pool(name: str, *, by: str, reason: str = "") -> bool:
    """Hand out what waits in a pool again. Return whether that is a change."""
    return _set_paused(name, paused=False, by=by, reason=reason)


def _set_paused(name: str, *, paused: bool, by: str, reason: str) -> bool:
    with transaction.atomic(), connection.cursor() as cursor:
        # One statement: of two who pause at once, one changes something.
        cursor.execute(
            "INSERT INTO queueing_pool AS p (name, paused, changed_by, reason) VALUES (%(name)s, %(paused)s, %(by)s,"
            " %(reason)s) ON CONFLICT (name) DO UPDATE SET paused = %(paused)s, changed_at = statement_timestamp(),"
            " changed_by = %(by)s, reason = %(reason)s WHERE p.paused <> %(paused)s",
            {"name": name, "paused": paused, "by": by, "reason": reason},
        )
        changed = cursor.rowcount == 1
        cursor.execute("SELECT pg_notify('opsconductor_queue', '')")
    return changed and (paused or Pool.objects.filter(pk=name).exists())


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


# The one that is in the way: who holds the lock of an asset that this one wants, or else who stands first in its line.
IN_THE_WAY = """
SELECT mine.asset_id, other.execution_id, other.state,
       coalesce(extract(epoch FROM statement_timestamp() - other.held_at), 0)::float8,
       (SELECT count(*) FROM (SELECT FROM queueing_assetlock line
         WHERE line.asset_id = mine.asset_id AND line.state = 'queued'
           AND (line.place, line.execution_id) < (mine.place, mine.execution_id) LIMIT %(most)s) ahead) + 1
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
 WHERE mine.execution_id = %(id)s AND mine.state = 'queued'
 ORDER BY other.state, other.held_at LIMIT 1
"""

AHEAD = """
SELECT count(*) FROM (SELECT FROM queueing_queueentry q
 WHERE q.state = 'ready' AND q.losses = 0 AND q.pool = %(pool)s AND q.region = %(region)s AND q.tenant_id = %(tenant)s
   AND (q.place, q.execution_id) < (%(place)s, %(id)s) LIMIT %(most)s) ahead
"""

SERVED = """
SELECT EXISTS (SELECT FROM queueing_worker w WHERE w.stopped_at IS NULL AND w.state = 'active' AND NOT w.draining
                  AND w.last_beat_at > statement_timestamp() - %s::interval
                  AND queue_serves(w.pools, w.regions, %s, %s))
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why an execution waits in the queue.

    kind      not_before, backoff, draining, paused (its pool), lock (somebody holds it), line (somebody is before it at
              an asset), no_worker, not_served (workers, but none for its labels), apart (a worker died of it: it waits
              to be run apart), or worker (all that serve it are busy)
    asset_id  whose lock or line; other: the execution that is in the way, which holds the lock for `seconds`
    position  place in line, from 1: at the asset, or among those that wait for the same workers
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


def waiting(execution_id: int) -> Waiting | None:
    """Return why an execution that is in the queue does not run yet; None when it is not waiting in the queue."""
    entry = QueueEntry.objects.filter(pk=execution_id).exclude(state=EntryState.LEASED).first()
    return None if entry is None else waiting_of(entry)


def waiting_of(entry: QueueEntry) -> Waiting:
    """Return why a queue entry that is not leased waits."""
    if entry.state == EntryState.DELAYED:
        return Waiting("backoff" if entry.attempt else "not_before", until=entry.available_at)
    control = QueueControl.objects.filter(draining=True).first()
    if control is not None:
        return Waiting("draining", by=_said(control.changed_by, control.reason))
    labels = {"pool": entry.pool, "region": entry.region}
    paused = Pool.objects.filter(name=entry.pool, paused=True).first()
    if paused is not None:
        return Waiting("paused", by=_said(paused.changed_by, paused.reason), **labels)
    with connection.cursor() as cursor:
        cursor.execute(IN_THE_WAY, {"id": entry.pk, "most": COUNTED_EXACTLY})
        if row := cursor.fetchone():
            kind = "lock" if row[2] == LockState.HELD else "line"
            return Waiting(kind, asset_id=row[0], other=row[1], seconds=row[3], position=row[4], **labels)
        cursor.execute(SERVED, [str(settings.LEASE), entry.pool, entry.region])
        (served,) = cursor.fetchone() or (False,)
        if not served:
            return Waiting("not_served" if live_workers() else "no_worker", **labels)
        if entry.losses:
            return Waiting("apart", **labels)
        cursor.execute(
            AHEAD,
            {
                "pool": entry.pool, "region": entry.region, "tenant": entry.tenant_id, "place": entry.place,
                "id": entry.pk, "most": COUNTED_EXACTLY,
            },
        )  # fmt: skip
        (ahead,) = cursor.fetchone() or (0,)
    return Waiting("worker", position=ahead + 1, **labels)


def _said(by: str, reason: str) -> str:
    return f"{by}: {reason}" if by and reason else by or reason


def workers() -> list[Worker]:
    """Return the workers that have not ended, silent ones included, newest first."""
    return list(Worker.objects.filter(stopped_at__isnull=True).exclude(state=WorkerState.STOPPED).order_by("-pk"))
