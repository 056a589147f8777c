"""What a worker knows of an execution that it runs: its steps and targets, as they are and as they were planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from executions.approval_points import Point
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
    error: str = ""
    acted: bool | None = None  # whether some attempt may have changed something; None: this worker has not seen any

    @property
    def name(self) -> str:
        return self.planned["name"] if self.planned else ""

    def take_in(self, *, acted: bool) -> None:
        """Note of an attempt that has ended whether it may have changed something. What the attempts of a lost worker
        did, nobody knows any more."""
        before = self.attempt > 1 if self.acted is None else self.acted
        self.acted = acted or before


@dataclass(slots=True)
class StepState:
    """One step. `needed` says whether a later step refers to its output, `names_secrets` whether its inputs do.

    ended: the place of its end among those of the others. One of the kind "rollback" undoes the step of the same key.
    """

    id: int
    key: str
    planned: dict[str, Any]
    status: str
    targets: list[TargetState] = field(default_factory=list)
    needed: bool = False
    names_secrets: bool = False
    kind: str = "step"
    ended: int = 0
    error_code: str = ""
    error: str = ""

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

    approvals: (what it approves, id of the user) of each one that was given to this plan on these targets.
    refused: code and sentence, when it was rejected or forgotten while it waited for people, and is to undo its work.
    reach: by asset, how it is reached (engine/reach.py).
    rollbacks: what undoes steps, in the order in which they are undone; there from the moment that it begins.
    undoing: what was said as it began; `answered`: whether a person has said since then how it goes on; `spent`: how
    each attempt that had it since it was told to hurry ended, and after how many seconds.
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
    approvals: list[tuple[Point, int]] = field(default_factory=list)
    refused: tuple[str, str] | None = None
    reach: dict[int, dict[str, Any]] = field(default_factory=dict)
    rollbacks: list[StepState] = field(default_factory=list)
    undoing: dict[str, Any] | None = None

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
            for action_class in _classes(step.planned):
                for target in step.targets:
                    if target.planned:
                        by_class.setdefault(action_class, set()).add(target.planned["asset_id"])
        return list(by_class.items()) or [(self.action_class, set())]


def state_of(loaded: dict[str, Any]) -> ExecutionState:
    """Build the state from one element of executions_load's answer."""
    document = loaded["document"]
    planned_steps = document["steps"]
    steps, rollbacks = _steps_of(loaded["steps"], planned_steps)
    by_id = {step.id: step for step in (*steps, *rollbacks)}
    faults = {number: (error_code, error) for number, error_code, error in loaded["faults"] or ()}
    for target_id, step_id, position, status, attempt, exit_code, stdout in loaded["targets"]:
        step = by_id[step_id]
        planned = step.planned["targets"]
        error_code, error = faults.get(target_id, ("", ""))
        step.targets.append(
            TargetState(
                target_id, planned[position - 1] if planned else None, status, attempt, exit_code, stdout,
                recalled=True, error_code=error_code, error=error,
            )
        )  # fmt: skip
    for key in _referred_to(planned_steps):
        for step in steps:
            if step.key == key:
                step.needed = True
    if document.get("secrets"):
        for step in by_id.values():
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
        approvals=[
            *((Point(step), user_id) for step, user_id in loaded["approvals"] or ()),
            *((Point(step, wave), user_id) for step, wave, user_id in loaded["wave_approvals"] or ()),
        ],
        refused=tuple(loaded["refused"]) if loaded["refused"] else None,
        rollbacks=rollbacks,
        undoing=loaded["rollback"],
    )


def planned_rollback(planned: dict[str, Any]) -> dict[str, Any]:
    """Return what undoes a stored step in the form of a stored step. Where, and on how many at once, is the step's own.

    A plan of an earlier release says no more than tool and inputs: then it is not idempotent, and is tried once.
    """
    undo = planned["rollback"]
    return {
        "id": planned["id"],
        "tool": undo["tool"],
        "inputs": undo["inputs"],
        "action_class": undo.get("action_class", "modify"),
        "targets": planned["targets"],
        "resolved": planned.get("resolved"),
        "depends_on": [],
        "on_failure": "stop",
        "retry": undo.get("retry") or {"max_attempts": 1, "delay_seconds": 0.0},
        "timeout_seconds": undo.get("timeout_seconds"),
        "idempotent": undo.get("idempotent", False),
        "success": undo.get("success") or {"exit_codes": [0], "stdout_matches": None},
        "fan_out": {**planned["fan_out"], "max_failures": 0},
        "estimated_duration": undo.get("estimated_duration", 0.0),
        "max_output_bytes": undo.get("max_output_bytes", planned["max_output_bytes"]),
        "rollback": None,
        **({"files": undo["files"]} if "files" in undo else {}),
        **({"run_as": planned["run_as"]} if planned.get("run_as") else {}),
    }


def _steps_of(rows: list[list[Any]], planned_steps: list[dict[str, Any]]) -> tuple[list[StepState], list[StepState]]:
    """Return the steps of the plan, and those that undo them, without their targets."""
    steps = [StepState(row[0], row[1], planned, row[2]) for row, planned in zip(rows, planned_steps, strict=False)]
    planned_by_key = {planned["id"]: planned for planned in planned_steps}
    rollbacks = [
        StepState(row[0], row[1], planned_rollback(planned_by_key[row[1]]), row[2], kind="rollback")
        for row in rows[len(steps) :]
    ]
    ended: list[tuple[float, StepState]] = []
    for row, step in zip(rows, (*steps, *rollbacks), strict=True):
        if len(row) > 3:  # it has begun
            step.error_code, step.error = row[4], row[5]
            ended.append((float(row[6] or 0), step))
    for place, (_, step) in enumerate(sorted(ended, key=lambda one: one[0]), 1):
        step.ended = place
    return steps, rollbacks


def _classes(planned: dict[str, Any]) -> set[str]:
    """What a step may do to its targets: by itself, and when it is undone."""
    undo = planned.get("rollback")
    return {planned["action_class"], *([undo.get("action_class", "modify")] if undo else ())}


def taken_from(inputs: dict[str, Any]) -> set[str]:
    """Return the ids of the steps whose output the templates of these inputs take."""
    return {
        template.step_id
        for _, template in templates_in(inputs)
        if isinstance(template, Template) and template.step_id is not None
    }


def _referred_to(planned_steps: list[dict[str, Any]]) -> set[str]:
    """Return the ids of the steps whose output some template takes, of a step or of what undoes one."""
    if len(planned_steps) < 2 and not any(step.get("rollback") for step in planned_steps):
        return set()
    inputs = [step["inputs"] for step in planned_steps]
    inputs += [step["rollback"]["inputs"] for step in planned_steps if step.get("rollback")]
    return {key for one in inputs if one for key in taken_from(one)}
