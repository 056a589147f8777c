"""The queue and the workers, for operators."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from executions.api.answers import answer
from executions.api.base import OperatorsView, caller
from executions.api.bodies import ReasonBody
from executions.api.reading import Query, read_body
from executions.api.schema import call, parameter
from executions.api.shapes import QueueState, Workers
from queueing import control
from queueing.models import DeadLetter, DeadLetterState, EntryState, QueueControl, QueueEntry, Worker
from safety.models import User

RECENT = 500  # workers in an answer with the ended ones


def worker_state(row: Worker) -> dict[str, Any]:
    """One worker. `silent` goes by this host's clock against the database's: a hint, no verdict."""
    return {
        "id": row.pk,
        "host": row.host,
        "pid": row.pid,
        "state": row.state,
        "version": row.version,
        "slots": row.slots,
        "running": row.running,
        "finished": row.finished,
        "rss_bytes": row.rss_bytes,
        "started_at": row.started_at,
        "last_beat_at": row.last_beat_at,
        "stopped_at": row.stopped_at,
        "silent": row.stopped_at is None and timezone.now() - row.last_beat_at > settings.SILENT_AFTER,
        "note": row.note,
    }


def queue_state(by: User) -> dict[str, Any]:
    """The queue's figures, its oldest entry that waits, whether it is open and who said so, and its workers.

    Of the oldest entry the execution is named only within the caller's own tenant.
    """
    figures = control.queue_figures()
    held = QueueControl.objects.first()
    first = (
        QueueEntry.objects.exclude(state=EntryState.LEASED)
        .order_by("available_at")
        .values("execution_id", "tenant_id", "state", "priority", "available_at", "attempt")
        .first()
    )
    oldest: dict[str, Any] | None = dict(first) if first else None
    if oldest is not None and oldest.pop("tenant_id") != by.tenant_id:
        oldest["execution_id"] = None
    return {
        "depth": figures["depth"],
        "waiting_seconds": figures["waiting_seconds"],
        "by_state": {state: figures["by_state"].get(state, 0) for state in EntryState.values},
        "oldest": oldest,
        "dead_letters": DeadLetter.objects.filter(state=DeadLetterState.OPEN).count(),
        "draining": figures["draining"],
        "changed_at": held.changed_at if held else None,
        "changed_by": held.changed_by if held else "",
        "reason": held.reason if held else "",
        "workers": [worker_state(row) for row in control.workers()],
    }


class QueueView(OperatorsView):
    """What waits, and who works."""

    @call("queue_read", "Read the queue's figures", tag="queue", gives=QueueState, refuses=("forbidden",))
    def get(self, request: Request) -> HttpResponse:
        Query(request, ())
        return answer(queue_state(caller(request)))


class WorkersView(OperatorsView):
    """The worker processes."""

    @call(
        "workers_list",
        "List the worker processes, silent ones included; with `all=true` also the ended ones",
        tag="queue",
        gives=Workers,
        refuses=("forbidden", "invalid_parameter"),
        parameters=(parameter("all", "Also those that ended.", enum=("true", "false")),),
    )
    def get(self, request: Request) -> HttpResponse:
        everyone = Query(request, ("all",)).flag("all")
        rows = Worker.objects.order_by("-pk")[:RECENT] if everyone else control.workers()
        figures = control.queue_figures()
        return answer(
            {
                "depth": figures["depth"],
                "waiting_seconds": figures["waiting_seconds"],
                "results": [worker_state(row) for row in rows],
            }
        )


class DrainView(OperatorsView):
    """Close the queue."""

    @call(
        "queue_drain",
        "Take nothing in and hand nothing out; what runs goes on",
        tag="queue",
        takes=ReasonBody,
        gives=QueueState,
        refuses=("forbidden",),
        example={"reason": "Database maintenance at 22:00"},
    )
    def post(self, request: Request) -> HttpResponse:
        body = ReasonBody.model_validate(read_body(request))
        changed = control.drain(by=caller(request).actor, reason=body.reason)
        return answer({**queue_state(caller(request)), "changed": changed})


class ResumeView(OperatorsView):
    """Open the queue."""

    @call(
        "queue_resume",
        "Open the queue again",
        tag="queue",
        takes=ReasonBody,
        gives=QueueState,
        refuses=("forbidden",),
        example={"reason": "Maintenance is over"},
    )
    def post(self, request: Request) -> HttpResponse:
        body = ReasonBody.model_validate(read_body(request))
        changed = control.resume(by=caller(request).actor, reason=body.reason)
        return answer({**queue_state(caller(request)), "changed": changed})
