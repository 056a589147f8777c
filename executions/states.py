"""The states of executions, steps and targets, and the only moves between them that are legal."""

from __future__ import annotations

from django.db import models


class ExecutionStatus(models.TextChoices):
    PENDING_APPROVAL = "pending_approval"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    NEEDS_ATTENTION = "needs_attention"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PARTIAL = "partial"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"
    EXPIRED = "expired"


class StepStatus(models.TextChoices):
    """Of a step, and of each of its targets."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    UNKNOWN = "unknown"


E = ExecutionStatus
S = StepStatus

FINAL_EXECUTION = frozenset({E.SUCCEEDED, E.FAILED, E.PARTIAL, E.CANCELLED, E.TIMED_OUT, E.REJECTED, E.EXPIRED})
FINAL_STEP = frozenset({S.SUCCEEDED, S.FAILED, S.SKIPPED, S.CANCELLED, S.TIMED_OUT, S.UNKNOWN})

# A finished execution of these states lets the same request be submitted again within the idempotency window.
NOT_BLOCKING = frozenset({E.FAILED, E.PARTIAL, E.CANCELLED, E.TIMED_OUT, E.REJECTED, E.EXPIRED})

# (from, to) -> the kind of the event that the move writes. A pair that is not here is a bug.
EXECUTION_MOVES: dict[tuple[str, str], str] = {
    (E.PENDING_APPROVAL, E.QUEUED): "execution.approved",
    (E.PENDING_APPROVAL, E.REJECTED): "execution.rejected",
    (E.PENDING_APPROVAL, E.EXPIRED): "execution.expired",
    (E.PENDING_APPROVAL, E.CANCELLED): "execution.cancelled",
    (E.PENDING_APPROVAL, E.CANCELLING): "execution.cancelling",  # in the middle: what was done is to be undone
    (E.QUEUED, E.RUNNING): "execution.running",
    (E.QUEUED, E.CANCELLED): "execution.cancelled",
    (E.QUEUED, E.CANCELLING): "execution.cancelling",
    (E.QUEUED, E.NEEDS_ATTENTION): "execution.needs_attention",
    (E.QUEUED, E.FAILED): "execution.failed",
    (E.RUNNING, E.CANCELLING): "execution.cancelling",
    (E.RUNNING, E.QUEUED): "execution.returned",
    (E.RUNNING, E.PENDING_APPROVAL): "execution.waiting_for_approval",  # of a step, before it begins
    (E.RUNNING, E.CANCELLED): "execution.cancelled",  # its approval was void when the next worker took it
    (E.RUNNING, E.SUCCEEDED): "execution.succeeded",
    (E.RUNNING, E.FAILED): "execution.failed",
    (E.RUNNING, E.PARTIAL): "execution.partial",
    (E.RUNNING, E.TIMED_OUT): "execution.timed_out",
    (E.RUNNING, E.NEEDS_ATTENTION): "execution.needs_attention",
    (E.RUNNING, E.REJECTED): "execution.rejected",  # after what it had done was undone, and a person asked about that
    (E.RUNNING, E.EXPIRED): "execution.expired",
    (E.CANCELLING, E.CANCELLED): "execution.cancelled",
    (E.CANCELLING, E.SUCCEEDED): "execution.succeeded",  # it had ended before the cancel reached it
    (E.CANCELLING, E.FAILED): "execution.failed",
    (E.CANCELLING, E.PARTIAL): "execution.partial",
    (E.CANCELLING, E.TIMED_OUT): "execution.timed_out",
    (E.CANCELLING, E.NEEDS_ATTENTION): "execution.needs_attention",
    (E.CANCELLING, E.REJECTED): "execution.rejected",  # after what it had done was undone
    (E.CANCELLING, E.EXPIRED): "execution.expired",
    (E.NEEDS_ATTENTION, E.QUEUED): "execution.requeued",
    (E.NEEDS_ATTENTION, E.FAILED): "execution.failed",
    (E.NEEDS_ATTENTION, E.CANCELLED): "execution.cancelled",
}

STEP_MOVES: dict[tuple[str, str], str] = {
    (S.PENDING, S.RUNNING): "running",
    (S.PENDING, S.SKIPPED): "skipped",
    (S.PENDING, S.CANCELLED): "cancelled",
    (S.PENDING, S.FAILED): "failed",  # refused before it began: a secret or a template that is not there
    (S.RUNNING, S.SUCCEEDED): "succeeded",
    (S.RUNNING, S.FAILED): "failed",
    (S.RUNNING, S.CANCELLED): "cancelled",
    (S.RUNNING, S.TIMED_OUT): "timed_out",
    (S.RUNNING, S.UNKNOWN): "unknown",
    (S.RUNNING, S.PENDING): "pending",  # run again: it was in flight, and says that it is idempotent
    (S.UNKNOWN, S.SUCCEEDED): "succeeded",  # a person looked
    (S.UNKNOWN, S.FAILED): "failed",
    (S.UNKNOWN, S.PENDING): "pending",
}

# What a person's "requeue from the failed step" does besides: the engine never runs again what has ended. Steps that
# are skipped or cancelled stay so; a target is run again with its step, whatever it was but succeeded.
RERUN_MOVES: dict[tuple[str, str], str] = {
    (S.FAILED, S.PENDING): "pending",
    (S.TIMED_OUT, S.PENDING): "pending",
    (S.SKIPPED, S.PENDING): "pending",
    (S.CANCELLED, S.PENDING): "pending",
}
RERUN_STEPS = frozenset({S.RUNNING, S.UNKNOWN, S.FAILED, S.TIMED_OUT})


# What a person's word on a rollback that failed does besides: it was undone by hand. The engine makes none of these.
ANSWER_MOVES: dict[tuple[str, str], str] = {
    (S.FAILED, S.SUCCEEDED): "succeeded",
    (S.TIMED_OUT, S.SUCCEEDED): "succeeded",
    (S.CANCELLED, S.SUCCEEDED): "succeeded",
}

# How an execution ends when nobody agrees that it goes on, by its error code, and that of the steps that waited.
APPROVAL_REJECTED = "approval_rejected"
NOT_APPROVED_IN_TIME = "not_approved_in_time"
NOT_APPROVED: dict[str, str] = {APPROVAL_REJECTED: E.REJECTED, NOT_APPROVED_IN_TIME: E.EXPIRED}

# The error code of what a person lets stand: its rollback failed, and nobody will undo it.
NOT_UNDONE = "not_undone"


def execution_event(old: str, new: str) -> str:
    """Return the kind of the event of this move. Raises KeyError when the move is not legal."""
    return EXECUTION_MOVES[old, new]


def sources_of(new: str) -> list[str]:
    """Return every execution status from which `new` can be reached."""
    return [old for old, to in EXECUTION_MOVES if to == new]
