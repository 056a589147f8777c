"""The catalog of tools."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from executions.api.answers import answer
from executions.api.base import ApiView
from executions.api.problems import ApiProblem, shortened
from executions.api.reading import Query
from executions.api.schema import call
from executions.api.shapes import Tools, ToolShape
from executions.tools import Tool, get_catalog
from executions.tools.parameters import Parameter
from safety.scopes import Scope


def _parameter(parameter: Parameter, tool: Tool) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "type": str(parameter.type),
        "description": parameter.description,
        "aliases": list(parameter.aliases),
        "enum": list(parameter.enum) if parameter.enum else None,
        "default": parameter.default,
        "required": all(parameter.name in behaviour.required for behaviour in tool.behaviours.values()),
        "sensitive": parameter.sensitive,
    }


def tool_shape(tool: Tool) -> dict[str, Any]:
    """One tool; the figures are those of the gravest of its actions, `actions` has each."""
    return {
        "name": tool.name,
        "summary": tool.summary,
        "also_known_as": list(tool.also_known_as),
        "connector": tool.connector,
        "action_class": tool.action_class,
        "needs_target": tool.needs_target,
        "idempotent": tool.idempotent,
        "irreversible": tool.irreversible,
        "production_safe": tool.production_safe,
        "default_timeout_seconds": tool.default_timeout_seconds,
        "estimated_duration": tool.estimated_duration,
        "max_output_bytes": tool.max_output_bytes,
        "parameters": [_parameter(parameter, tool) for parameter in tool.parameters.values()],
        "actions": {
            name: {
                "action_class": behaviour.action_class,
                "idempotent": behaviour.idempotent,
                "irreversible": behaviour.irreversible,
                "production_safe": behaviour.production_safe,
                "accepts": sorted(behaviour.accepted),
                "requires": sorted(behaviour.required),
            }
            for name, behaviour in tool.behaviours.items()
            if tool.by is not None
        },
    }


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
