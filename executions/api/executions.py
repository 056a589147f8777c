"""Read executions: the list with its filters, one with everything, its steps, its plan."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework.request import Request

from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import ApiView, no_execution, visible
from executions.api.bodies import SubmissionBody
from executions.api.detail import execution_state, steps_of, summary
from executions.api.reading import Query, as_id
from executions.api.schema import PAGING, call, parameter
from executions.api.shapes import AcceptedExecution, ExecutionDetail, ExecutionPage, Steps
from executions.api.submissions import EXAMPLE_ACCEPTED, EXAMPLE_BODY, take_in
from executions.models import Asset, Execution, ExecutionPlan, ExecutionQuerySet, StepTarget
from executions.states import ExecutionStatus
from safety.scopes import Scope

FILTERS = ("status", "tag", "actor", "asset", "created_after", "created_before", "q")

_FILTER_PARAMETERS = (
    parameter("status", "One or more, separated by commas.", enum=ExecutionStatus.values),
    parameter("tag", "Carries this tag; given several times, all of them."),
    parameter("actor", "The name of the user who asked for it."),
    parameter("asset", "Touches this asset: its id, name or hostname."),
    parameter("created_after", "At or after this time (ISO 8601; UTC without a zone)."),
    parameter("created_before", "Before this time."),
    parameter("q", "A part of title, reason or trace id; an id; or the beginning of a plan hash."),
)

_ENDED_OR_REPLAY = {
    "anyOf": [{"$ref": "#/components/schemas/ExecutionDetail"}, {"$ref": "#/components/schemas/AcceptedExecution"}]
}


class ExecutionsView(ApiView):
    """All executions of the caller's tenant."""

    @call(
        "executions_list",
        "List executions, newest first",
        scope=Scope.READ,
        tag="executions",
        gives=ExecutionPage,
        refuses=("invalid_parameter",),
        parameters=(*_FILTER_PARAMETERS, *PAGING),
    )
    def get(self, request: Request) -> HttpResponse:
        query = Query(request, (*FILTERS, *cursors.PARAMETERS))
        rows = filtered(visible(request), query).select_related("actor")
        return cursors.page(request, query, rows, summary)

    @call(
        "executions_submit",
        "Submit a plan",
        scope=Scope.SUBMIT,
        tag="executions",
        description="Checks the plan whole, decides on approval and time limits, and takes it in within one "
        "transaction: after a 202 it is kept whatever crashes. The same request again within 24 hours, by its "
        "Idempotency-Key or, for a plan that changes something, by what it does, gets 200 with the same id and "
        "`Idempotent-Replay: true`. With `Prefer: wait=N` the answer comes once the execution has ended (200, its "
        "whole state), or after N seconds (202).",
        takes=SubmissionBody,
        gives=AcceptedExecution,
        status=202,
        also={200: _ENDED_OR_REPLAY},
        refuses=("invalid_header", "invalid_plan", "idempotency_key_reused", "forbidden", "draining"),
        parameters=(
            parameter("Idempotency-Key", "1 to 255 printable ASCII characters; the same for a repeat.", header=True),
            parameter("Prefer", "`wait=N`: wait up to N seconds (at most 300) for the end.", header=True),
        ),
        example=EXAMPLE_BODY,
        answer=EXAMPLE_ACCEPTED,
    )
    def post(self, request: Request) -> HttpResponse:
        return take_in(request)


def filtered(rows: ExecutionQuerySet, query: Query) -> ExecutionQuerySet:
    """Return those of `rows` that all the filters of the query select."""
    if statuses := query.choices("status", ExecutionStatus.values):
        rows = rows.filter(status__in=statuses)
    if tags := query.words("tag"):
        rows = rows.filter(tags__contains=tags)
    if actor := query.text("actor"):
        rows = rows.filter(actor__username=actor.removeprefix("user:"))
    if asset := query.text("asset"):
        rows = rows.filter(_touches(asset))
    if (after := query.moment("created_after")) is not None:
        rows = rows.filter(created_at__gte=after)
    if (before := query.moment("created_before")) is not None:
        rows = rows.filter(created_at__lt=before)
    if words := query.text("q"):
        rows = rows.filter(_mentions(words))
    return rows


def _touches(asset: str) -> Exists:
    """The execution has a step on this asset. Whose assets: those of the execution's tenant, so of the caller's."""
    named = Q(name=asset) | Q(hostname=asset)
    if (asset_id := as_id(asset)) is not None:
        named |= Q(pk=asset_id)
    assets = Asset.objects.filter(named, tenant_id=OuterRef(OuterRef("tenant_id"))).values("pk")
    return Exists(StepTarget.objects.filter(execution_id=OuterRef("pk"), asset_id__in=assets))


def _mentions(words: str) -> Q:
    condition = Q(title__icontains=words) | Q(reason__icontains=words) | Q(trace_id__icontains=words)
    if (number := as_id(words.removeprefix("#"))) is not None:
        condition |= Q(pk=number)
    if len(words) >= 6:
        condition |= Q(plan_hash__startswith=words.lower())
    return condition


def one(request: Request, execution_id: int) -> Execution:
    """Return the execution with its actor and tenant; raises ApiProblem(not_found)."""
    found = visible(request).with_check().select_related("actor", "tenant").filter(pk=execution_id).first()
    if found is None:
        raise no_execution(execution_id)
    return found


class ExecutionView(ApiView):
    """One execution."""

    @call(
        "executions_read",
        "Read an execution with its steps, targets and the end of their output",
        scope=Scope.READ,
        tag="executions",
        gives=ExecutionDetail,
        refuses=("not_found",),
    )
    def get(self, request: Request, execution_id: int) -> HttpResponse:
        Query(request, ())
        return answer(execution_state(one(request, execution_id)))


class StepsView(ApiView):
    """The steps of one execution."""

    @call(
        "executions_steps",
        "Read the steps of an execution with their targets",
        scope=Scope.READ,
        tag="executions",
        gives=Steps,
        refuses=("not_found",),
    )
    def get(self, request: Request, execution_id: int) -> HttpResponse:
        Query(request, ())
        return answer({"results": steps_of(one(request, execution_id))})


class PlanView(ApiView):
    """The plan of one execution."""

    @call(
        "executions_plan",
        "Read the plan as it was understood, checked and approved",
        scope=Scope.READ,
        tag="executions",
        gives=OpenApiTypes.OBJECT,
        refuses=("not_found",),
    )
    def get(self, request: Request, execution_id: int) -> HttpResponse:
        Query(request, ())
        plan = ExecutionPlan.objects.filter(execution__in=visible(request).filter(pk=execution_id)).first()
        if plan is None:
            raise no_execution(execution_id)
        return answer(plan.document)
