"""The DLQ: what the system will not try again by itself; one entry, or all that a filter selects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from executions import services
from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import ApiView, caller
from executions.api.bodies import DeadLetterFilter, DeadLettersBody, ReasonBody
from executions.api.detail import links
from executions.api.problems import ApiProblem
from executions.api.reading import Query, read_body
from executions.api.schema import PAGING, call, parameter
from executions.api.shapes import DeadLetterEntry, DeadLetterOutcome, DeadLetterOutcomes, DeadLetterPage
from queueing.dead_letters import ADVICE
from queueing.models import DeadLetter, DeadLetterState, DeadReason
from safety.models import User

MOST_AT_ONCE = 1000

Verb = Callable[[list[int], User, str], dict[int, str]]


def _requeue(ids: list[int], by: User, reason: str) -> dict[int, str]:
    return services.requeue_dead_letters(ids, by=by, reason=reason)


def _discard(ids: list[int], by: User, reason: str) -> dict[int, str]:
    return services.discard_dead_letters(ids, by=by, reason=reason)


def _entry(row: DeadLetter) -> dict[str, Any]:
    return {
        "id": row.pk,
        "execution": row.execution_id,
        "reason": row.reason,
        "advice": ADVICE.get(row.reason, ""),
        "error": row.error,
        "attempts": row.attempts,
        "state": row.state,
        "created_at": row.created_at,
        "closed_at": row.closed_at,
        "closed_by": row.closed_by,
        "close_reason": row.close_reason,
        "links": {"self": f"/api/v1/dead-letters/{row.pk}/", "execution": links(row.execution_id)["self"]},
    }


def _of_caller(request: Request) -> QuerySet[DeadLetter]:
    return DeadLetter.objects.filter(tenant_id=caller(request).tenant_id)


class DeadLettersView(ApiView):
    """The entries of the caller's tenant."""

    @call(
        "dead_letters_list",
        "List DLQ entries, newest first; the open ones unless `state` says otherwise",
        tag="dead letters",
        gives=DeadLetterPage,
        refuses=("invalid_parameter",),
        parameters=(
            parameter("state", "One or more, separated by commas.", enum=DeadLetterState.values),
            parameter("reason", "Why they were parked.", enum=DeadReason.values),
            parameter("q", "A part of the last error."),
            parameter("created_after", "At or after this time."),
            parameter("created_before", "Before this time."),
            *PAGING,
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        names = ("state", "reason", "q", "created_after", "created_before", *cursors.PARAMETERS)
        query = Query(request, names)
        states = query.choices("state", DeadLetterState.values) or [DeadLetterState.OPEN]
        rows = _of_caller(request).filter(state__in=states)
        if reasons := query.choices("reason", DeadReason.values):
            rows = rows.filter(reason__in=reasons)
        if words := query.text("q"):
            rows = rows.filter(error__icontains=words)
        if (after := query.moment("created_after")) is not None:
            rows = rows.filter(created_at__gte=after)
        if (before := query.moment("created_before")) is not None:
            rows = rows.filter(created_at__lt=before)
        return cursors.page(request, query, rows, _entry)


class DeadLetterView(ApiView):
    """One entry."""

    @call("dead_letters_read", "Read a DLQ entry", tag="dead letters", gives=DeadLetterEntry, refuses=("not_found",))
    def get(self, request: Request, entry_id: int) -> HttpResponse:
        Query(request, ())
        return answer(_entry(_existing(request, entry_id)))


def _existing(request: Request, entry_id: int) -> DeadLetter:
    found = _of_caller(request).filter(pk=entry_id).first()
    if found is None:
        raise ApiProblem("not_found", f"There is no DLQ entry {entry_id}.")
    return found


_REFUSALS = {
    "moved_on": ("no_longer_open", "The entry is closed: somebody was faster."),
    "unknown_outcome": ("unknown_outcome", "A step of the execution has an unknown outcome."),
    "forbidden": ("forbidden", "You may not decide what becomes of this execution."),
}


def _decide_one(request: Request, entry_id: int, verb: Verb) -> HttpResponse:
    body = ReasonBody.model_validate(read_body(request))
    entry = _existing(request, entry_id)
    outcome = verb([entry.pk], caller(request), body.reason)[entry.pk]
    if outcome in _REFUSALS:
        raise ApiProblem(*_REFUSALS[outcome])
    return answer({"id": entry.pk, "execution": entry.execution_id, "outcome": outcome})


class RequeueView(ApiView):
    """One entry back into the queue."""

    @call(
        "dead_letters_requeue",
        "Put the execution of a DLQ entry back into the queue",
        tag="dead letters",
        takes=ReasonBody,
        gives=DeadLetterOutcome,
        refuses=("not_found", "forbidden", "no_longer_open", "unknown_outcome"),
        example={"reason": "The worker has more memory now"},
    )
    def post(self, request: Request, entry_id: int) -> HttpResponse:
        return _decide_one(request, entry_id, _requeue)


class DiscardView(ApiView):
    """One entry given up."""

    @call(
        "dead_letters_discard",
        "Give the execution of a DLQ entry up: it ends as failed",
        tag="dead letters",
        takes=ReasonBody,
        gives=DeadLetterOutcome,
        refuses=("not_found", "forbidden", "no_longer_open"),
        example={"reason": "The machine is gone"},
    )
    def post(self, request: Request, entry_id: int) -> HttpResponse:
        return _decide_one(request, entry_id, _discard)


def _selected(request: Request, chosen: DeadLetterFilter) -> QuerySet[DeadLetter]:
    rows = _of_caller(request).filter(state=DeadLetterState.OPEN)
    if chosen.ids is not None:
        rows = rows.filter(pk__in=chosen.ids)
    if chosen.execution_ids is not None:
        rows = rows.filter(execution_id__in=chosen.execution_ids)
    if chosen.reason is not None:
        rows = rows.filter(reason=chosen.reason)
    if chosen.q is not None:
        rows = rows.filter(error__icontains=chosen.q)
    if chosen.created_after is not None:
        rows = rows.filter(created_at__gte=chosen.created_after)
    if chosen.created_before is not None:
        rows = rows.filter(created_at__lt=chosen.created_before)
    return rows.order_by("pk")


def _decide_many(request: Request, verb: Verb) -> HttpResponse:
    body = DeadLettersBody.model_validate(read_body(request))
    ids = list(_selected(request, body.filter).values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
    more = len(ids) > MOST_AT_ONCE
    ids = ids[:MOST_AT_ONCE]
    outcomes = {} if body.dry_run else verb(ids, caller(request), body.reason)
    return answer(
        {
            "matched": len(ids),
            "counts": Counter(outcomes.values()),
            "results": [{"id": number, "outcome": "matched" if body.dry_run else outcomes[number]} for number in ids],
            "more": more,
            "dry_run": body.dry_run,
        }
    )


class RequeueManyView(ApiView):
    """All that a filter selects, back into the queue."""

    @call(
        "dead_letters_requeue_many",
        "Requeue the open entries that a filter selects",
        tag="dead letters",
        takes=DeadLettersBody,
        gives=DeadLetterOutcomes,
        example={"filter": {"reason": "attempts_exhausted"}, "reason": "The workers have more memory now"},
        answer={
            "matched": 1,
            "counts": {"requeued": 1},
            "results": [{"id": 12, "outcome": "requeued"}],
            "more": False,
            "dry_run": False,
        },
    )
    def post(self, request: Request) -> HttpResponse:
        return _decide_many(request, _requeue)


class DiscardManyView(ApiView):
    """All that a filter selects, given up."""

    @call(
        "dead_letters_discard_many",
        "Discard the open entries that a filter selects",
        tag="dead letters",
        takes=DeadLettersBody,
        gives=DeadLetterOutcomes,
        example={"filter": {"ids": [12, 13]}, "reason": "The machines are gone"},
        answer={
            "matched": 1,
            "counts": {"discarded": 1},
            "results": [{"id": 12, "outcome": "discarded"}],
            "more": False,
            "dry_run": False,
        },
    )
    def post(self, request: Request) -> HttpResponse:
        return _decide_many(request, _discard)
