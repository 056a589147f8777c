"""Batches of the DLQ: one decision on many entries, how far it is, what became of each."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from executions import services
from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import ApiView, caller
from executions.api.bodies import ReasonBody
from executions.api.dead_letter_shapes import DeadLetterBatchPage, DeadLetterBatchShape, DeadLetterResultPage
from executions.api.problems import ApiProblem
from executions.api.reading import Query, read_body
from executions.api.schema import PAGING, call, parameter
from executions.services.dead_letter_batches import visible_batches
from queueing.models import BatchState, DeadLetterBatch, DeadLetterBatchItem, ItemOutcome
from safety.scopes import Scope


def address_of(batch_id: int) -> str:
    return f"/api/v1/dead-letters/batches/{batch_id}/"


def _batch(row: DeadLetterBatch) -> dict[str, Any]:
    address = address_of(row.pk)
    return {
        "id": row.pk,
        "verb": row.verb,
        "start_from": row.start_from,
        "by": row.by,
        "reason": row.reason,
        "filter": row.filter,
        "per_second": row.per_second,
        "state": row.state,
        "matched": row.matched,
        "done": row.done,
        "counts": row.counts,
        "created_at": row.created_at,
        "ended_at": row.ended_at,
        "ended_by": row.ended_by,
        "links": {"self": address, "results": f"{address}results/", "cancel": f"{address}cancel/"},
    }


def _item(row: DeadLetterBatchItem) -> dict[str, Any]:
    return {"id": row.entry_id, "execution": row.execution_id, "outcome": row.outcome, "done_at": row.done_at}


def _existing(request: Request, batch_id: int) -> DeadLetterBatch:
    found = visible_batches(caller(request)).filter(pk=batch_id).first()
    if found is None:
        raise ApiProblem("not_found", f"There is no DLQ batch {batch_id}.")
    return found


class BatchesView(ApiView):
    """The decisions on many entries."""

    @call(
        "dead_letter_batches_list",
        "List the batches of the DLQ, newest first",
        scope=Scope.READ,
        tag="dead letters",
        gives=DeadLetterBatchPage,
        refuses=("invalid_parameter",),
        parameters=(parameter("state", "One or more, separated by commas.", enum=BatchState.values), *PAGING),
    )
    def get(self, request: Request) -> HttpResponse:
        query = Query(request, ("state", *cursors.PARAMETERS))
        rows = visible_batches(caller(request))
        if states := query.choices("state", BatchState.values):
            rows = rows.filter(state__in=states)
        return cursors.page(request, query, rows, _batch)


class BatchView(ApiView):
    """One of them."""

    @call(
        "dead_letter_batches_read",
        "Read how far a batch of the DLQ is",
        scope=Scope.READ,
        tag="dead letters",
        gives=DeadLetterBatchShape,
        refuses=("not_found",),
    )
    def get(self, request: Request, batch_id: int) -> HttpResponse:
        Query(request, ())
        return answer(_batch(_existing(request, batch_id)))


class BatchResultsView(ApiView):
    """What became of its entries."""

    @call(
        "dead_letter_batches_results",
        "List what became of each entry of a batch; `waiting` are those that are not done yet",
        scope=Scope.READ,
        tag="dead letters",
        gives=DeadLetterResultPage,
        refuses=("not_found", "invalid_parameter"),
        parameters=(parameter("outcome", "One or more, separated by commas.", enum=ItemOutcome.values), *PAGING),
    )
    def get(self, request: Request, batch_id: int) -> HttpResponse:
        query = Query(request, ("outcome", *cursors.PARAMETERS))
        rows = DeadLetterBatchItem.objects.filter(batch=_existing(request, batch_id))
        if outcomes := query.choices("outcome", ItemOutcome.values):
            rows = rows.filter(outcome__in=outcomes)
        return cursors.page(request, query, rows, _item)


class CancelBatchView(ApiView):
    """Stop it where it is."""

    @call(
        "dead_letter_batches_cancel",
        "Cancel a running batch: entries that are not done yet stay in the DLQ",
        scope=Scope.OPERATE,
        tag="dead letters",
        takes=ReasonBody,
        gives=DeadLetterBatchShape,
        refuses=("not_found", "forbidden", "batch_ended"),
        example={},
    )
    def post(self, request: Request, batch_id: int) -> HttpResponse:
        ReasonBody.model_validate(read_body(request))
        return answer(_batch(services.cancel_batch(batch_id, by=caller(request))))
