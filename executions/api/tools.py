"""The catalog of tools."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import ApiView
from executions.api.problems import ApiProblem, shortened
from executions.api.reading import Query
from executions.api.schema import PAGING, call, page_limit
from executions.api.shapes import Tools, ToolShape
from executions.tools import get_catalog
from executions.tools.shape import tool_shape
from safety.scopes import Scope


class ToolsView(ApiView):
    """All tools."""

    @call(
        "tools_list",
        "List the tools that plans can use, by name",
        scope=Scope.READ,
        tag="inventory",
        gives=Tools,
        refuses=("invalid_parameter",),
        parameters=(PAGING[0], page_limit(500, absent=500)),
    )
    def get(self, request: Request) -> HttpResponse:
        query = Query(request, cursors.PARAMETERS)
        catalog = get_catalog()
        found = [catalog.get(name) for name in sorted(catalog.names())]
        return cursors.page_of_all(request, query, [tool for tool in found if tool is not None], tool_shape)


class ToolView(ApiView):
    """One tool."""

    @call("tools_read", "Read one tool", scope=Scope.READ, tag="inventory", gives=ToolShape, refuses=("not_found",))
    def get(self, request: Request, name: str) -> HttpResponse:
        Query(request, ())
        tool = get_catalog().get(name)
        if tool is None:
            raise ApiProblem("not_found", f"There is no tool {shortened(name)}.")
        return answer(tool_shape(tool))
