"""What waits for approvals."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import ApiView, caller
from executions.api.detail import decision_of, summary
from executions.api.reading import Query
from executions.api.schema import PAGING, call, page_limit, parameter
from executions.api.shapes import WaitingCount, WaitingPage
from executions.approval_asks import asks_of, waiting, waiting_for
from executions.models import Execution
from safety.scopes import Scope

WHOSE = ("mine", "own", "all")
MOST_AT_ONCE = 100  # each comes with what its machines have become


class ApprovalsView(ApiView):
    """Executions that wait for somebody to approve them."""

    @call(
        "approvals_list",
        "List the executions that wait for approval, those that were asked for last first",
        scope=Scope.READ,
        tag="decisions",
        gives=WaitingPage,
        refuses=("invalid_parameter",),
        parameters=(
            parameter(
                "whose",
                "mine (the default): those that the caller may decide on, and has not; own: those that the caller "
                "asked for; all: every one that the caller may see.",
                enum=WHOSE,
            ),
            PAGING[0],
            page_limit(MOST_AT_ONCE),
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        query = Query(request, ("whose", *cursors.PARAMETERS))
        user = caller(request)
        whose = (query.choices("whose", WHOSE) or ["mine"])[-1]
        rows = waiting_for(user) if whose == "mine" else waiting(user)
        if whose == "own":
            rows = rows.filter(actor=user)
        rows = rows.select_related("actor", "plan", "pending_approval")
        return cursors.page_of(request, query, rows, _shown, most=MOST_AT_ONCE)


def _shown(executions: list[Execution]) -> list[dict[str, Any]]:
    return [
        {
            **summary(ask.execution),
            "approval": ask.as_json(),
            "approvals": [decision_of(approval) for approval in ask.approvals],
            "changes": ask.changes,
        }
        for ask in asks_of(executions, with_changes=True)
    ]


class ApprovalsCountView(ApiView):
    """How many there are: what the badge of every page shows."""

    @call(
        "approvals_count",
        "Count the executions that wait for the caller's decision",
        scope=Scope.READ,
        tag="decisions",
        gives=WaitingCount,
        answer={"mine": 2},
    )
    def get(self, request: Request) -> HttpResponse:
        Query(request, ())
        return answer({"mine": waiting_for(caller(request)).count()})
