"""What a worker knows of an execution that it runs: its steps and targets, as they are and as they were planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from executions.plans.secret_references import references_in
from executions.plans.templates import Template, templates_in
from executions.plans.waves import part_of
from executions.states import StepStatus

S = StepStatus

OVER = frozenset({S.SUCCEEDED, S.FAILED, S.SKIPPED, S.CANCELLED, S.TIMED_OUT, S.UNKNOWN})


@dataclass(slots=True)
class TargetState:
    """One target of a step. `planned` is the target as the stored plan has it; None for a step without targets."""

    id: int
    planned: dict[str, Any] | None
    status: str
    attempt: int
    exit_code: int | None
    stdout: str
    stderr: str = ""
    recalled: bool = False  # its output is what the table has, so masked
    error_code: str = ""

    @property
    def name(self) -> str:
        return self.planned["name"] if self.planned else ""


@dataclass(slots=True)
class StepState:
    """One step. `needed` says whether a later step refers to its output, `names_secrets` whether its inputs do."""

    id: int
    key: str
    planned: dict[str, Any]
    status: str
    targets: list[TargetState] = field(default_factory=list)
    needed: bool = False
    names_secrets: bool = False

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    @property
    def unchecked(self) -> str:
        """Why check mode skips the step; empty for one that is run."""
        why: str = self.planned.get("unchecked", "")
        return why

    @property
    def lets_go_on(self) -> bool:
        """Whether steps that depend on this one may begin."""
        if self.status == S.SUCCEEDED or (self.status == S.SKIPPED and self.unchecked):
            return True
        return self.status in (S.FAILED, S.TIMED_OUT) and self.planned["on_failure"] == "continue"

    def tolerated_failures(self) -> int:
        """How many targets may fail before the step has failed."""
        return part_of(self.planned["fan_out"]["max_failures"], len(self.targets))


@dataclass(slots=True)
class ExecutionState:
    """An execution as it was loaded under a lease.

    approvals: (step's id or '', id of the user) of each one that was given to this plan on these targets.
    reach: by asset, how it is reached (engine/reach.py).
    """

    id: int
    tenant_id: int
    actor_id: int
    status: str
    action_class: str
    step_seconds: float
    remaining_seconds: float
    document: dict[str, Any]
    steps: list[StepState]
    approval_level: int = 0
    approvals: list[tuple[str, int]] = field(default_factory=list)
    reach: dict[int, dict[str, Any]] = field(default_factory=dict)

    def asset_ids(self) -> set[int]:
        """Return every asset that the plan touches."""
        return {target.planned["asset_id"] for step in self.steps for target in step.targets if target.planned}

    @property
    def names_secrets(self) -> bool:
        """Whether some step names a secret."""
        return bool(self.document.get("secrets"))

    def uses(self) -> list[tuple[str, set[int]]]:
        """Return (action class, assets) as they are used; one with no assets for a plan without targets."""
        by_class: dict[str, set[int]] = {}
        for step in self.steps:
            for target in step.targets:
                if target.planned:
                    by_class.setdefault(step.planned["action_class"], set()).add(target.planned["asset_id"])
        return list(by_class.items()) or [(self.action_class, set())]


def state_of(loaded: dict[str, Any]) -> ExecutionState:
    """Build the state from one element of executions_load's answer."""
    document = loaded["document"]
    planned_steps = document["steps"]
    steps = [StepState(row[0], row[1], planned_steps[number], row[2]) for number, row in enumerate(loaded["steps"])]
    by_id = {step.id: step for step in steps}
    codes = loaded["error_codes"] or {}
    for target_id, step_id, position, status, attempt, exit_code, stdout in loaded["targets"]:
        step = by_id[step_id]
        planned = step.planned["targets"]
        target = TargetState(
            target_id, planned[position - 1] if planned else None, status, attempt, exit_code, stdout, recalled=True
        )
        target.error_code = codes.get(str(target_id), "")
        step.targets.append(target)
    for key in _referred_to(planned_steps):
        for step in steps:
            if step.key == key:
                step.needed = True
    if document.get("secrets"):
        for step in steps:
            step.names_secrets = bool(references_in(step.planned["inputs"]))
    return ExecutionState(
        id=loaded["id"],
        tenant_id=loaded["tenant_id"],
        actor_id=loaded["actor_id"],
        status=loaded["status"],
        action_class=loaded["action_class"],
        step_seconds=loaded["step_seconds"],
        remaining_seconds=float(loaded["remaining_seconds"]),
        document=document,
        steps=steps,
        approval_level=loaded["approval_level"],
        approvals=[(step, user_id) for step, user_id in loaded["approvals"] or ()],
    )


def taken_from(inputs: dict[str, Any]) -> set[str]:
    """Return the ids of the steps whose output the templates of these inputs take."""
    return {
        template.step_id
        for _, template in templates_in(inputs)
        if isinstance(template, Template) and template.step_id is not None
    }


def _referred_to(planned_steps: list[dict[str, Any]]) -> set[str]:
    """Return the ids of the steps whose output some template takes."""
    if len(planned_steps) < 2:
        return set()
    return {key for step in planned_steps if step["inputs"] for key in taken_from(step["inputs"])}
