"""The words of a plan: every other name that callers use for ours is mapped here, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

OnFailure = Literal["stop", "continue", "rollback"]

# Ours -> what callers may write, the first that is given counts.
STEP_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "step_id"),
    "tool": ("tool", "tool_name", "type"),
    "inputs": ("inputs", "parameters", "input_data"),
    "description": ("description", "name"),
    "depends_on": ("depends_on",),
    "execution_order": ("execution_order",),
    "preconditions": ("preconditions",),
    "success_criteria": ("success_criteria",),
    "failure_handling": ("failure_handling",),
    "estimated_duration": ("estimated_duration",),
    "targets": ("targets",),
    "on_failure": ("on_failure",),
    "retry": ("retry",),
    "timeout_seconds": ("timeout_seconds", "timeout"),
    "run_as": ("run_as", "become_user", "sudo_user"),
    "become": ("become", "sudo"),
    "idempotent": ("idempotent",),
    "requires_approval": ("requires_approval",),
    "success": ("success",),
    "rollback": ("rollback",),
    "fan_out": ("fan_out",),
    "target_asset_id": ("target_asset_id", "asset_id"),
    "target_hostname": ("target_hostname", "target_host", "host", "target"),
    "target_hosts": ("target_hosts",),
    "connection_type": ("connection_type",),
    "use_asset_credentials": ("use_asset_credentials",),
    # Said by planners, told nobody anything that we act on: the asset decides.
    "requires_credentials": ("requires_credentials",),
    "execution_location": ("execution_location",),
    "tool_metadata": ("tool_metadata",),
}
# Found among a step's inputs, these speak of the step, unless the tool has an input of that name.
FIELDS_AMONG_INPUTS: Final = (
    "target_asset_id",
    "target_hostname",
    "target_hosts",
    "connection_type",
    "timeout_seconds",
    "use_asset_credentials",
)
PLAN_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "title": ("title", "name"),
    "environment": ("environment",),
    "labels": ("labels",),
    "check": ("check", "check_mode", "dry_run"),
    "steps": ("steps",),
    "safety_checks": ("safety_checks",),
    "rollback_plan": ("rollback_plan",),
    "observability": ("observability",),
    "execution_metadata": ("execution_metadata",),
}

# Words of other systems that would change what is done: left out silently they would do harm.
MEANT_IN_A_STEP: Final[Mapping[str, str]] = {
    "dependencies": "depends_on",
    "needs": "depends_on",
    "requires": "depends_on",
    "after": "depends_on",
    "args": "inputs",
    "arguments": "inputs",
    "params": "inputs",
    "command": "inputs",
    "cmd": "inputs",
    "argv": "inputs",
    "hosts": "targets",
    "servers": "targets",
    "assets": "targets",
    "groups": "targets",
    "on_error": "on_failure",
    "continue_on_error": "on_failure",
    "ignore_errors": "on_failure",
    "retries": "retry",
    "max_attempts": "retry",
    "max_concurrent": "fan_out",
    "max_failures": "fan_out",
    "exit_codes": "success",
    "when": "",
    "if": "",
    "condition": "",
    "loop": "",
    "until": "",
}
OF_A_STEP_ALONE: Final = frozenset(
    {"tool", "inputs", "targets", "on_failure", "retry", "timeout_seconds", "requires_approval", "success", "fan_out"}
    | {"run_as", "become"}
)

CONNECTIONS: Final[Mapping[str, str]] = {
    "ssh": "ssh",
    "powershell": "powershell",
    "winrm": "powershell",
    "api": "api",
    "http": "api",
    "https": "api",
    "local": "local",
}

_PROSE = re.compile(r"\W*(abort|stop|continue|roll[ -]?back)", re.IGNORECASE)
_YES = frozenset({"true", "yes", "on"})
_NO = frozenset({"false", "no", "off"})


def on_failure_of(prose: str) -> OnFailure:
    """What a planner's failure handling means, from how it begins; whatever is not understood means stop."""
    found = _PROSE.match(prose)
    if found is None or found.group(1).lower() in ("abort", "stop"):
        return "stop"
    return "continue" if found.group(1).lower() == "continue" else "rollback"


def boolean_of(value: object) -> bool | None:
    """A truth value, written as one or as a word; None when it is neither."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    return True if word in _YES else False if word in _NO else None


def is_given(value: object) -> bool:
    """Whether a field says anything: planners write null, empty text and empty lists for what they leave out."""
    return value is not None and value != "" and value != [] and value != {}


def folded(name: str) -> str:
    """A name without case, hyphens and underscores: dependsOn and depends-on are depends_on misspelled."""
    return name.replace("_", "").replace("-", "").replace(" ", "").lower()


STEP_NAMES: Final[Mapping[str, str]] = {name: ours for ours, names in STEP_FIELDS.items() for name in names}
PLAN_NAMES: Final[Mapping[str, str]] = {name: ours for ours, names in PLAN_FIELDS.items() for name in names}
NAMES_AMONG_INPUTS: Final[Mapping[str, str]] = {
    name: ours for ours in FIELDS_AMONG_INPUTS for name in STEP_FIELDS[ours]
}
