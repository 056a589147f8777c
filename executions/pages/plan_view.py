"""A stored plan as people read it: inputs with secrets named and sensitive values hidden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from executions.models import Execution
from executions.tools import get_catalog
from safety import rbac
from safety.models import User

HIDDEN = "••••••"
MOST_SHOWN = 4000  # characters of one value


@dataclass(frozen=True, slots=True)
class InputView:
    """`kind` is text, secret (then `value` is its path) or hidden."""

    name: str
    value: str
    kind: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class PlanStep:
    """`undo` are the inputs of its rollback; empty when it has none."""

    plan: Mapping[str, Any]
    inputs: list[InputView]
    undo: list[InputView]

    @property
    def targets(self) -> list[str]:
        return [target["name"] for target in self.plan.get("targets", [])]


def plan_steps(document: Mapping[str, Any]) -> list[PlanStep]:
    """Return the steps of a compiled plan with their inputs as they may be shown."""
    return [_step(step) for step in document.get("steps", [])]


def bound_parts(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps, and the rollbacks, of a stored plan that take in files of the installation."""
    for step in document.get("steps", []):
        for part in (step, step.get("rollback") or {}):
            if "files" in part:
                yield part


def may_read_files(user: User, execution: Execution) -> bool:
    """Whether a user may read the playbooks of an execution: who submits plans, or decides on this one."""
    return rbac.can_submit(user) or rbac.can_approve(user, execution)


def _step(step: Mapping[str, Any]) -> PlanStep:
    undo = step.get("rollback") or {}
    return PlanStep(
        step,
        inputs_of(step["tool"], step.get("inputs") or {}),
        inputs_of(undo["tool"], undo.get("inputs") or {}) if undo else [],
    )


def inputs_of(tool_name: str, inputs: Mapping[str, Any]) -> list[InputView]:
    """Return the inputs of one step as they may be shown."""
    tool = get_catalog().get(tool_name)
    sensitive = {name for name, parameter in tool.parameters.items() if parameter.sensitive} if tool else set()
    return [_input(name, value, name in sensitive) for name, value in inputs.items()]


def _input(name: str, value: Any, sensitive: bool) -> InputView:
    if _is_secret(value):
        return InputView(name, _secret_name(value), "secret")
    if sensitive:
        return InputView(name, HIDDEN, "hidden")
    text = value if isinstance(value, str) else _yaml(_masked(value))
    return InputView(name, text[:MOST_SHOWN], "text", len(text) > MOST_SHOWN)


def _masked(value: Any) -> Any:
    if _is_secret(value):
        return f"(secret {_secret_name(value)})"
    if isinstance(value, Mapping):
        return {key: _masked(inner) for key, inner in value.items()}
    return [_masked(inner) for inner in value] if isinstance(value, list) else value


def _is_secret(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("type") == "secret" and "path" in value


def _secret_name(value: Mapping[str, Any]) -> str:
    key = f", key {value['key']}" if value.get("key") else ""
    return f"{value['path']}{key}"


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return text.removesuffix("\n").removesuffix("\n...")
