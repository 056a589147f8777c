"""Cancel: at once for what waits, by asking its worker for what runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, transaction

from executions.models import Execution
from executions.services.entries import entries_of
from executions.services.records import conclude, move
from executions.services.refusals import Refused, audited, forbidden, not_found
from executions.states import FINAL_EXECUTION, ExecutionStatus
from queueing import queue
from queueing.dead_letters import close, lock_open
from safety import audit, rbac
from safety.masking import mask_text
from safety.models import User

E = ExecutionStatus

# How a wish to stop begins that comes from an approver; every other begins with who wishes it. The engine tells them
# apart by it (engine/entry.py), and it is the code of an execution that ends so.
WITHDRAWN = "approval_withdrawn"

# Between two looks at an execution that was just being claimed, or handed back, when we looked.
RETRY_SECONDS = 0.02
TRIES = 100


UNDOABLE = """
SELECT EXISTS (
    SELECT FROM executions_executionplan p
     CROSS JOIN jsonb_array_elements(p.document -> 'steps') WITH ORDINALITY AS planned(step, position)
      JOIN executions_step s ON s.execution_id = p.execution_id AND s.position = planned.position
     WHERE p.execution_id = %s AND jsonb_typeof(planned.step -> 'rollback') = 'object'
       AND EXISTS (SELECT FROM executions_steptarget t WHERE t.step_id = s.id AND t.attempt > 0))
