"""A tool as the API and `manage.py tools` show it, and an example of a step that uses it."""

from __future__ import annotations

from typing import Any

from executions.tools.parameters import Parameter
from executions.tools.tool import Tool

_EXAMPLES: dict[str, Any] = {
    "string": "some text",
    "integer": 1,
    "number": 1,
    "boolean": True,
    "list": ["first", "second"],
    "mapping": {"name": "value"},
    "path": "/etc/motd",
    "duration": "30s",
    "url": "https://app.example.org/health",
    "host": "db-1.example.org",
    "playbook": "site.yml",
    "expectations": [{"path": "status", "equals": "up"}],
    "json": {"name": "value"},
    "auth": {"type": "bearer", "token": {"type": "secret", "path": "api/token"}},
}


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
        "can_be_secret": parameter.can_be_secret,
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
        "check_mode": check_mode(tool),
        "source": tool.source or None,
        "replaces": tool.replaces or None,
        "parameters": [_parameter(parameter, tool) for parameter in tool.parameters.values()],
        "actions": {
            name: {
                "action_class": behaviour.action_class,
                "idempotent": behaviour.idempotent,
                "irreversible": behaviour.irreversible,
                "production_safe": behaviour.production_safe,
                "check_mode": behaviour.can_be_checked,
                "accepts": sorted(behaviour.accepted),
                "requires": sorted(behaviour.required),
            }
            for name, behaviour in tool.behaviours.items()
            if tool.by is not None
        },
    }


def check_mode(tool: Tool) -> str:
    """yes, no, or some of its actions."""
    answers = {behaviour.can_be_checked for behaviour in tool.behaviours.values()}
    return "some" if len(answers) == 2 else "yes" if True in answers else "no"


def example_step(tool: Tool) -> dict[str, Any]:
    """A step of the native form that is accepted as it stands, where an asset `web-1` is in the inventory."""
    action, behaviour = next(iter(tool.behaviours.items()))
    names = set(behaviour.required) | set(tool.exactly_one_of[:1])
    inputs = {name: _example(parameter) for name, parameter in tool.parameters.items() if name in names}
    if tool.by is not None:
        inputs = {tool.by: action, **inputs}
        inputs[tool.by] = action
    step: dict[str, Any] = {"id": "example", "tool": tool.name}
    if tool.needs_target:
        step["targets"] = ["web-1"]
    return {**step, "inputs": inputs} if inputs else step


def _example(parameter: Parameter) -> Any:
    if parameter.example is not None:
        return parameter.example
    if parameter.enum:
        return parameter.enum[0]
    return _EXAMPLES[parameter.type] if parameter.default is None else parameter.default
