"""What people decide on: a plan as a whole, a step of it before it begins, a wave of a step before that begins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from executions.plans.waves import approved_waves
from safety.approvals import step_needs_approval

MOST_NAMED = 5


class Point(NamedTuple):
    """One thing that is decided on by itself. `step` is a step's id in the plan, empty for the plan as a whole;
    `wave` the number of the wave that is to begin, 0 for the step itself."""

    step: str = ""
    wave: int = 0

    def __str__(self) -> str:
        if not self.step:
            return "the plan"
        return f"wave {self.wave} of step '{self.step}'" if self.wave else f"step '{self.step}'"

    @property
    def data(self) -> dict[str, Any]:
        """The fields of an event, or of the audit, that say which one it is."""
        found: dict[str, Any] = {"step": self.step} if self.step else {}
        return found | ({"wave": self.wave} if self.wave else {})


WHOLE_PLAN = Point()


def points_of(steps: Iterable[str], waves: Collection[int]) -> list[Point]:
    """Return points from two columns. What a process of the release before this one wrote knows no waves."""
    numbers = [*waves]
    return [Point(step, numbers[place] if place < len(numbers) else 0) for place, step in enumerate(steps)]


def points_to_approve(document: Mapping[str, Any], level: int) -> list[Point]:
    """Return what of a stored plan needs an approval of its own before it begins, in the order of the plan.

    A gate that asks for a person asks at every level: its plan is never below 2.
    """
    points = []
    for step in document["steps"]:
        if step_needs_approval(level, irreversible=step["irreversible"], asks_for_approval=step["requires_approval"]):
            points.append(Point(step["id"]))
        points += [Point(step["id"], wave) for wave in approved_waves(step)]
    return points


def named(points: Iterable[Point]) -> str:
    """Return points in words, the plan among them only when it is alone: "steps 'a', 'b' and wave 2 of step 'c'"."""
    every = [point for point in points if point.step]
    if not every:
        return str(WHOLE_PLAN)
    shown = every[:MOST_NAMED]
    steps = [f"'{point.step}'" for point in shown if not point.wave]
    parts = [f"{'step' if len(steps) == 1 else 'steps'} {', '.join(steps)}"] if steps else []
    parts += [str(point) for point in shown if point.wave]
    more = f" and {len(every) - MOST_NAMED} more" if len(every) > MOST_NAMED else ""
    return f"{', '.join(parts)}{more}"
