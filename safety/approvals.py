"""Who must agree before an execution starts. The server decides; a plan can ask for more, never for less."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.conf import settings

from safety.models import ActionClass

PRODUCTION = "production"
CRITICAL = "critical"
BY_STEP = 3  # from this level on, some steps need an approval of their own


@dataclass(frozen=True, slots=True)
class Risk:
    """What the level depends on, taken from the plan as it is stored and the inventory as it was then.

    environments          of the targets, as the inventory has them
    changes_without_target whether a step changes something that no target names: a POST, say
    group_percent         of the group of which it changes most
    declared_environment  what the plan calls itself: it can raise the level, never lower it
    """

    action_class: str
    environments: Collection[str]
    declared_environment: str | None
    criticalities: Collection[str]
    target_count: int
    group_percent: float
    changing_steps: int
    changes_without_target: bool
    irreversible: bool
    asks_for_approval: bool


def approval_level(risk: Risk) -> int:
    """Return 0 (runs by itself), 1 (somebody confirms), 2 (an approver), or 3 (two approvers, and one for some steps).

    Source of the levels: docs/reference/approvals.md.
    """
    level = _level(risk)
    return max(level, 2) if risk.asks_for_approval else level


def _level(risk: Risk) -> int:
    if risk.action_class == ActionClass.READ:
        return 0
    if CRITICAL in risk.criticalities or risk.target_count > settings.APPROVAL_TARGETS:
        return 3
    # What a step without a target changes the inventory cannot vouch for: it is not development, whatever other steps
    # have for targets.
    named = _named(risk)
    if risk.environments and not risk.changes_without_target and named <= set(settings.DEVELOPMENT_ENVIRONMENTS):
        return 0
    if risk.irreversible or risk.group_percent > settings.APPROVAL_GROUP_PERCENT:
        return 3
    return 2 if PRODUCTION in named or risk.changing_steps > 1 else 1


def _named(risk: Risk) -> set[str]:
    return {*risk.environments, *([risk.declared_environment] if risk.declared_environment else [])}


def approvals_needed(level: int) -> int:
    """Return how many people have to agree to the plan at this level."""
    return {0: 0, 1: 1, 2: 1, 3: 2}[level]


def step_needs_approval(level: int, *, irreversible: bool, asks_for_approval: bool) -> bool:
    """Whether a step of a plan at this level needs one more approval, of its own, before it begins.

    At level 3 those that cannot be undone, and those for which the plan itself asks (requires_approval,
    approval_points): decision 16.
    """
    return level >= BY_STEP and (irreversible or asks_for_approval)


def reasons(risk: Risk) -> list[str]:
    """Return in words what makes the plan as risky as it is, the gravest first; for those who are to approve it."""
    said: list[str] = []
    if risk.action_class == ActionClass.READ:
        return ["it asks for approval"] if risk.asks_for_approval else []
    if CRITICAL in risk.criticalities:
        said.append("critical machine")
    if risk.irreversible:
        said.append("a step that cannot be undone")
    if risk.target_count > settings.APPROVAL_TARGETS:
        said.append(f"{risk.target_count:,} machines, more than {settings.APPROVAL_TARGETS}")
    if risk.group_percent > settings.APPROVAL_GROUP_PERCENT:
        said.append(f"{risk.group_percent:.0f} % of a group, more than {settings.APPROVAL_GROUP_PERCENT} %")
    if PRODUCTION in _named(risk):
        said.append("production" if PRODUCTION in risk.environments else "it calls itself production")
    if risk.changes_without_target:
        said.append("a change on no machine of the inventory: nobody vouches for where it goes")
    if risk.changing_steps:
        said.append("1 changing step" if risk.changing_steps == 1 else f"{risk.changing_steps} changing steps")
    if risk.asks_for_approval:
        said.append("the plan asks for approval")
    return said