"""


@audited("execution.cancel")
def cancel(execution_id: int, *, by: User, reason: str) -> str:
    """Cancel one execution; return its status afterwards: cancelled, or cancelling while its worker stops it.

    Asking again while it is being cancelled changes nothing. Raises Refused: not_found, forbidden, already_final (409).
    """
    execution = Execution.objects.visible_to(by).filter(pk=execution_id).first()
    if execution is None:
        raise not_found(execution_id)
    if not rbac.can_cancel(by, execution):
        raise forbidden(
            "You may not cancel this execution.", "Ask the one who submitted it, an operator or an administrator."
        )
    for _ in range(TRIES):
        with transaction.atomic():  # the record and the change, together
            before = execution.status
            status = try_to_cancel(execution, by.actor, reason)
            if status is not None and status != before:
                audit.record(
                    "execution.cancel", by=by, object_type="execution", object_id=execution.pk,
                    object_name=execution.title, reason=reason, data={"from": before, "to": status},
                )  # fmt: skip
        if status is not None:
            return status
        time.sleep(RETRY_SECONDS)
        execution.refresh_from_db(fields=["status"])
    raise Refused("busy", "The execution kept changing hands.", "Try again in a moment.", status=503, retry_after=1)


def cancel_many(execution_ids: Sequence[int], *, by: User, reason: str) -> dict[int, str]:
    """Cancel each; return for each its status afterwards, or the code of the refusal."""
    answers: dict[int, str] = {}
    for execution_id in execution_ids:
        try:
            answers[execution_id] = cancel(execution_id, by=by, reason=reason)
        except Refused as refused:
            answers[execution_id] = refused.code
    return answers


def refuse_final(execution: Execution) -> None:
    """Refuse to stop what has ended."""
    raise Refused(
        "already_final",
        f"Execution {execution.pk} has already ended: {execution.get_status_display().lower()}.",
        "Nothing is left to cancel. To undo it, submit a plan that does.",
        status=409,
    )


def try_to_cancel(
    execution: Execution, actor: str, reason: str, *, why: str = "", said: str | None = None
) -> str | None:
    """Return the new status, or None when the execution moved on while we looked and it is to be looked at again.

    `why` is WITHDRAWN when it is stopped because its approval was, and `said` the sentence that its row then shows.
    Raises Refused(already_final).
    """
    wish = _Wish(actor, mask_text(reason), why, said)
    status = execution.status
    if status in FINAL_EXECUTION:
        refuse_final(execution)
    if status == E.CANCELLING:
        return status
    if status in (E.PENDING_APPROVAL, E.QUEUED) and has_something_to_undo(execution.pk):
        # It has run, and was handed back or waits for approval now: it ends when a worker has undone that.
        if status == E.PENDING_APPROVAL:
            return _bring_to_next_worker(execution, wish)
        return _ask_worker(execution, wish) or _ask_next_worker(execution, wish)
    if status == E.PENDING_APPROVAL:
        return E.CANCELLED if _conclude(execution, status, wish) else None
    if status == E.NEEDS_ATTENTION:
        with transaction.atomic():
            lock_open(execution.pk)
            if not _conclude(execution, status, wish):
                return None
            close(execution.pk, "discarded", by=actor, reason=mask_text(reason))
        return E.CANCELLED
    if status == E.QUEUED:
        return _cancel_queued(execution, wish) or _ask_worker(execution, wish)
    return _ask_worker(execution, wish) or _ask_next_worker(execution, wish)


def has_something_to_undo(execution_id: int) -> bool:
    """Whether a step has begun somewhere that says how it is undone."""
    with connection.cursor() as cursor:
        cursor.execute(UNDOABLE, [execution_id])
        row = cursor.fetchone()
    return bool(row and row[0])


@dataclass(frozen=True, slots=True)
class _Wish:
    """Who wants an execution stopped, and why."""

    actor: str
    reason: str
    why: str
    said: str | None

    @property
    def for_worker(self) -> str:
        said = f"{self.actor}: {self.reason}" if self.reason else self.actor
        return f"{self.why}: {said}" if self.why else said


def _conclude(execution: Execution, status: str, wish: _Wish) -> bool:
    return conclude(
        execution.pk,
        status,
        E.CANCELLED,
        actor=wish.actor,
        reason=wish.reason,
        status_reason=wish.said,
        error_code=wish.why or None,
    )


def _cancel_queued(execution: Execution, wish: _Wish) -> str | None:
    """Take it out of the queue if no worker has it; entry, locks, status and event in one transaction."""
    with transaction.atomic():
        if not queue.remove([execution.pk]):
            return None
        # Not queued any more: it was running when its worker was lost, and waits for its next attempt.
        if not _conclude(execution, E.QUEUED, wish):
            transaction.set_rollback(True)
            return None
    return E.CANCELLED


def _ask_worker(execution: Execution, wish: _Wish) -> str | None:
    """Leave the wish with the lease and tell the worker. Its ledger writes what becomes of it.

    The entry's row is locked by the UPDATE before the execution's: the order of the ledger's own writes. So either the
    worker's last commit came first (the entry is gone, no row is counted here) or it finds the status `cancelling`.
    """
    with transaction.atomic():
        if queue.ask_to_cancel(execution.pk, wish.for_worker) != 1:
            return None
        if not _move_to_cancelling(execution, execution.status, wish):
            transaction.set_rollback(True)
            return None
    return E.CANCELLING


def _ask_next_worker(execution: Execution, wish: _Wish) -> str | None:
    """Its worker was lost, and it waits for its next attempt: whoever claims it finds that it is to be cancelled.

    It is not cancelled here: what was in flight, or is to be undone, is for the engine. The rest of its backoff is
    spared.
    """
    with transaction.atomic():
        if not queue.hasten(execution.pk):
            return None
        if not _move_to_cancelling(execution, E.QUEUED if execution.status == E.QUEUED else E.RUNNING, wish):
            transaction.set_rollback(True)
            return None
    return E.CANCELLING


def _bring_to_next_worker(execution: Execution, wish: _Wish) -> str | None:
    """It waits for the approval of a step, without entry and locks: it gets both again, to undo what it did."""
    with transaction.atomic():
        entries = entries_of([execution.pk], at_once=True)  # before the move: it deletes what is known of the attempts
        if not _move_to_cancelling(execution, E.PENDING_APPROVAL, wish):
            transaction.set_rollback(True)
            return None
        queue.enqueue(entries)
    return E.CANCELLING


def _move_to_cancelling(execution: Execution, old: str, wish: _Wish) -> bool:
    return move(execution.pk, old, E.CANCELLING, actor=wish.actor, reason=wish.reason, status_reason=wish.said)
