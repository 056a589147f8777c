"""Approve and reject: one person's decision, bound to the plan that was shown."""

from __future__ import annotations

from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from executions.models import Approval, Execution
from executions.services.entries import entries_of
from executions.services.records import conclude, move, remark
from executions.services.refusals import Refused, forbidden, not_found
from executions.states import ExecutionStatus
from queueing import queue
from safety import rbac
from safety.approvals import approvals_needed
from safety.models import User

E = ExecutionStatus


def approve(execution_id: int, *, by: User, comment: str = "") -> str:
    """Record an approval; the last one that is needed puts the execution into the queue. Return its status.

    Raises Refused: not_found, self_approval (403), forbidden, not_waiting_for_approval (409), already_decided (409).
    """
    with transaction.atomic():
        execution = _locked(execution_id, by)
        _decide(execution, by, approved=True, comment=comment)
        given = execution.approvals.filter(approved=True, plan_hash=execution.plan_hash).count()
        needed = approvals_needed(execution.approval_level)
        remark(
            execution.pk,
            "approval.given",
            actor=by.actor,
            reason=comment,
            data={"given": given, "needed": needed, "plan_hash": execution.plan_hash},
        )
        if given < needed:
            return E.PENDING_APPROVAL
        if not move(execution.pk, E.PENDING_APPROVAL, E.QUEUED, actor=by.actor, reason=comment, status_reason=""):
            raise _not_waiting(execution)
        queue.enqueue(entries_of([execution.pk]))
    return E.QUEUED


def reject(execution_id: int, *, by: User, comment: str = "") -> str:
    """Reject an execution for good. Return its status. Raises Refused like `approve`."""
    with transaction.atomic():
        execution = _locked(execution_id, by)
        _decide(execution, by, approved=False, comment=comment)
        if not conclude(execution.pk, E.PENDING_APPROVAL, E.REJECTED, actor=by.actor, reason=comment):
            raise _not_waiting(execution)
    return E.REJECTED


def expire_overdue(limit: int = 100) -> int:
    """Expire executions whose approval did not come in time. Return how many."""
    overdue = Execution.objects.filter(status=E.PENDING_APPROVAL, approval_expires_at__lte=Now())
    expired = 0
    for execution_id in overdue.values_list("pk", flat=True)[:limit]:
        expired += conclude(
            execution_id, E.PENDING_APPROVAL, E.EXPIRED, actor="system", reason="Nobody approved it in time."
        )
    return expired


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


def _decide(execution: Execution, by: User, *, approved: bool, comment: str) -> None:
    try:
        with transaction.atomic():
            Approval.objects.create(
                execution=execution, by=by, plan_hash=execution.plan_hash, approved=approved, comment=comment
            )
    except IntegrityError:
        raise Refused(
            "already_decided", "You have decided on this execution before.", "Another approver is needed.", status=409
        ) from None


def _not_waiting(execution: Execution) -> Refused:
    return Refused(
        "not_waiting_for_approval",
        f"Execution {execution.pk} does not wait for approval: it is {execution.get_status_display().lower()}.",
        "Look at its page: somebody may have decided already.",
        status=409,
    )
