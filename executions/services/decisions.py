"""Approve, reject: one person's decision on a plan, or on a step or a wave of it, bound to what was shown.

A decision is made under the lock of the execution's row, in one transaction with what follows from it: its own row, its
event, the move, and the queue entry. So of several people at once each counts the ones before, and a crash between any
two writes leaves none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from executions.approval_points import WHOLE_PLAN, Point, named
from executions.file_changes import file_changes
from executions.models import Approval, Execution, StepTarget
from executions.services.decision_records import record_decision, refusals_recorded
from executions.services.entries import entries_of
from executions.services.records import conclude, move, remark
from executions.services.refusals import Refused, forbidden, not_found
from executions.services.unapproved import end_unapproved, points_asked_for
from executions.states import APPROVAL_REJECTED, NOT_APPROVED_IN_TIME, ExecutionStatus, StepStatus
from executions.target_changes import PlanOfTenant, changes_of
from queueing import queue
from safety import rbac
from safety.approvals import approvals_needed
from safety.masking import mask_text
from safety.models import User

log = logging.getLogger(__name__)

E = ExecutionStatus
S = StepStatus

MOST_NAMED = 5
NOT_IN_TIME = "Nobody approved it in time."


def approve(execution_id: int, *, by: User, comment: str = "", step: str | None = None, wave: int | None = None) -> str:
    """Record an approval; the last one that is needed puts the execution into the queue. Return its status.

    `step` and `wave` are what is approved: a step that it waits before, or a wave of it; "" for the plan as a whole;
    None for whatever waits now.
    Raises Refused: not_found, self_approval (403), forbidden, not_waiting_for_approval (409), already_decided (409),
    approval_expired (409), targets_changed (409), files_changed (409).
    """
    with refusals_recorded("approve", execution_id, by, step, wave), transaction.atomic():
        execution = _locked(execution_id, by)
        asked = _asked(execution, step, wave, by)
        _refuse_changed_targets(execution)
        _refuse_changed_files(execution)
        for one in asked:
            _decide(execution, one, by, approved=True, comment=comment)
        standing = _standing(execution)
        for one in asked:
            _tell_approval(execution, one, by, comment, given=len(standing.get(one, ())))
        if _is_left(execution, standing):
            return E.PENDING_APPROVAL
        entries = entries_of([execution.pk])  # before the move: it deletes what is known of the attempts
        if not move(execution.pk, E.PENDING_APPROVAL, E.QUEUED, actor=by.actor, reason=comment, status_reason=""):
            raise _not_waiting(execution)
        queue.enqueue(entries)
    return E.QUEUED


def reject(execution_id: int, *, by: User, comment: str = "", step: str | None = None, wave: int | None = None) -> str:
    """Reject an execution for good. Return its status.

    What it did before a step, or a wave, that is rejected stays done, unless that step says `on_failure: rollback`:
    then it is `cancelling` until a worker has undone it. Raises Refused like `approve`, but for targets_changed and
    files_changed.
    """
    with refusals_recorded("reject", execution_id, by, step, wave), transaction.atomic():
        execution = _locked(execution_id, by)
        asked = _asked(execution, step, wave, by)
        for one in asked:
            _decide(execution, one, by, approved=False, comment=comment)
            record_decision(execution, "reject", one, by, comment)
        status: str | None
        if points := [point for point in asked if point.step] or points_asked_for(execution):
            status = end_unapproved(execution, points, APPROVAL_REJECTED, actor=by.actor, comment=comment)
        else:
            ended = conclude(execution.pk, E.PENDING_APPROVAL, E.REJECTED, actor=by.actor, reason=comment)
            status = E.REJECTED if ended else None
        if status is None:
            raise _not_waiting(execution)
    return status


def expire_overdue(limit: int = 100) -> int:
    """Expire executions whose approval did not come in time, the longest overdue first. Return how many."""
    overdue = Execution.objects.filter(
        pending_approval__isnull=False, status=E.PENDING_APPROVAL, approval_expires_at__lte=Now()
    ).order_by("approval_expires_at", "pk")
    expired = 0
    for execution_id in list(overdue.values_list("pk", flat=True)[:limit]):
        try:
            expired += _expire(execution_id)
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # a bad one must not keep those behind it from their end
            log.exception("Execution %s could not be expired.", execution_id)
    return expired


@transaction.atomic
def _expire(execution_id: int) -> bool:
    """Expire one that was overdue when it was looked for; return whether it still was.

    Who decides on it holds its row, and is not waited for: the thread that claims asks this. Its time is compared again
    under the lock, not only its status: it may have been approved, have run, and wait again, before another step.
    """
    execution = (
        Execution.objects.select_for_update(no_key=True, skip_locked=True)
        .filter(pk=execution_id, status=E.PENDING_APPROVAL, approval_expires_at__lte=Now())
        .first()
    )
    if execution is None:
        return False
    points = points_asked_for(execution)
    ended: str | None
    if points:
        reason = f"Nobody approved {named(points)} in time."
        ended = end_unapproved(execution, points, NOT_APPROVED_IN_TIME, actor="system", comment=reason)
    else:
        reason = NOT_IN_TIME
        concluded = conclude(execution_id, E.PENDING_APPROVAL, E.EXPIRED, actor="system", reason=reason)
        ended = E.EXPIRED if concluded else None
    if ended is None:
        return False
    record_decision(execution, "expire", WHOLE_PLAN, None, reason, of=[point.data for point in points], to=ended)
    return True


def void_step_approvals(execution_ids: Collection[int], *, reason: str) -> int:
    """Have the approvals of steps that are to run once more count no longer: each was for one run. Return how many.

    In the caller's transaction, after those steps became pending again.
    """
    again = StepTarget.objects.filter(
        execution_id=OuterRef("execution_id"), step__key=OuterRef("step"), step__kind="step",
        step__status=S.PENDING, status=S.PENDING, attempt__gt=0,
    )  # fmt: skip
    rows = Approval.objects.standing().filter(Exists(again), execution_id__in=execution_ids)
    return rows.update(withdrawn_at=Now(), withdrawn_reason=f"The step is to run once more: {reason}")


# --- what is asked, and what has been given


def _locked(execution_id: int, by: User) -> Execution:
    """Return the execution with its row locked: of several approvers at once, each counts the ones before."""
    execution = Execution.objects.visible_to(by).select_for_update().filter(pk=execution_id).first()
    if execution is None:
        raise not_found(execution_id)
    if execution.status != E.PENDING_APPROVAL:
        raise _not_waiting(execution)
    if execution.actor_id == by.pk:
        raise Refused(
            "self_approval",
            "You asked for this execution yourself.",
            "Somebody else with the right to approve has to decide.",
            status=403,
        )
    if not rbac.can_approve(by, execution):
        raise forbidden("You may not approve this execution.", "Ask somebody with the role approver.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s <= statement_timestamp()", [execution.approval_expires_at])
        row = cursor.fetchone()
    if row and row[0]:
        raise Refused(
            "approval_expired",
            "The time to decide has run out.",
            "Ask for the plan to be submitted again.",
            status=409,
        )
    return execution


def _asked(execution: Execution, step: str | None, wave: int | None, by: User) -> list[Point]:
    """Return what is decided on: the steps and waves that wait for it, or WHOLE_PLAN.

    Both when it waits before a step, and somebody who approved the plan may not approve any more.
    """
    standing, points = _standing(execution), points_asked_for(execution)
    waiting = [point for point in points if point not in standing]
    for_plan = standing.get(WHOLE_PLAN, set())
    if not points or (len(for_plan) < approvals_needed(execution.approval_level) and by.pk not in for_plan):
        waiting.insert(0, WHOLE_PLAN)
    if step is None and wave is None:
        if not waiting:  # what waits, waits for somebody else: nothing may be decided here without a record of it
            raise _already_decided("You have decided on everything that waits.", "Another approver is needed.")
        return waiting
    chosen = _meant(waiting, step, wave)
    if chosen:
        return chosen
    if step != "" and _meant(points, step, wave):
        raise _already_decided("This step has been approved.", "Look at its page: another step may wait.")
    what = str(Point(step or "", wave or 0)) if step != "" else "The plan as a whole"
    what = f"{what[0].upper()}{what[1:]}"
    waits = named(points) if points else "the plan as a whole"
    raise Refused(
        "not_waiting_for_approval",
        f"{what} of execution {execution.pk} does not wait for approval now; {waits} does.",
        "Look at its page again, and decide on what waits.",
        status=409,
    )


def _meant(points: Sequence[Point], step: str | None, wave: int | None) -> list[Point]:
    """Return those of a step, and of a wave; of any where it is None."""
    return [point for point in points if step in (None, point.step) and wave in (None, point.wave)]


def _standing(execution: Execution) -> dict[Point, set[int]]:
    """Return who approves what: of this plan on these targets, by people who may still approve it.

    The claim asks the same again (engine/permits.py): what is withdrawn after this is found there.
    """
    rows = execution.approvals.standing().filter(plan_hash=execution.plan_hash, targets_hash=execution.targets_hash)
    given = [(Point(step, wave), by) for step, wave, by in rows.values_list("step", "wave", "by_id")]
    able = rbac.approvers_among({(by, execution.pk) for _, by in given})
    standing: dict[Point, set[int]] = {}
    for point, by in given:
        if (by, execution.pk) in able:
            standing.setdefault(point, set()).add(by)
    return standing


def _is_left(execution: Execution, standing: dict[Point, set[int]]) -> bool:
    """Whether more is needed before it may go on. Steps that wait together go on together."""
    needed = approvals_needed(execution.approval_level)
    if len(standing.get(WHOLE_PLAN, ())) < needed:
        return True
    return any(point not in standing for point in points_asked_for(execution))


def _refuse_changed_targets(execution: Execution) -> None:
    plan = PlanOfTenant(execution.tenant_id, execution.plan.document, execution.actor_id)
    changes = changes_of({execution.pk: plan}).get(execution.pk, [])
    if changes:
        way_out = "Have it cancelled or rejected, and the plan submitted again: it is then shown as it is now."
        raise Refused(
            "targets_changed",
            f"Since it was submitted its machines have changed: {' '.join(changes[:MOST_NAMED])}",
            way_out,
            status=409,
            errors=[
                {"code": "targets_changed", "path": "targets", "message": change, "how_to_fix": way_out}
                for change in changes[:100]
            ],
        )


def _refuse_changed_files(execution: Execution) -> None:
    """What was shown is approved: a playbook that is another by now, or is not on this host, was not."""
    if changes := file_changes(execution, execution.plan.document):
        raise Refused(
            "files_changed",
            " ".join(changes[:MOST_NAMED]),
            "Have it cancelled or rejected, and the plan submitted again: it is then shown with the files as they are.",
            status=409,
        )


def _decide(execution: Execution, point: Point, by: User, *, approved: bool, comment: str) -> None:
    try:
        with transaction.atomic():
            Approval.objects.create(
                execution=execution,
                by=by,
                step=point.step,
                wave=point.wave,
                plan_hash=execution.plan_hash,
                targets_hash=execution.targets_hash,
                approved=approved,
                comment=mask_text(comment),
            )
    except IntegrityError:
        raise _already_decided("You have decided on this before.", "Another approver is needed.") from None


def _tell_approval(execution: Execution, point: Point, by: User, comment: str, *, given: int) -> None:
    needed = 1 if point.step else approvals_needed(execution.approval_level)
    data = {"given": given, "needed": needed, "plan_hash": execution.plan_hash, **point.data}
    remark(execution.pk, "approval.given", actor=by.actor, reason=comment, data=data)
    record_decision(execution, "approve", point, by, comment, given=given, needed=needed)


# --- words


def _already_decided(message: str, how_to_fix: str) -> Refused:
    return Refused("already_decided", message, how_to_fix, status=409)


def _not_waiting(execution: Execution) -> Refused:
    return Refused(
        "not_waiting_for_approval",
        f"Execution {execution.pk} does not wait for approval: it is {execution.get_status_display().lower()}.",
        "Look at its page: somebody may have decided already.",
        status=409,
    )
