"""What a compiled plan means under the installation's policy: limits, approval level, the locks it will take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from executions.plans import CompiledPlan
from safety.approvals import Risk, approval_level
from safety.timeouts import Limits, sla_class_of

# A step may take this much longer than it is estimated at before its time limit ends it, whatever its class says.
ESTIMATE_ALLOWANCE = 2.0

# Pauses between attempts double up to this long; a plan that asks for longer ones gets what it asks for, undoubled.
LONGEST_DOUBLED_PAUSE = 900.0


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
    facts = plan.approval_facts
    changing = sum(step["action_class"] != "read" for step in plan.document["steps"])
    level = approval_level(
        Risk(
            action_class=plan.action_class,
            environments={use.environment for use in plan.targets.values()},
            declared_environment=plan.document["environment"],
            criticalities=facts.criticalities,
            target_count=facts.target_count,
            changing_steps=changing,
            irreversible=facts.has_irreversible,
            asks_for_approval=bool(facts.requires_approval_steps),
        )
    )
    return Decision(
        sla_class=sla_class,
        approval_level=level,
        limits=limits,
        execution_seconds=max(limits.execution_seconds, round(needed_seconds(plan.document["steps"], limits) + 0.5)),
        locks=[{"asset_id": use.asset_id, "exclusive": use.exclusive} for use in plan.targets.values()],
    )


def step_seconds(step: Any, policy_seconds: float) -> float:
    """Return the time limit of one attempt on one target: the step's own, or the policy's, never below its estimate."""
    own = step["timeout_seconds"]
    return float(own) if own is not None else max(policy_seconds, step["estimated_duration"] * ESTIMATE_ALLOWANCE)


def retry_pause_seconds(retry: Any, attempt: int) -> float:
    """Return the pause after failed attempt number `attempt` (from 1): the plan's delay, doubled each time."""
    delay = float(retry["delay_seconds"])
    return max(delay, min(delay * 2.0 ** min(attempt - 1, 30), LONGEST_DOUBLED_PAUSE))


def needed_seconds(steps: Any, limits: Limits) -> float:
    """Return the longest a plan may take when every step that names its own needs uses them up, along its longest path.

    A step that names nothing counts with its estimate: the policy's limit of the execution covers the rest.
    """
    ends: dict[str, float] = {}
    for step in _in_order(steps):
        own = step["timeout_seconds"]
        once = float(own) if own is not None else step["estimated_duration"]
        rounds = -(-max(1, len(step["targets"])) // step["fan_out"]["max_concurrent"])
        attempts = step["retry"]["max_attempts"]
        pauses = sum(retry_pause_seconds(step["retry"], attempt) for attempt in range(1, attempts))
        need = (once * attempts + pauses) * rounds  # a target that pauses keeps its place among those that run
        ends[step["id"]] = need + max((ends[before] for before in step["depends_on"] if before in ends), default=0.0)
    return max(ends.values(), default=0.0)


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
