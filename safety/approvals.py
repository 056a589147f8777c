"""Who must agree before an execution starts. The server decides; a plan can ask for more, never for less."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.conf import settings

from safety.models import ActionClass

PRODUCTION = "production"
CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Risk:
    """What the level depends on, taken from the compiled plan and the inventory.

    environments          of the targets, as the inventory has them
    declared_environment  what the plan calls itself: it can raise the level, never lower it
    """

    action_class: str
    environments: Collection[str]
    declared_environment: str | None
    criticalities: Collection[str]
    target_count: int
    changing_steps: int
    irreversible: bool
    asks_for_approval: bool


def approval_level(risk: Risk) -> int:
    """Return 0 (runs by itself), 1 (somebody confirms), 2 (an approver), or 3 (two approvers).

    Source of the levels: docs/reference/approvals.md.
    """
    level = _level(risk)
    return max(level, 2) if risk.asks_for_approval else level


def _level(risk: Risk) -> int:
    if risk.action_class == ActionClass.READ:
        return 0
    if CRITICAL in risk.criticalities or risk.target_count > settings.APPROVAL_TARGETS:
        return 3
    # A plan without targets changes something that the inventory cannot vouch for: it is not development.
    named = {*risk.environments, *([risk.declared_environment] if risk.declared_environment else [])}
    if risk.environments and named <= set(settings.DEVELOPMENT_ENVIRONMENTS):
        return 0
    if risk.irreversible:
        return 3
    return 2 if PRODUCTION in named or risk.changing_steps > 1 else 1


def approvals_needed(level: int) -> int:
    """Return how many people have to agree at this level."""
    return {0: 0, 1: 1, 2: 1, 3: 2}[level]
