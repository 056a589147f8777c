"""What a step would run on its machines, as far as that can be said before it runs: for people who decide on it.

Nothing of this is executed: a worker renders the step anew, with the outputs and secrets that are there by then.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from executions.connectors.base import Invocation
from executions.plans.secret_references import references_in, with_values
from executions.plans.secret_values import SecretReference
from executions.plans.templates import Template, TemplateContext, UnresolvedTemplate, render, rewrite
from executions.tools import InvalidInput, Tool, get_catalog

MOST_COMMANDS = 20  # different ones of a step; with a row in every command there may be as many as machines
LONGEST_COMMAND = 2000


def commands_of(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return `{command, targets}` for each different command line or request of a stored step.

    Empty for a tool that runs a program of ours, where the inputs say more, and where a value is only known later.
    """
    tool = get_catalog().get(step["tool"])
    if tool is None:
        return []
    commands: dict[str, list[str]] = {}
    for target in step["targets"] or [None]:
        text = _command(tool, step, target["row"] if target else {})
        if text is None or (text not in commands and len(commands) == MOST_COMMANDS):
            return []
        commands.setdefault(text, []).extend([target["name"]] if target else [])
    return [{"command": command, "targets": targets} for command, targets in commands.items()]


def _command(tool: Tool, step: Mapping[str, Any], row: Mapping[str, object]) -> str | None:
    context = TemplateContext(row=row, resolved=step["resolved"])
    try:
        inputs = {
            name: render(rewrite(value, _as_known_now), context, quote=tool.quote_for(name))
            for name, value in step["inputs"].items()
        }
        named = {reference: _secret_name(reference) for reference in references_in(inputs)}
        invocation = tool.prepare(with_values(inputs, named), check=step.get("check", False))
    except (UnresolvedTemplate, InvalidInput):
        return None
    return _shown(tool, invocation)


def _as_known_now(template: Template) -> str:
    """Leave a template as it is, but for the output of a step, which is only a name until that has run."""
    if template.kind != "output":
        return template.expression
    return f'"<{template.path[0]} of {template.step_id}>"'  # no step id has a double quote


def _secret_name(reference: SecretReference) -> str:
    return f"<secret {reference.path}{f' {reference.key}' if reference.key else ''}>"


def _runs_a_program_of_ours(tool: Tool, *, check: bool) -> bool:
    behaviours = tool.behaviours.values()
    return any(one.argv_prefix or (check and one.check is not None and one.check.argv_prefix) for one in behaviours)


def _shown(tool: Tool, invocation: Invocation) -> str | None:
    if invocation.http is not None:
        return f"{invocation.http.method} {invocation.http.url}"[:LONGEST_COMMAND]
    if tool.connector == "powershell" and invocation.script is not None:
        return invocation.script.text[:LONGEST_COMMAND]
    if tool.connector != "command" or _runs_a_program_of_ours(tool, check=invocation.check):
        return None
    return shlex.join(invocation.argv)[:LONGEST_COMMAND]
