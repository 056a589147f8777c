"""Whether a tool can do what a step asks of it on a machine that is connected in a given way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from executions.connectors.registry import why_not
from executions.tools.tool import Tool
from executions.tools.values import has_template
from executions.tools.windows_paths import is_windows_path

WINDOWS = "powershell"  # the connection by which Windows machines are reached


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a step cannot be done there. `input`: which of its inputs is in the way; empty: the tool itself."""

    code: str
    message: str
    how_to_fix: str
    input: str = ""


def misfits(tool: Tool, inputs: Mapping[str, Any], connection: str) -> list[Misfit]:
    """Return what is in the way of a step with these inputs, rendered or not, on a target with this connection."""
    if tool.connector in ("none", "inventory", "probe"):  # a check says of each machine why it cannot be checked
        return []
    reason = why_not(tool.connector, connection)
    if reason is not None:
        how = f"Use a tool for machines with connection {connection or 'of another kind'}, or other targets."
        return [Misfit("no_connector", f"{tool.name}: {reason.rstrip('.')}", how)]
    if tool.connector not in ("command", "powershell"):
        return []
    if connection != WINDOWS:
        return [
            Misfit("invalid_input", f"{name} is a path of Windows", "Write a path that begins with /.", name)
            for name, path in _paths(tool, inputs)
            if is_windows_path(path)
        ]
    return list(_on_windows(tool, inputs))


def _on_windows(tool: Tool, inputs: Mapping[str, Any]) -> Iterator[Misfit]:
    if tool.connector == "command":
        form = tool.windows_form(inputs)
        if form is None:
            action = f" {inputs[tool.by]}" if tool.by and inputs.get(tool.by) else ""
            yield Misfit(
                "no_connector",
                f"{tool.name}{action} has no form for Windows",
                "Use the tool powershell for it, or leave the Windows machines out of the step.",
            )
            return
        for name in sorted(form.without & inputs.keys()):
            yield Misfit("invalid_input", f"{name} means nothing on Windows", "Leave it out there.", name)
    for name, path in _paths(tool, inputs):
        if not is_windows_path(path):
            yield Misfit("invalid_input", f"{name} is no path of Windows", r"Write it as C:\folder\file.", name)


def _paths(tool: Tool, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every path among the inputs that is known by now."""
    for name, value in inputs.items():
        parameter = tool.parameter(name)
        if parameter is not None and parameter.type == "path" and isinstance(value, str) and not has_template(value):
            yield parameter.name, value
