"""How an execution ends that came to wait for people in the middle, and that they do not let go on.

Rejected or forgotten, it runs nothing more. When a step that waited says `on_failure: rollback`, what was done where
that step was to run is undone first, by a worker: until then it is `cancelling`, and its error code says how it ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Count, Q

from executions.approval_points import Point, named
from executions.models import Execution, PendingApproval, StepTarget
from executions.services.entries import entries_of
from executions.services.records import conclude, move, refuse_steps
from executions.services.stop import has_something_to_undo
from executions.states import FINAL_STEP, NOT_APPROVED, NOT_APPROVED_IN_TIME, ExecutionStatus, StepStatus
from queueing import queue

E = ExecutionStatus
S = StepStatus

MOST_NAMED = 5


def end_unapproved(execution: Execution, points: Sequence[Point], code: str, *, actor: str, comment: str) -> str | None:
    """End it because nobody lets `points` go on; return its status, or None when it does not wait any more.

    In the caller's transaction, which has its row locked. `code`: one of NOT_APPROVED.
    """
    left = _left_alone(execution, points)
    done = what_was_done(execution)
    said = " ".join([_verdict(named(points), code, comment), *left.values()])
    errors = {
        point.step: f"{_verdict(_of_step(point), code, comment)} {left.get(point.step, '')}".strip()
        for point in points
        if point.step
    }
    undo = _asks_for_rollback(execution, points) and has_something_to_undo(execution.pk)
    entries = entries_of([execution.pk], at_once=True) if undo else []  # before the move: it deletes what they need
    refuse_steps(execution.pk, errors, code=code, actor=actor, reason=comment)
    if not undo:
        ended = conclude(
            execution.pk, E.PENDING_APPROVAL, NOT_APPROVED[code],
            actor=actor, reason=comment, status_reason=f"{said} {done}", error_code=code,
        )  # fmt: skip
        return NOT_APPROVED[code] if ended else None
    if not move(
        execution.pk, E.PENDING_APPROVAL, E.CANCELLING,
        actor=actor, reason=comment, status_reason=said, error_code=code, data={"ends_as": NOT_APPROVED[code]},
    ):  # fmt: skip
        return None
    queue.enqueue(entries)
    return E.CANCELLING


def points_asked_for(execution: Execution) -> list[Point]:
    """Return what it stopped before, for one that waits; nothing when it is about the whole plan."""
    pending = PendingApproval.objects.filter(pk=execution.pk).only("steps", "waves").first()
    return pending.points if pending else []


def what_was_done(execution: Execution) -> str:
    """Say in a sentence what had been carried out before it came to wait."""
    tried = Count("targets", filter=Q(targets__attempt__gt=0))
    steps = execution.steps.exclude(status=S.SKIPPED).annotate(tried=tried, total=Count("targets")).order_by("position")
    rows = steps.values_list("key", "status", "tried", "total")
    done = [(key, status, tried, total) for key, status, tried, total in rows if status in FINAL_STEP or tried]
    if not done:
        return "Nothing had been done before."
    words = [_done(*step) for step in done[:MOST_NAMED]]
    more = f" and {len(done) - MOST_NAMED} more" if len(done) > MOST_NAMED else ""
    return f"Done before, and not undone: {', '.join(words)}{more}."


def _done(key: str, status: str, tried: int, total: int) -> str:
    if status in FINAL_STEP:
        return f"'{key}' {status.replace('_', ' ')}"
    return f"'{key}' on {tried:,} of {total:,} targets"


def _asks_for_rollback(execution: Execution, points: Sequence[Point]) -> bool:
    asked = {point.step for point in points}
    return any(step["id"] in asked and step["on_failure"] == "rollback" for step in execution.plan.document["steps"])


def _left_alone(execution: Execution, points: Sequence[Point]) -> dict[str, str]:
    """Return by step that had begun which of its targets will not be touched any more, as a sentence."""
    begun = [point.step for point in points if point.wave]
    names: dict[str, list[str]] = {}
    rows = StepTarget.objects.filter(execution=execution, step__key__in=begun, step__kind="step", status=S.PENDING)
    for key, name in rows.order_by("step__position", "position").values_list("step__key", "name"):
        names.setdefault(key, []).append(name)
    return {key: _counted(left) for key, left in names.items()}


def _counted(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    what = "1 target was" if len(names) == 1 else f"{len(names):,} targets were"
    return f"{what} left alone: {shown}{more}."


def _of_step(point: Point) -> str:
    return f"wave {point.wave}" if point.wave else "it"


def _verdict(what: str, code: str, comment: str) -> str:
    if code == NOT_APPROVED_IN_TIME:
        return f"Nobody approved {what} in time."
    return f"{what} was rejected: {comment or 'no reason given'}."
