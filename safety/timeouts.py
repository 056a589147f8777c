"""The timeout enforcer's figures: which SLA class a plan is in, and the limits that go with it.

Deadlines count from the start of an execution, by the database's clock; waiting for approval or in the queue does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from opsconductor.prepared import prepared_cursor
from safety.models import SlaClass

FAST_BELOW_SECONDS = 10
MEDIUM_BELOW_SECONDS = 30

# Read at every submit, so it is plain SQL.
_POLICIES = """
SELECT sla_class, action_class, step_seconds, execution_seconds, approval_seconds, max_attempts
  FROM safety_timeoutpolicy
"""


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
    with prepared_cursor() as cursor:
        cursor.execute(_POLICIES)
        return {(sla_class, action_class): Limits(*limits) for sla_class, action_class, *limits in cursor.fetchall()}
