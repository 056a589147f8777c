"""Drain and resume, the queue's figures, and the answer to "why is it waiting?"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from queueing.models import QueueControl, QueueEntry, Worker, WorkerState


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


def queue_figures() -> QueueFigures:
    """Return depth (everything not yet leased), the longest wait, entries by state, live workers."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT state, count(*), coalesce(extract(epoch FROM statement_timestamp() - min(available_at)), 0)"
            " FROM queueing_queueentry GROUP BY state"
        )
        rows = cursor.fetchall()
    by_state = {state: count for state, count, _ in rows}
    waiting = [float(seconds) for state, _, seconds in rows if state in ("ready", "blocked")]
    return {
        "depth": sum(count for state, count in by_state.items() if state != "leased"),
        "waiting_seconds": max([0.0, *waiting]),
        "by_state": by_state,
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


HOLDER = """
SELECT holder.asset_id, holder.execution_id, extract(epoch FROM statement_timestamp() - holder.held_at),
       (SELECT count(*) FROM queueing_assetlock line
         WHERE line.asset_id = mine.asset_id AND line.state = 'queued'
           AND (line.place, line.execution_id) < (mine.place, mine.execution_id)) + 1
  FROM queueing_assetlock mine
  JOIN queueing_assetlock holder ON holder.asset_id = mine.asset_id AND holder.state = 'held'
   AND (holder.exclusive OR mine.exclusive)
 WHERE mine.execution_id = %s AND mine.state = 'queued'
 ORDER BY holder.held_at LIMIT 1
"""

AHEAD = """
SELECT mine.asset_id, (SELECT count(*) FROM queueing_assetlock line
         WHERE line.asset_id = mine.asset_id AND line.state = 'queued'
           AND (line.place, line.execution_id) < (mine.place, mine.execution_id))
  FROM queueing_assetlock mine WHERE mine.execution_id = %s AND mine.state = 'queued' ORDER BY 2 DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why an execution waits in the queue.

    kind      not_before, backoff, draining, lock, line, no_worker, or worker (all of them are busy)
    asset_id  whose lock or line; holder: the execution that holds it, for `seconds`; position: place in line, from 1
    until     when its time comes, for not_before and backoff
    """

    kind: str
    asset_id: int | None = None
    holder: int | None = None
    seconds: float = 0.0
    position: int | None = None
    until: datetime | None = None


def waiting(execution_id: int) -> Waiting | None:
    """Return why an execution that is in the queue does not run yet; None when it is not waiting in the queue."""
    entry = QueueEntry.objects.filter(pk=execution_id).exclude(state="leased").first()
    if entry is None:
        return None
    if entry.state == "delayed":
        return Waiting("backoff" if entry.attempt else "not_before", until=entry.available_at)
    if is_draining():
        return Waiting("draining")
    with connection.cursor() as cursor:
        cursor.execute(HOLDER, [execution_id])
        if row := cursor.fetchone():
            return Waiting("lock", asset_id=row[0], holder=row[1], seconds=float(row[2]), position=row[3])
        cursor.execute(AHEAD, [execution_id])
        row = cursor.fetchone()
    if row and row[1]:
        return Waiting("line", asset_id=row[0], position=row[1] + 1)
    return Waiting("worker" if live_workers() else "no_worker")


def workers() -> list[Worker]:
    """Return the workers that have not ended, silent ones included, newest first."""
    return list(Worker.objects.filter(stopped_at__isnull=True).exclude(state=WorkerState.STOPPED).order_by("-pk"))
