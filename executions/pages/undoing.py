"""What the pages say of undoing: what a cancel would undo, and how far a rollback is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection

from executions.models import Execution
from executions.states import FINAL_STEP, StepStatus

if TYPE_CHECKING:
    from executions.pages.overview import StepView

S = StepStatus

MOST_NAMED = 8  # machines, in a sentence

# What has begun of the steps that say how they are undone. Looked for where the plan is: it may be large.
BEGUN = """
SELECT s.key, t.name FROM executions_executionplan p
 CROSS JOIN jsonb_array_elements(p.document -> 'steps') WITH ORDINALITY AS planned(step, position)
  JOIN executions_step s ON s.execution_id = p.execution_id AND s.position = planned.position
  JOIN executions_steptarget t ON t.step_id = s.id AND t.attempt > 0
 WHERE p.execution_id = %s AND jsonb_typeof(planned.step -> 'rollback') = 'object'
 ORDER BY s.position DESC, t.position
"""


@dataclass(frozen=True, slots=True)
class Cleanup:
    """What a cancel would undo now: `steps`, newest first, on `hosts`; both are empty when that is nothing."""

    steps: list[str]
    hosts: list[str]
    seconds: int

    @property
    def named(self) -> str:
        """The machines, in words."""
        more = f" and {len(self.hosts) - MOST_NAMED} more" if len(self.hosts) > MOST_NAMED else ""
        return ", ".join(self.hosts[:MOST_NAMED]) + more


def cleanup_of(execution: Execution) -> Cleanup:
    """Return what a cancel would undo: what has begun and says how. What the engine finds out may leave some of it."""
    if execution.is_final:
        return Cleanup([], [], 0)
    with connection.cursor() as cursor:
        cursor.execute(BEGUN, [execution.pk])
        rows = cursor.fetchall()
    steps: dict[str, None] = {}
    hosts: dict[str, None] = {}
    for key, name in rows:
        steps[key] = None
        if name:
            hosts[name] = None
    return Cleanup(list(steps), list(hosts), round(settings.CLEANUP.total_seconds()))


def progress_of(rollback: Sequence[StepView]) -> str:
    """Return how far a rollback is: "Rolling back: change (1 of 3 hosts), backup." """
    parts = []
    for view in rollback:
        done = sum(count for status, count in view.counts.items() if status in FINAL_STEP)
        if view.step.status in (S.RUNNING, S.PENDING):
            parts.append(f"{view.step.key} ({done:,} of {view.total:,} hosts)" if view.total > 1 else view.step.key)
    left = f"Rolling back: {', '.join(parts)}." if parts else "Rolled back."
    return left
