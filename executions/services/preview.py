"""Preview: everything that a submit would decide, without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings

from executions.approval_points import Point, points_to_approve
from executions.gate_views import targets_of
from executions.plans import CompiledPlan
from executions.services.blast_radius import measure
from executions.services.policy import Decision, decide, risk_of, step_seconds
from executions.services.reaching import machines_of, warnings_of
from executions.services.refusals import Refused
from executions.services.submit import Planning
from executions.services.what_runs import commands_of
from safety.approvals import approvals_needed, reasons
from safety.approvers import approvers_of
from safety.models import User


def preview(document: object, *, by: User, check: bool = False) -> dict[str, Any]:
    """Return what would happen: steps, targets, locks, approvals, permissions, time limits; or why it is refused.

    Always answers; `acceptable` says whether `submit` would take the plan, `errors` why not.
    """
    planning = Planning(by)
    try:
        plan = planning.compile(document, check=check)
    except Refused as refused:
        return {"acceptable": False, "errors": refused.problems()}
    measure(plan, by.tenant_id)
    decision = decide(plan, planning.policies)
    points = points_to_approve(plan.document, decision.approval_level)
    errors: list[dict[str, Any]] = []
    try:
        planning.check_rights(plan)
        planning.secrets.check(plan)
    except Refused as refused:
        errors = refused.problems()
        if not planning.sees_all_of(plan):  # what there is to say would tell which machines there are
            return {"acceptable": False, "errors": errors}
    # Of how machines are reached only those are told who may run the plan on all of them.
    machines = [] if errors else machines_of(plan, planning.secrets)
    return {
        "acceptable": not errors,
        "errors": errors,
        "title": plan.title,
        "plan_hash": plan.hash,
        "check": plan.document.get("check", False),
        "action_class": plan.action_class,
        "sla_class": decision.sla_class,
        "approval_level": decision.approval_level,
        "approvals_needed": approvals_needed(decision.approval_level),
        "approval_reasons": reasons(risk_of(plan.document, plan.action_class)),
        "steps_to_approve": [point.step for point in points if not point.wave],
        "gates": _gates(plan, points),
        "approvers": _approvers(plan, decision, by),
        "timeouts": {
            "step_seconds": decision.limits.step_seconds,
            "execution_seconds": decision.execution_seconds,
            "approval_seconds": decision.limits.approval_seconds,
        },
        "max_attempts": decision.limits.max_attempts,
        "estimated_seconds": plan.estimated_seconds,
        "locks": [
            {"asset": use.name, "asset_id": use.asset_id, "mode": "exclusive" if use.exclusive else "shared"}
            for use in plan.targets.values()
        ],
        "permissions": _permissions(plan, planning),
        "secrets": _secrets(plan, planning),
        "blast_radius": {
            "machines": len(plan.targets),
            "changed": sum(use.exclusive for use in plan.targets.values()),
            "at_most": settings.MAX_TARGETS,
            "two_approvers_above": settings.APPROVAL_TARGETS,
            "groups": plan.document.get("group_shares", []),
        },
        "machines": machines,
        "warnings": warnings_of(machines),
        "steps": _steps(plan, decision),
        "not_checked": plan.document["not_checked"],
    }


def _gates(plan: CompiledPlan, points: Sequence[Point]) -> list[dict[str, Any]]:
    """The waves before which a person is asked."""
    by_id = {step["id"]: step for step in plan.document["steps"]}
    return [
        {
            "id": point.step,
            "wave": point.wave,
            "waves": len(by_id[point.step]["waves"]),
            "targets": [target["name"] for target in targets_of(by_id[point.step], point.wave)],
        }
        for point in points
        if point.wave
    ]


def _approvers(plan: CompiledPlan, decision: Decision, by: User) -> list[str]:
    """Who could approve it, and its steps and waves; nobody when it needs no approval."""
    if not decision.approval_level:
        return []
    risk = risk_of(plan.document, plan.action_class)
    return approvers_of(plan.targets, asked_by=by, by_group=not risk.changes_without_target)


def _permissions(plan: CompiledPlan, planning: Planning) -> list[dict[str, Any]]:
    return [
        {
            "asset": use.name,
            "permission": f"execute_{use.action_class}",
            "granted": use.asset_id in planning.permitted(use.action_class, {use.asset_id}),
        }
        for use in plan.targets.values()
    ]


def _secrets(plan: CompiledPlan, planning: Planning) -> list[dict[str, Any]]:
    """Each secret with its state; whoever may not submit is not told which secrets there are."""
    named = plan.document.get("secrets", [])
    if named and planning.may_submit:
        return planning.secrets.states(named)
    return [{**reference, "state": "unknown"} for reference in named]


def _steps(plan: CompiledPlan, decision: Decision) -> list[dict[str, Any]]:
    return [
        {
            "id": step["id"],
            "position": step["position"],
            "tool": step["tool"],
            "description": step["description"],
            "action_class": step["action_class"],
            "depends_on": step["depends_on"],
            "targets": [target["name"] for target in step["targets"]],
            "inputs": step["inputs"],
            "commands": commands_of(step),
            "rollback": step["rollback"],
            "fan_out": step["fan_out"],
            "waves": step.get("waves"),
            "files": step.get("files"),
            "run_as": step.get("run_as"),
            "irreversible": step["irreversible"],
            "timeout_seconds": step_seconds(step, decision.limits.step_seconds),
            "on_failure": step["on_failure"],
            "idempotent": step["idempotent"],
            "not_checked": step["not_checked"],
            "unchecked": step.get("unchecked"),
        }
        for step in plan.document["steps"]
    ]
