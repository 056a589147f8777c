"""How a status looks, everywhere: its word, its icon, its sentence. Its colour is the CSS variable `--s-STATUS`."""

from __future__ import annotations

from dataclasses import dataclass

from executions.models import Health
from executions.states import ExecutionStatus, StepStatus


@dataclass(frozen=True, slots=True)
class Look:
    """`icon` is the id of a symbol in static/icons.svg; `meaning` completes "It …"; `colour` is that of a status."""

    word: str
    icon: str
    meaning: str
    colour: str = ""


E = ExecutionStatus
S = StepStatus

LOOKS: dict[str, Look] = {
    E.PENDING_APPROVAL: Look("Waiting for approval", "hand", "waits for somebody to approve it"),
    E.QUEUED: Look("Queued", "clock", "waits in the queue"),
    E.RUNNING: Look("Running", "play", "is being carried out now"),
    E.CANCELLING: Look("Cancelling", "stop", "is being stopped"),
    E.NEEDS_ATTENTION: Look("Needs attention", "alert", "waits for a person to decide"),
    E.SUCCEEDED: Look("Succeeded", "check", "did all it was asked to, with evidence"),
    E.FAILED: Look("Failed", "cross", "ended without doing what it was asked to"),
    E.PARTIAL: Look("Partial", "half", "did a part of what it was asked to"),
    E.CANCELLED: Look("Cancelled", "stop", "was stopped by a person"),
    E.TIMED_OUT: Look("Timed out", "hourglass", "ran out of time"),
    E.REJECTED: Look("Rejected", "hand", "was refused by an approver"),
    E.EXPIRED: Look("Expired", "hourglass", "was not approved in time"),
    S.PENDING: Look("Waiting", "dot", "has not begun"),
    S.SKIPPED: Look("Skipped", "skip", "was not run"),
    S.UNKNOWN: Look("Unknown", "question", "may or may not have happened"),
}

# What the last check of an asset found.
HEALTH: dict[str, Look] = {
    Health.HEALTHY: Look("Healthy", "check", "answered, and let us sign in", "succeeded"),
    Health.UNREACHABLE: Look("Unreachable", "cross", "did not answer", "failed"),
    Health.REFUSED: Look("Refused", "hand", "answered, and did not let us in", "needs_attention"),
    Health.FAILED: Look("Not checkable", "question", "could not be checked", "unknown"),
}
UNCHECKED = Look("Not checked", "dot", "was never checked", "pending")

PROBLEMS = (S.FAILED, S.TIMED_OUT, S.UNKNOWN)
STEP_ORDER = (S.FAILED, S.TIMED_OUT, S.UNKNOWN, S.RUNNING, S.PENDING, S.CANCELLED, S.SKIPPED, S.SUCCEEDED)


def look_of(status: str) -> Look:
    """Return the look of any status of an execution, a step or a target."""
    return LOOKS.get(status) or Look(status.replace("_", " ").capitalize(), "dot", "")
