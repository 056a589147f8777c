"""The DLQ: what the system will not try again by itself; one entry, or all that a filter selects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from executions import services
from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import ApiView, HasRole, caller
from executions.api.bodies import ReasonBody
from executions.api.dead_letter_batches import address_of
from executions.api.dead_letter_bodies import DiscardManyBody, RequeueBody, RequeueManyBody
from executions.api.dead_letter_shapes import (
    DeadLetterDetail,
    DeadLetterOutcome,
    DeadLetterOutcomes,
    DeadLetterPage,
    DeadLetterSummary,
)
from executions.api.detail import links
from executions.api.problems import ApiProblem
from executions.api.reading import Query, read_body
from executions.api.schema import PAGING, call, parameter
from executions.dead_letter_queries import (
    AttemptStory,
    Group,
    attempts_of,
    preview,
    summary,
    unknown_steps,
    visible_entries,
)
from executions.services.dead_letter_batches import SMALL
from queueing.dead_letters import ADVICE
from queueing.models import BatchState, BatchVerb, DeadLetter, DeadLetterState, DeadReason, RequeueFrom
from safety.scopes import Scope

# A small batch takes a fraction of a second. Should it take longer than this, the caller is told where to look.
AT_ONCE_SECONDS = 20


def _entry(row: DeadLetter) -> dict[str, Any]:
    return {
        "id": row.pk,
        "execution": row.execution_id,
        "reason": row.reason,
        "advice": ADVICE.get(row.reason, ""),
        "error": row.error,
        "pattern": row.pattern,
        "fingerprint": row.fingerprint,
        "attempts": row.attempts,
        "state": row.state,
        "created_at": row.created_at,
        "closed_at": row.closed_at,
        "closed_by": row.closed_by,
        "close_reason": row.close_reason,
        "links": {"self": f"/api/v1/dead-letters/{row.pk}/", "execution": links(row.execution_id)["self"]},
    }


def _attempt(story: AttemptStory) -> dict[str, Any]:
    attempt = story.attempt
    return {
        "number": attempt.number,
        "worker": attempt.worker,
        "worker_id": attempt.worker_id,
        "leased_at": attempt.leased_at,
        "ended_at": attempt.ended_at,
        "end": attempt.end,
        "error": attempt.error,
        "output": story.output,
        "output_cut": story.cut,
    }


class DeadLettersView(ApiView):
    """The entries that the caller may see."""

    @call(
        "dead_letters_list",
        "List DLQ entries, newest first; the open ones unless `state` says otherwise",
        scope=Scope.READ,
        tag="dead letters",
        gives=DeadLetterPage,
        refuses=("invalid_parameter",),
        parameters=(
            parameter("state", "One or more, separated by commas.", enum=DeadLetterState.values),
            parameter("reason", "Why they were parked.", enum=DeadReason.values),
            parameter("fingerprint", "Of one error; see the summary. One or more, separated by commas."),
            parameter("q", "A part of the last error."),
            parameter("created_after", "At or after this time."),
            parameter("created_before", "Before this time."),
            *PAGING,
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        names = ("state", "reason", "fingerprint", "q", "created_after", "created_before", *cursors.PARAMETERS)
        query = Query(request, names)
        states = query.choices("state", DeadLetterState.values) or [DeadLetterState.OPEN]
        rows = visible_entries(caller(request)).filter(state__in=states)
        if reasons := query.choices("reason", DeadReason.values):
            rows = rows.filter(reason__in=reasons)
        if fingerprints := query.words("fingerprint"):
            rows = rows.filter(fingerprint__in=fingerprints)
        if words := query.text("q"):
            rows = rows.filter(error__icontains=words)
        if (after := query.moment("created_after")) is not None:
            rows = rows.filter(created_at__gte=after)
        if (before := query.moment("created_before")) is not None:
            rows = rows.filter(created_at__lt=before)
        return cursors.page(request, query, rows, _entry)


class SummaryView(ApiView):
    """The open entries in figures."""

    permission_classes = (*ApiView.permission_classes, HasRole)

    @call(
        "dead_letters_summary",
        "Count the open DLQ entries by reason, and by what their errors have in common",
        scope=Scope.READ,
        tag="dead letters",
        gives=DeadLetterSummary,
        refuses=("forbidden",),
    )
    def get(self, request: Request) -> HttpResponse:
        Query(request, ())
        told = summary(caller(request).tenant_id)
        return answer(
            {
                "total": told.total,
                "capped": told.capped,
                "new_today": told.new_today,
                "oldest_at": told.oldest_at,
                "by_reason": told.by_reason,
                "groups": [_group(group) for group in told.groups],
            }
        )


def _group(group: Group) -> dict[str, Any]:
    return {
        "fingerprint": group.fingerprint,
        "reason": group.reason,
        "pattern": group.pattern,
        "count": group.count,
        "newest_at": group.newest_at,
        "example": {"id": group.newest, "execution": group.execution_id, "error": group.error},
    }


class DeadLetterView(ApiView):
    """One entry."""

    @call(
        "dead_letters_read",
        "Read a DLQ entry with every attempt and the end of what it printed",
        scope=Scope.READ,
        tag="dead letters",
        gives=DeadLetterDetail,
        refuses=("not_found",),
    )
    def get(self, request: Request, entry_id: int) -> HttpResponse:
        Query(request, ())
        entry = _existing(request, entry_id)
        return answer(
            {
                **_entry(entry),
                "each_attempt": [_attempt(story) for story in attempts_of(entry.execution_id)],
                "unknown_steps": unknown_steps(entry.execution_id),
            }
        )


def _existing(request: Request, entry_id: int) -> DeadLetter:
    found = visible_entries(caller(request)).filter(pk=entry_id).first()
    if found is None:
        raise ApiProblem("not_found", f"There is no DLQ entry {entry_id}.")
    return found


_REFUSALS = {
    "moved_on": ("no_longer_open", "The entry is closed: somebody was faster."),
    "unknown_outcome": ("unknown_outcome", "A step of the execution has an unknown outcome."),
    "forbidden": ("forbidden", "You may not decide what becomes of this execution."),
}


def _decide_one(request: Request, entry_id: int, verb: Callable[[list[int]], dict[int, str]]) -> HttpResponse:
    entry = _existing(request, entry_id)
    outcome = verb([entry.pk])[entry.pk]
    if outcome in _REFUSALS:
        raise ApiProblem(*_REFUSALS[outcome])
    return answer({"id": entry.pk, "execution": entry.execution_id, "outcome": outcome})


class RequeueView(ApiView):
    """One entry back into the queue."""

    @call(
        "dead_letters_requeue",
        "Put the execution of a DLQ entry back into the queue",
        scope=Scope.OPERATE,
        tag="dead letters",
        takes=RequeueBody,
        gives=DeadLetterOutcome,
        refuses=("not_found", "forbidden", "no_longer_open", "unknown_outcome", "invalid_input"),
        example={"reason": "The worker has more memory now"},
    )
    def post(self, request: Request, entry_id: int) -> HttpResponse:
        body = RequeueBody.model_validate(read_body(request))
        return _decide_one(
            request,
            entry_id,
            lambda ids: services.requeue_dead_letters(
                ids, by=caller(request), reason=body.reason, start_from=body.start_from
            ),
        )


class DiscardView(ApiView):
    """One entry given up."""

    @call(
        "dead_letters_discard",
        "Give the execution of a DLQ entry up: it ends as failed",
        scope=Scope.OPERATE,
        tag="dead letters",
        takes=ReasonBody,
        gives=DeadLetterOutcome,
        refuses=("not_found", "forbidden", "no_longer_open"),
        example={"reason": "The machine is gone"},
    )
    def post(self, request: Request, entry_id: int) -> HttpResponse:
        body = ReasonBody.model_validate(read_body(request))
        return _decide_one(
            request, entry_id, lambda ids: services.discard_dead_letters(ids, by=caller(request), reason=body.reason)
        )


def _decide_many(request: Request, verb: BatchVerb, body: DiscardManyBody, start_from: RequeueFrom) -> HttpResponse:
    """Begin a batch. A small one is carried out here and answered; of a bigger one the caller is told where to look."""
    by, selection = caller(request), body.filter.selection()
    if body.dry_run:
        return _what_would_be(request, body)
    batch = services.start_batch(
        selection, verb=verb, by=by, reason=body.reason, start_from=start_from, per_second=body.per_second
    )
    if batch is None:
        return answer(_outcomes(matched=0))
    at_once = batch.per_second is None
    if at_once:
        services.carry_out(batch, seconds=AT_ONCE_SECONDS)
    results = list(batch.items.order_by("pk").values("entry_id", "outcome")) if at_once else []
    running = batch.state == BatchState.RUNNING
    told = _outcomes(
        matched=batch.matched,
        counts=batch.counts,
        results=[{"id": row["entry_id"], "outcome": row["outcome"]} for row in results],
        more=running,
        batch=batch.pk,
        state=batch.state,
        links={"batch": address_of(batch.pk)},
    )
    return answer(told, status=202 if running else 200)


def _what_would_be(request: Request, body: DiscardManyBody) -> HttpResponse:
    by, selection = caller(request), body.filter.selection()
    met = preview(selection, by=by)
    ids = selection.open_entries(by).order_by("pk").values_list("pk", flat=True)[:SMALL]
    return answer(
        _outcomes(
            matched=met.matched,
            results=[{"id": number, "outcome": "matched"} for number in ids],
            more=met.matched > SMALL,
            dry_run=True,
            preview={
                "looked_at": met.looked_at,
                "unknown_outcome": met.unknown,
                "forbidden": met.forbidden,
                "locked_assets": met.locked_assets,
            },
        )
    )


def _outcomes(matched: int, **told: Any) -> dict[str, Any]:
    nothing = {"counts": {}, "results": [], "more": False, "dry_run": False, "batch": None, "state": None, "links": {}}
    return {"matched": matched, **nothing, **told}


class RequeueManyView(ApiView):
    """All that a filter selects, back into the queue."""

    @call(
        "dead_letters_requeue_many",
        "Requeue the open entries that a filter selects",
        scope=Scope.OPERATE,
        tag="dead letters",
        takes=RequeueManyBody,
        gives=DeadLetterOutcomes,
        also={202: DeadLetterOutcomes},
        refuses=("forbidden", "invalid_input"),
        example={"filter": {"reason": "attempts_exhausted"}, "reason": "The workers have more memory now"},
        answer={
            "matched": 1,
            "counts": {"requeued": 1},
            "results": [{"id": 12, "outcome": "requeued"}],
            "more": False,
            "dry_run": False,
            "batch": 3,
            "state": "done",
            "links": {"batch": "/api/v1/dead-letters/batches/3/"},
        },
    )
    def post(self, request: Request) -> HttpResponse:
        body = RequeueManyBody.model_validate(read_body(request))
        return _decide_many(request, BatchVerb.REQUEUE, body, body.start_from)


class DiscardManyView(ApiView):
    """All that a filter selects, given up."""

    @call(
        "dead_letters_discard_many",
        "Discard the open entries that a filter selects",
        scope=Scope.OPERATE,
        tag="dead letters",
        takes=DiscardManyBody,
        gives=DeadLetterOutcomes,
        also={202: DeadLetterOutcomes},
        refuses=("forbidden",),
        example={"filter": {"ids": [12, 13]}, "reason": "The machines are gone"},
        answer={
            "matched": 1,
            "counts": {"discarded": 1},
            "results": [{"id": 12, "outcome": "discarded"}],
            "more": False,
            "dry_run": False,
            "batch": 4,
            "state": "done",
            "links": {"batch": "/api/v1/dead-letters/batches/4/"},
        },
    )
    def post(self, request: Request) -> HttpResponse:
        body = DiscardManyBody.model_validate(read_body(request))
        return _decide_many(request, BatchVerb.DISCARD, body, RequeueFrom.AS_IT_IS)
