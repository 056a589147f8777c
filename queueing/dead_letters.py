"""The DLQ: executions that the system will not try again by itself, and what a person can do about each."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models.functions import Now

from queueing.models import DeadLetter, DeadLetterState, DeadReason

ADVICE: dict[str, str] = {
    DeadReason.OUTCOME_UNKNOWN: (
        "A step was in flight when its worker died, or its answer was lost. Look at the machine, then say for each such"
        " step whether it succeeded, failed, or should be run again."
    ),
    DeadReason.ROLLBACK_FAILED: (
        "What the execution did was to be undone, and that failed, or nobody knows whether it did. Look at the machine,"
        " then say for each such step whether it is undone now, stays as it is, or is to be tried again."
    ),
    DeadReason.ATTEMPTS_EXHAUSTED: (
        "Every attempt ended with the loss of its worker. Find out what ends the workers (their log, memory) before"
        " you requeue it."
    ),
    DeadReason.ENGINE_ERROR: (
        "The engine itself failed. The error names the place; requeue it once that is mended, or discard it."
    ),
}


def lock_open(execution_id: int) -> None:
    """Lock the open DLQ entry of an execution, if it has one, to the end of the caller's transaction.

    Whoever decides on a DLQ entry locks it first and the execution's row after that. In the other order two who decide
    at once would wait for each other.
    """
    DeadLetter.objects.select_for_update(no_key=True).filter(
        execution_id=execution_id, state=DeadLetterState.OPEN
    ).first()


def close(execution_id: int, state: str, *, by: str, reason: str) -> int:
    """Close the open DLQ entry of an execution; return how many it had, 0 or 1. Part of the caller's transaction."""
    return close_many([execution_id], state, by=by, reason=reason)


def close_many(execution_ids: Sequence[int], state: str, *, by: str, reason: str) -> int:
    """The same for several; return how many entries were closed."""
    return DeadLetter.objects.filter(execution_id__in=execution_ids, state=DeadLetterState.OPEN).update(
        state=state, closed_at=Now(), closed_by=by, close_reason=reason
    )
