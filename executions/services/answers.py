"""What a person says of a step of which only a person can say it, in rows and events."""

from __future__ import annotations

from typing import Any

from executions.models import NOT_WELL, ROLLBACK, Step, StepTarget
from executions.services.records import remark
from executions.services.refusals import Refused
from executions.states import ANSWER_MOVES, NOT_UNDONE, RERUN_MOVES, STEP_MOVES, StepStatus
from safety.masking import mask_text

S = StepStatus

OUTCOMES = {"succeeded": S.SUCCEEDED, "failed": S.FAILED, "run_again": S.PENDING}

_MOVES = STEP_MOVES | RERUN_MOVES | ANSWER_MOVES


def answer(step: Step, new: str, *, actor: str, reason: str) -> None:
    """Write a person's answer to the step and to those of its targets that waited for it, each with its event.

    A step is not all well because these targets are: with others that failed, or have not run, the engine goes on with
    it and judges it by all of its targets. Raises Refused: not_waiting (409).
    """
    targets = list(step.targets.all())
    waited = [target for target in targets if _waits(step, target)]
    for old in {target.status for target in waited}:
        changes = _changes(step, old, new, reason)
        asked = [target.pk for target in waited if target.status == old]
        if step.targets.filter(pk__in=asked, status=old).update(**changes) != len(asked):
            raise _answered()
    if len(targets) > 1:
        for target in waited:
            _tell(step, "target", target.status, new, actor=actor, reason=reason, data=_named(target))
    old, step_new = step.status, _status_of_step(step, targets, waited, new)
    changes = {**_changes(step, old, new, reason), "status": step_new}
    if Step.objects.filter(pk=step.pk, status=old).update(**changes) != 1:
        raise _answered()
    data = {"step_id": step.pk, **(_named(targets[0]) if len(targets) == 1 else {})}
    _tell(step, "step", old, step_new, actor=actor, reason=reason, data=data)
    if step.kind == ROLLBACK and new == S.FAILED:
        data = {"step": step.key, "step_id": step.pk, "named": [target.name for target in waited[:50]]}
        remark(step.execution_id, "rollback.let_stand", actor=actor, reason=reason, data=data)


def _answered() -> Refused:
    return Refused("not_waiting", "Somebody else has just answered.", "Look at the page again.", status=409)


def _waits(step: Step, target: StepTarget) -> bool:
    if target.status == S.UNKNOWN:
        return True
    return step.kind == ROLLBACK and target.status in NOT_WELL and target.error_code != NOT_UNDONE


def _status_of_step(step: Step, targets: list[StepTarget], waited: list[StepTarget], new: str) -> str:
    others = [target.status for target in targets if target not in waited]
    if new == S.SUCCEEDED:
        return S.SUCCEEDED if all(status == S.SUCCEEDED for status in others) else S.PENDING
    if step.kind == ROLLBACK and new == S.FAILED:
        if S.PENDING in others:
            return S.PENDING
        return S.FAILED if step.status == S.UNKNOWN else step.status
    return new


def _changes(step: Step, old: str, new: str, reason: str) -> dict[str, Any]:
    """Return the columns of a step or target that a person's answer changes."""
    if new == S.PENDING:
        return {"status": new, "error": "", "error_code": "", "finished_at": None}
    said = f"Resolved: {mask_text(reason)}"
    if step.kind == ROLLBACK and new == S.FAILED:
        return {"status": S.FAILED if old == S.UNKNOWN else old, "error": said, "error_code": NOT_UNDONE}
    return {"status": new, "error": said, "error_code": ""}


def _tell(step: Step, what: str, old: str, new: str, *, actor: str, reason: str, data: dict[str, Any]) -> None:
    """Write the event of a move; what stays as it is has none."""
    if (old, new) not in _MOVES:
        return
    kind = {"kind": step.kind} if step.kind == ROLLBACK else {}
    data = {"step": step.key, **kind, **data, "from": old, "to": new, "resolved": True}
    remark(step.execution_id, f"{what}.{_MOVES[old, new]}", actor=actor, reason=reason, data=data)


def _named(target: StepTarget) -> dict[str, Any]:
    return {"target": target.name, "step_target": target.pk, "attempt": target.attempt}
