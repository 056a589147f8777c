"""Compiling plans in tests: against the real catalog and an inventory in memory."""

from __future__ import annotations

from typing import Any

from executions.plans import CompiledPlan, PlanLimits, PlanRefused, Problem, StoredStep, compile_plan
from executions.tools import get_catalog
from tests.executions.plans.memory_inventory import MemoryInventory

DEFAULT = PlanLimits()


def compiled(
    document: object, *, inventory: MemoryInventory | None = None, limits: PlanLimits = DEFAULT
) -> CompiledPlan:
    return compile_plan(document, inventory=inventory or MemoryInventory(), catalog=get_catalog(), limits=limits)


def refused(
    document: object, *, inventory: MemoryInventory | None = None, limits: PlanLimits = DEFAULT
) -> tuple[Problem, ...]:
    """The problems of a plan that must be refused."""
    try:
        plan = compiled(document, inventory=inventory, limits=limits)
    except PlanRefused as refusal:
        return refusal.problems
    raise AssertionError(f"accepted: {plan.document}")


def told(document: object, **options: Any) -> list[tuple[str, str]]:
    """(code, path) of every problem of a plan that must be refused."""
    return [(problem.code, problem.path) for problem in refused(document, **options)]


def steps(*given: dict[str, object], **plan: object) -> list[StoredStep]:
    return compiled({**plan, "steps": list(given)}).document["steps"]


def step(tool: str = "command", **fields: Any) -> dict[str, object]:
    """A step that is accepted as it is: `true` on localhost, unless the tool and inputs say otherwise."""
    made: dict[str, object] = {"tool": tool}
    if tool == "command":
        made |= {"inputs": {"argv": ["true"]}, "targets": ["localhost"]}
    return {**made, **fields}


def say(*argv: str, **fields: Any) -> dict[str, object]:
    return step(inputs={"argv": ["echo", *argv]}, **fields)
