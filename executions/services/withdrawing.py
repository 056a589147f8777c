"""Withdraw: an approver takes an approval back, and what may not go on without it is stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from executions.approval_points import WHOLE_PLAN, Point, named
from executions.models import Approval, Execution, Step, StepTarget
from executions.services.decision_records import record_decision, refusals_recorded
from executions.services.records import remark
from executions.services.refusals import Refused, not_found
from executions.services.stop import (
    RETRY_SECONDS,
    TRIES,
    WITHDRAWN,
    has_something_to_undo,
    refuse_final,
    try_to_cancel,
)
from executions.services.unapproved import points_asked_for, what_was_done
from executions.states import FINAL_STEP, ExecutionStatus
from executions.tally import wave_of
from queueing.dead_letters import lock_open
from safety.models import User

E = ExecutionStatus


def withdraw_approval(execution_id: int, *, by: User, reason: str, step: str | None = None) -> str:
    """Take back an approval that `by` gave; what may not run without it is stopped. Return the execution's status.

    Before anything has begun, the execution waits for somebody else to approve. Later it is cancelled: at once when no
    worker has it, within a second by its worker. With `step` that step's approval, with None all of the user's.
    Raises Refused: not_found, already_final (409), nothing_to_withdraw (409), reason_required (422).
    """
    if not reason.strip():
        raise Refused("reason_required", "A reason is needed.", "Say why in `reason`: everybody reads it.", status=422)
    with refusals_recorded("withdraw_approval", execution_id, by):
        for _ in range(TRIES):
            with transaction.atomic():
                status = _try_to_withdraw(execution_id, by, reason, step)
                if status is not None:
                    return status
                transaction.set_rollback(True)
            time.sleep(RETRY_SECONDS)
    raise Refused("busy", "The execution kept changing hands.", "Try again in a moment.", status=503, retry_after=1)


def _try_to_withdraw(execution_id: int, by: User, reason: str, step: str | None) -> str | None:
    """Withdraw and stop in the caller's transaction; None when the execution moved on meanwhile: look again.

    What runs is stopped first: that locks the queue entry before the execution, in the order of the ledger.
    """
    execution = Execution.objects.visible_to(by).filter(pk=execution_id).first()
    if execution is None:
        raise not_found(execution_id)
    if execution.is_final:
        refuse_final(execution)
    own = execution.approvals.standing().filter(by=by)
    chosen = {approval.pk: approval.point for approval in own if step is None or approval.step == step}
    rows = {row.key: row for row in execution.steps.filter(kind="step")}
    over = _waves_over(execution, rows)
    chosen = {
        pk: point
        for pk, point in chosen.items()
        if point not in over and not (point.step in rows and rows[point.step].status in FINAL_STEP)
    }
    if not chosen:
        raise Refused(
            "nothing_to_withdraw",
            "You gave no approval that could still be withdrawn.",
            "Only who gave an approval withdraws it, before the step that it is for has run; to stop it, cancel it.",
            status=409,
        )
    said = f"{by.username} withdrew the approval of {named(sorted(chosen.values()))}: {reason}"
    status: str | None = execution.status
    if execution.status in (E.QUEUED, E.RUNNING):
        status = try_to_cancel(execution, by.actor, reason, why=WITHDRAWN, said=said)
    elif not _stays(execution):
        return None
    elif execution.status == E.PENDING_APPROVAL:
        has_begun = {Point(row.key) for row in rows.values() if row.started_at is not None}
        if points_asked_for(execution):
            has_begun.add(WHOLE_PLAN)
        # Of the rest nothing has begun: somebody else may approve it.
        if has_begun & set(chosen.values()):
            said = _with_what_was_done(execution, said)
            status = try_to_cancel(execution, by.actor, reason, why=WITHDRAWN, said=said)
    if status is None:
        return None
    # Who else withdraws them at this moment waits here for their rows, and then finds none left.
    given = Approval.objects.standing().filter(pk__in=chosen)
    if given.update(withdrawn_at=Now(), withdrawn_reason=reason) != len(chosen):
        return None
    of = sorted(chosen.values())
    record_decision(execution, "withdraw_approval", WHOLE_PLAN, by, reason, of=[point.step for point in of])
    if status != E.CANCELLED:  # the last event of an execution is its end; the end then says it
        data: dict[str, list[Any]] = {"steps": [point.step for point in of if point.step]}
        if any(point.wave for point in of):
            data["waves"] = [point.wave for point in of if point.step]
        remark(execution.pk, "approval.withdrawn", actor=by.actor, reason=reason, data=data)
    return status


def _stays(execution: Execution) -> bool:
    """Lock an execution that no worker runs, to the end of the transaction; return whether it is as it was read.

    One that needs attention may be put back into the queue in this moment: unless that is waited for, a worker could
    take it while the approvals still stand, and nobody would tell it to stop. First its entry in the DLQ, as there.
    """
    if execution.status == E.NEEDS_ATTENTION:
        lock_open(execution.pk)
    return Execution.objects.select_for_update().filter(pk=execution.pk, status=execution.status).exists()


def _with_what_was_done(execution: Execution, said: str) -> str:
    """Say that of one that ends at once. What is to be undone first, its worker says."""
    return said if has_something_to_undo(execution.pk) else f"{said}. {what_was_done(execution)}"


def _waves_over(execution: Execution, steps: Mapping[str, Step]) -> set[Point]:
    """Return the waves of the steps, by their ids, of which nothing is left to begin."""
    left: set[Point] = set()
    rows = StepTarget.objects.filter(execution=execution, step__kind="step").exclude(status__in=FINAL_STEP)
    for key, position in rows.values_list("step__key", "position"):
        left.add(Point(key, wave_of(steps[key].waves, position) or 0))
    every = {Point(key, number) for key, step in steps.items() for number in range(1, len(step.waves or ()) + 1)}
    return every - left
