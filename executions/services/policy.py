"""What a compiled plan means under the installation's policy: limits, approval level, the locks it will take."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from executions.plans import CompiledPlan
from executions.plans.waves import approved_waves, pauses_of, rounds_of
from executions.services.blast_radius import largest_share
from safety.approvals import Risk, approval_level
from safety.timeouts import Limits, sla_class_of

# A step may take this much longer than it is estimated at before its time limit ends it, whatever its class says.
ESTIMATE_ALLOWANCE = 2.0

# Pauses between attempts double up to this long; a plan that asks for longer ones gets what it asks for, undoubled.
LONGEST_DOUBLED_PAUSE = 900.0
ENGINE_SECONDS = 0.05  # what the engine needs for a step, at most: 2 to 9 ms were measured on two busy cores
LATEST = 1.25  # by which factor chance makes a pause longer, at most


@dataclass(frozen=True, slots=True)
class Decision:
    """Times in seconds."""

    sla_class: str
    approval_level: int
    limits: Limits
    execution_seconds: int
    locks: list[dict[str, Any]]


def decide(plan: CompiledPlan, policies: dict[tuple[str, str], Limits]) -> Decision:
    """Apply the timeout policies and the approval policy to a plan."""
    sla_class = sla_class_of(plan.estimated_seconds)
    limits = policies[sla_class, plan.action_class]
    level = approval_level(risk_of(plan.document, plan.action_class))
    return Decision(
        sla_class=sla_class,
        approval_level=level,
        limits=limits,
        execution_seconds=max(limits.execution_seconds, round(needed_seconds(plan.document["steps"], limits) + 0.5)),
        locks=[{"asset_id": use.asset_id, "exclusive": use.exclusive} for use in plan.targets.values()],
    )


def risk_of(document: Mapping[str, Any], action_class: str) -> Risk:
    """Return what the approval level of a stored plan depends on. A plan of an earlier release knows no criticality."""
    targets = {target["asset_id"]: target for step in document["steps"] for target in step["targets"]}
    return Risk(
        action_class=action_class,
        environments={target["environment"] for target in targets.values()},
        declared_environment=document["environment"],
        criticalities={target.get("criticality", "") for target in targets.values()},
        target_count=len(targets),
        group_percent=largest_share(document),
        changing_steps=sum(map(_changes, document["steps"])),
        changes_without_target=any(_changes(step) and not step["targets"] for step in document["steps"]),
        irreversible=any(step["irreversible"] for step in document["steps"]),
        asks_for_approval=any(step["requires_approval"] or approved_waves(step) for step in document["steps"]),
    )


def _changes(step: Mapping[str, Any]) -> bool:
    """Whether a step, or what undoes it, does more than read. Plans of an earlier release do not say of the latter."""
    undo = step.get("rollback")
    return step["action_class"] != "read" or bool(undo and undo.get("action_class", "modify") != "read")


def step_seconds(step: Any, policy_seconds: float) -> float:
    """Return the time limit of one attempt on one target: the step's own, or the policy's, never below its estimate."""
    own = step["timeout_seconds"]
    return float(own) if own is not None else max(policy_seconds, step["estimated_duration"] * ESTIMATE_ALLOWANCE)


def retry_pause_seconds(retry: Any, attempt: int) -> float:
    """Return the pause after failed attempt number `attempt` (from 1): the plan's delay, doubled each time."""
    delay = float(retry["delay_seconds"])
    return max(delay, min(delay * 2.0 ** min(attempt - 1, 30), LONGEST_DOUBLED_PAUSE))


def spread(pause: float) -> float:
    """Return a pause made longer by chance: machines that failed together do not all come back at the same moment."""
    return pause * random.uniform(1.0, LATEST)


def needed_seconds(steps: Any, limits: Limits) -> float:
    """Return the longest a plan may take when every step that names its own needs uses them up, along its longest path.

    A step that names nothing counts with its estimate: the policy's limit of the execution covers the rest. None counts
    less than what the engine needs for it, so that a thousand steps that do nothing are not late.
    """
    ends: dict[str, float] = {}
    for step in _in_order(steps):
        own = step["timeout_seconds"]
        once = float(own) if own is not None else step["estimated_duration"]
        attempts = step["retry"]["max_attempts"]
        pauses = sum(retry_pause_seconds(step["retry"], attempt) for attempt in range(1, attempts)) * LATEST
        # A target that pauses keeps its place among those that run.
        need = max((once * attempts + pauses) * rounds_of(step) + pauses_of(step), ENGINE_SECONDS)
        ends[step["id"]] = need + max((ends[before] for before in step["depends_on"] if before in ends), default=0.0)
    return max(ENGINE_SECONDS * len(ends), *ends.values(), 0.0)


def _in_order(steps: Any) -> list[Any]:
    """Return the steps so that each comes after those it depends on; compiled plans have no cycle."""
    by_id = {step["id"]: step for step in steps}
    done: dict[str, None] = {}
    stack = [(step["id"], False) for step in reversed(steps)]
    while stack:
        key, expanded = stack.pop()
        if key in done:
            continue
        if expanded:
            done[key] = None
            continue
        stack.append((key, True))
        stack.extend((before, False) for before in by_id[key]["depends_on"] if before not in done)
    return [by_id[key] for key in done]
