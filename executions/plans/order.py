"""The order of the steps: from a list, execution_order numbers or depends_on to one graph without cycles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import TYPE_CHECKING

from executions.plans.limits import PlanLimits
from executions.plans.problems import Code, Problems, did_you_mean, shown

if TYPE_CHECKING:
    from executions.plans.steps import Draft


_LONGEST_GLOB = 100


class Graph:
    """Steps by their place in the plan. `before[n]` has a bit for every step that ends before step n begins."""

    def __init__(self, needs: Sequence[set[int]], in_order: Sequence[int]) -> None:
        """`in_order`: every step, dependencies first."""
        self.needs = needs
        self.before = [0] * len(needs)
        for step in in_order:
            for other in needs[step]:
                self.before[step] |= self.before[other] | 1 << other

    def is_before(self, earlier: int, later: int) -> bool:
        return bool(self.before[later] >> earlier & 1)

    def require(self, earlier: int, later: int) -> bool:
        """Make `later` wait for `earlier`, if it does not yet; False when that would be a circle."""
        if self.is_before(earlier, later):
            return True
        if earlier == later or self.is_before(later, earlier):
            return False
        self.needs[later].add(earlier)
        gained = self.before[earlier] | 1 << earlier
        for step in range(len(self.needs)):
            if step == later or self.is_before(later, step):
                self.before[step] |= gained
        return True

    def critical_path(self, seconds: Sequence[float]) -> float:
        """The time of the slowest chain of steps, when each takes its `seconds`."""
        ends = [0.0] * len(self.needs)
        for step in sorted(range(len(self.needs)), key=lambda one: self.before[one].bit_count()):
            ends[step] = seconds[step] + max((ends[other] for other in self.needs[step]), default=0.0)
        return max(ends, default=0.0)


def put_in_order(drafts: list[Draft], limits: PlanLimits, problems: Problems) -> tuple[list[Draft], Graph | None]:
    """Return the steps in their positions, and their graph; None for the graph when there are cycles (noted)."""
    if any(draft.depends_on for draft in drafts):
        needs = _named(drafts, limits, problems)
        in_order = _dependencies_first(needs)
        if len(in_order) < len(needs):
            _tell_cycles(drafts, needs, set(range(len(needs))) - set(in_order), problems)
            return drafts, None
        return drafts, Graph(needs, in_order)
    if any(draft.execution_order is not None for draft in drafts):
        drafts = _by_number(drafts, problems)
        needs = _groups(drafts)
    else:
        needs = [{place - 1} if place else set() for place in range(len(drafts))]
    return drafts, Graph(needs, range(len(drafts)))


def _by_number(drafts: list[Draft], problems: Problems) -> list[Draft]:
    for draft in drafts:
        if draft.execution_order is None and not problems.has_at(f"{draft.path}.execution_order"):
            problems.add(
                Code.INVALID_INPUT,
                f"{draft.path}.execution_order",
                "Other steps have an execution_order and this one has none.",
                "Give all steps a number, or none; equal numbers run at the same time.",
            )
    return sorted(drafts, key=lambda draft: draft.execution_order or 0.0)


def _groups(drafts: list[Draft]) -> list[set[int]]:
    """Steps with the same number wait for all of the number before."""
    needs: list[set[int]] = []
    before: set[int] = set()
    group: set[int] = set()
    for place, draft in enumerate(drafts):
        if place and draft.execution_order != drafts[place - 1].execution_order:
            before, group = group, set()
        needs.append(set(before))
        group.add(place)
    return needs


def _named(drafts: list[Draft], limits: PlanLimits, problems: Problems) -> list[set[int]]:
    """What each step's depends_on names, globs expanded; a step named by itself stays in its own set."""
    places: dict[str, int] = {}
    for place, draft in enumerate(drafts):
        places.setdefault(draft.id, place)
    matched: dict[str, set[int]] = {}
    too_many = False
    needs: list[set[int]] = []
    for place, draft in enumerate(drafts):
        wanted: set[int] = set()
        for at, name in enumerate(draft.depends_on):
            if name in places:
                wanted.add(places[name])
                continue
            found: set[int] = set()
            if len(name) <= _LONGEST_GLOB and any(sign in name for sign in "*?["):
                if name not in matched and len(matched) >= limits.max_globs:
                    too_many = True
                    continue
                if name not in matched:
                    pattern = re.compile(translate(name))
                    matched[name] = {other for other, one in enumerate(drafts) if pattern.match(one.id)}
                found = matched[name] - {place}
            if not found:
                _tell_unknown(name, f"{draft.path}.depends_on[{at}]", places, problems)
            wanted |= found
        needs.append(wanted)
    if too_many:
        problems.add(
            Code.PLAN_TOO_LARGE,
            "steps",
            f"The plan has more than {limits.max_globs:,} different patterns in depends_on.",
            "Name the steps by their ids.",
        )
    return needs


def _tell_unknown(name: str, path: str, places: dict[str, int], problems: Problems) -> None:
    near = did_you_mean(problems.near(name, places))
    problems.add(
        Code.UNKNOWN_DEPENDENCY,
        path,
        f"No other step has, or matches, the id {shown(name)!r}.",
        f"{near}Name a step of this plan by its id, or leave the dependency out.",
    )


def _dependencies_first(needs: Sequence[set[int]]) -> list[int]:
    """Every step that is in, and behind, no cycle, after all that it needs."""
    waiting = [len(wanted) for wanted in needs]
    needed_by: list[list[int]] = [[] for _ in needs]
    for step, wanted in enumerate(needs):
        for other in wanted:
            needed_by[other].append(step)
    ready = [step for step, count in enumerate(waiting) if count == 0]
    for step in ready:  # grows while it is walked
        for other in needed_by[step]:
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    return ready


def _tell_cycles(drafts: list[Draft], needs: Sequence[set[int]], stuck: set[int], problems: Problems) -> None:
    """One problem for each cycle found by following, from each stuck step, a step it waits for that is stuck too."""
    seen: set[int] = set()
    for start in sorted(stuck):
        walk: list[int] = []
        step = start
        while step not in seen:
            seen.add(step)
            walk.append(step)
            step = step if step in needs[step] else min(needs[step] & stuck)
        if step not in walk:
            continue
        circle = walk[walk.index(step) :]
        first = min(circle)
        turn = circle[circle.index(first) :] + circle[: circle.index(first)] + [first]
        names = " waits for ".join(shown(drafts[one].id, 30) for one in (turn if len(turn) <= 10 else turn[:10]))
        problems.add(
            Code.DEPENDENCY_CYCLE,
            f"{drafts[first].path}.depends_on",
            f"The steps wait for each other: {names}{' ...' if len(turn) > 10 else ''}.",
            "Take one of these dependencies out.",
        )
