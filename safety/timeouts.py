"""The timeout enforcer's figures: which SLA class a plan is in, and the limits that go with it.

Deadlines count from the start of an execution, by the database's clock; waiting for approval or in the queue does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from safety.models import SlaClass, TimeoutPolicy

FAST_BELOW_SECONDS = 10
MEDIUM_BELOW_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds, and how often a worker may begin."""

    step_seconds: int
    execution_seconds: int
    approval_seconds: int
    max_attempts: int


def sla_class_of(estimated_seconds: float) -> SlaClass:
    """Return the SLA class of a plan whose critical path is estimated at this many seconds."""
    if estimated_seconds < FAST_BELOW_SECONDS:
        return SlaClass.FAST
    return SlaClass.MEDIUM if estimated_seconds < MEDIUM_BELOW_SECONDS else SlaClass.LONG


def policies() -> dict[tuple[str, str], Limits]:
    """Return the limits of every (SLA class, action class), as they stand in the table now."""
    return {
        (p.sla_class, p.action_class): Limits(p.step_seconds, p.execution_seconds, p.approval_seconds, p.max_attempts)
        for p in TimeoutPolicy.objects.all()
    }
