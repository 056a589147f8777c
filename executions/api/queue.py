"""The queue: what waits and why, for everybody of a tenant; open or closed, for those who run the installation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import ApiView, OperatorsView, caller, visible
from executions.api.bodies import ReasonBody
from executions.api.detail import links
from executions.api.fleet_shapes import PoolShape, QueuedPage, QueueState
from executions.api.reading import Query, read_body
from executions.api.schema import PAGING, call, page_limit, parameter
from executions.api.workers import refusing, shown, there
from executions.waiting import sentences
from queueing import control
from queueing.models import DeadLetter, DeadLetterState, EntryState, QueueControl, QueueEntry
from safety.models import User
from safety.scopes import Scope

WAITING = [state.value for state in EntryState if state != EntryState.LEASED]
MOST_ENTRIES = 200  # of a page: for each of them those before it are counted
MOST_AHEAD = 5_000  # so far; its place in a longer line is told as beyond that


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
    lines = control.lines()
    said = f"{held.changed_by}: {held.reason}" if held and held.reason else held.changed_by if held else ""
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
        "lines": [asdict(line) for line in lines],
        "sentences": control.line_sentences(lines, said if figures["draining"] else None),
        "workers": shown(there()),
    }


class QueueView(OperatorsView):
    """What waits, and who works."""

    @call(
        "queue_read",
        "Read the queue's figures",
        scope=Scope.READ,
        tag="queue",
        gives=QueueState,
        refuses=("forbidden",),
    )
    def get(self, request: Request) -> HttpResponse:
        Query(request, ())
        return answer(queue_state(caller(request)))


class EntriesView(ApiView):
    """Who waits for what."""

    @call(
        "queue_entries",
        "List the executions of your tenant that wait in the queue, oldest first, each with its place and the reason",
        scope=Scope.READ,
        tag="queue",
        gives=QueuedPage,
        refuses=("invalid_parameter",),
        parameters=(
            parameter("state", "One or more, separated by commas.", enum=WAITING),
            parameter("pool", "Only this pool."),
            parameter("region", "Only this region."),
            PAGING[0],
            page_limit(MOST_ENTRIES),
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        query = Query(request, ("state", "pool", "region", *cursors.PARAMETERS))
        states = query.choices("state", WAITING) or WAITING
        rows = QueueEntry.objects.filter(state__in=states, execution_id__in=visible(request).values("pk"))
        for name in ("pool", "region"):
            if (label := query.text(name)) is not None:
                rows = rows.filter(**{name: label})
        return cursors.page_of(request, query, rows, _entries, oldest_first=True, most=MOST_ENTRIES)


def _entries(rows: list[QueueEntry]) -> list[dict[str, Any]]:
    """Entries with their reasons: at most seven statements, however many they are."""
    reasons = control.waiting_of_all(rows, most=MOST_AHEAD)
    said = dict(zip(reasons, sentences(list(reasons.values())), strict=True))
    return [
        {
            "execution": row.execution_id,
            "state": row.state,
            "priority": row.priority,
            "pool": row.pool,
            "region": row.region,
            "available_at": row.available_at,
            "attempt": row.attempt,
            "kind": reasons[row.pk].kind,
            "position": reasons[row.pk].position,
            "beyond": reasons[row.pk].beyond,
            "reason": said[row.pk],
            "links": {"execution": links(row.execution_id)["self"]},
        }
        for row in rows
    ]


def _change_pool(request: Request, name: str, verb: Callable[..., bool]) -> HttpResponse:
    body = ReasonBody.model_validate(read_body(request))
    with refusing():
        changed = verb(name, by=caller(request).actor, reason=body.reason)
    state = control.pool_state(name)
    return answer(
        {
            "pool": state.name,
            "paused": state.paused,
            "changed": changed,
            "changed_by": state.changed_by,
            "reason": state.reason,
            "running": state.running,
            "known": state.known,
        }
    )


class PausePoolView(OperatorsView):
    """Let a pool stand still."""

    @call(
        "pool_pause",
        "Hand out nothing of one pool; what runs goes on, and it takes in more",
        scope=Scope.OPERATE,
        tag="queue",
        description="A pool needs not be known: `known` false hints at a misspelt name.",
        takes=ReasonBody,
        gives=PoolShape,
        refuses=("forbidden", "not_found", "bad_pool"),
        example={"reason": "The backup runs"},
    )
    def post(self, request: Request, name: str) -> HttpResponse:
        return _change_pool(request, name, control.pause_pool)


class ResumePoolView(OperatorsView):
    """Open a pool again."""

    @call(
        "pool_resume",
        "Hand out what waits in a pool again",
        scope=Scope.OPERATE,
        tag="queue",
        takes=ReasonBody,
        gives=PoolShape,
        refuses=("forbidden", "not_found"),
        example={"reason": "The backup is over"},
    )
    def post(self, request: Request, name: str) -> HttpResponse:
        return _change_pool(request, name, control.resume_pool)


class DrainView(OperatorsView):
    """Close the queue."""

    @call(
        "queue_drain",
        "Take nothing in and hand nothing out; what runs goes on",
        scope=Scope.OPERATE,
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
        scope=Scope.OPERATE,
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
