"""The catalog of tools."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from executions.api.answers import answer
from executions.api.base import ApiView
from executions.api.problems import ApiProblem, shortened
from executions.api.reading import Query
from executions.api.schema import call
from executions.api.shapes import Tools, ToolShape
from executions.tools import get_catalog
from executions.tools.shape import tool_shape
from safety.scopes import Scope


class ToolsView(ApiView):
    """All tools."""

    @call("tools_list", "List the tools that plans can use", scope=Scope.READ, tag="inventory", gives=Tools)
    def get(self, request: Request) -> HttpResponse:
        Query(request, ())
        catalog = get_catalog()
        found = [catalog.get(name) for name in sorted(catalog.names())]
        return answer({"results": [tool_shape(tool) for tool in found if tool is not None]})


class ToolView(ApiView):
    """One tool."""

    @call("tools_read", "Read one tool", scope=Scope.READ, tag="inventory", gives=ToolShape, refuses=("not_found",))
    def get(self, request: Request, name: str) -> HttpResponse:
        Query(request, ())
        tool = get_catalog().get(name)
        if tool is None:
            raise ApiProblem("not_found", f"There is no tool {shortened(name)}.")
        return answer(tool_shape(tool))
