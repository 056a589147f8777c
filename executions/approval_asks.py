"""What waits for approvals, and for whose: what the page, the API, the badge and the e-mails say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from django.db import connection

from executions.approval_points import WHOLE_PLAN, Point, points_to_approve
from executions.file_changes import file_changes
from executions.gate_views import GateView, gates_of, targets_of
from executions.models import Approval, Execution, ExecutionQuerySet
from executions.plans.bound_files import read_folder
from executions.services.policy import risk_of
from executions.states import ExecutionStatus
from executions.target_changes import PlanOfTenant, changes_of
from safety import rbac
from safety.approvals import approvals_needed, reasons
from safety.models import User

# Of others, in time, and not decided yet: a plan by an approval of the user's own, steps by one of anybody's.
_UNDECIDED = """
SELECT p.execution_id
  FROM executions_pendingapproval p
  JOIN executions_execution e ON e.id = p.execution_id
 WHERE e.status = 'pending_approval' AND e.tenant_id = %(tenant)s AND e.actor_id <> %(user)s
   AND e.approval_expires_at > statement_timestamp()
   AND CASE WHEN p.steps = '{}' THEN NOT EXISTS (
                SELECT FROM executions_approval a
                 WHERE a.execution_id = e.id AND a.by_id = %(user)s AND a.step = '' AND a.withdrawn_at IS NULL)
            ELSE EXISTS (
                SELECT FROM unnest(p.steps, p.waves) AS asked(step, wave) WHERE NOT EXISTS (
                    SELECT FROM executions_approval a
                     WHERE a.execution_id = e.id AND a.step = asked.step AND a.wave = coalesce(asked.wave, 0)
                       AND a.approved AND a.withdrawn_at IS NULL)) END
"""


@dataclass
class Ask:
    """One execution that waits for approval. `points`: what it waits before; nothing when it is the plan as a whole.

    gates: of each wave that waits, what the ones before it have come to; only where it was asked for.
    """

    execution: Execution
    document: dict[str, Any]
    approvals: list[Approval]
    points: list[Point] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    file_changes: list[str] = field(default_factory=list)
    gates: dict[Point, GateView] = field(default_factory=dict)

    @property
    def needed(self) -> int:
        return approvals_needed(self.execution.approval_level)

    @cached_property
    def standing(self) -> list[Approval]:
        """Those that were given to this plan on these machines, by whoever; whether they still may is asked later."""
        execution = self.execution
        return [
            approval
            for approval in self.approvals
            if approval.approved
            and approval.withdrawn_at is None
            and (approval.plan_hash, approval.targets_hash) == (execution.plan_hash, execution.targets_hash)
        ]

    @property
    def given(self) -> list[Approval]:
        """The standing approvals of the plan as a whole."""
        return [approval for approval in self.standing if approval.point == WHOLE_PLAN]

    @property
    def open_points(self) -> list[Point]:
        """Those of `points` that nobody has approved yet."""
        approved = {approval.point for approval in self.standing}
        return [point for point in self.points if point not in approved]

    @property
    def open_gates(self) -> list[GateView]:
        """What is shown of the waves that wait."""
        return [self.gates[point] for point in self.open_points if point in self.gates]

    @property
    def reasons(self) -> list[str]:
        return reasons(risk_of(self.document, self.execution.action_class))

    @cached_property
    def own_approval(self) -> list[Point]:
        """The steps and waves that need an approval of their own."""
        return points_to_approve(self.document, self.execution.approval_level)

    @property
    def marked_steps(self) -> frozenset[str]:
        """The ids of the steps that need an approval of their own before they begin, or wait for it now."""
        return frozenset(point.step for point in (*self.own_approval, *self.open_points) if not point.wave)

    @cached_property
    def machines(self) -> list[dict[str, Any]]:
        """The machines of what is asked for, each once, as they were when the plan was submitted."""
        asked = self.open_points if self.points else [Point(step["id"]) for step in self.document["steps"]]
        by_id = {step["id"]: step for step in self.document["steps"]}
        targets = {t["asset_id"]: t for point in asked for t in targets_of(by_id[point.step], point.wave)}
        return sorted(targets.values(), key=lambda target: str(target["name"]))

    @property
    def asked_steps(self) -> list[dict[str, Any]]:
        """What is to be approved of the plan now: its steps, or those that it waits before."""
        every: list[dict[str, Any]] = self.document["steps"]
        whole = {point.step for point in self.open_points if not point.wave}
        return [step for step in every if step["id"] in whole] if self.points else every

    def as_json(self) -> dict[str, Any]:
        """How far its approval is, for the API."""
        waits = self.execution.status == ExecutionStatus.PENDING_APPROVAL
        return {
            "level": self.execution.approval_level,
            "needed": self.needed,
            "given": len({approval.by_id for approval in self.given}),
            "by": [approval.by.username for approval in self.given],
            "reasons": self.reasons,
            "waits_for": self._waits_for if waits else None,
            "steps": [
                {"id": point.step, **self._state_of(point, waits=waits)}
                for point in self.own_approval
                if not point.wave
            ],
            "waves": [
                {
                    "id": point.step,
                    "wave": point.wave,
                    "targets": len(targets_of(self._planned(point.step), point.wave)),
                    **self._state_of(point, waits=waits),
                }
                for point in self.own_approval
                if point.wave
            ],
        }

    @property
    def _waits_for(self) -> str:
        if not self.points:
            return "plan"
        return "waves" if all(point.wave for point in self.open_points) else "steps"

    def _planned(self, key: str) -> dict[str, Any]:
        return next(step for step in self.document["steps"] if step["id"] == key)

    def _state_of(self, point: Point, *, waits: bool) -> dict[str, Any]:
        by = [approval.by.username for approval in self.standing if approval.point == point]
        return {"by": by, "waiting": waits and point in self.open_points}


def undecided_by(user: User) -> set[int]:
    """Return the executions that wait for this user's decision. Two queries."""
    with connection.cursor() as cursor:
        cursor.execute(_UNDECIDED, {"user": user.pk, "tenant": user.tenant_id})
        waiting = [execution_id for (execution_id,) in cursor.fetchall()]
    return {number for _, number in rbac.approvers_among([(user.pk, number) for number in waiting])}


def waiting(user: User) -> ExecutionQuerySet:
    """Return the executions that wait for approvals, as far as the user may see them."""
    return Execution.objects.visible_to(user).filter(
        pending_approval__isnull=False, status=ExecutionStatus.PENDING_APPROVAL
    )


def waiting_for(user: User) -> ExecutionQuerySet:
    """Return the executions that wait for this user's decision."""
    return waiting(user).filter(pk__in=undecided_by(user))


def asks_of(executions: Collection[Execution], *, with_changes: bool = False, with_gates: bool = False) -> list[Ask]:
    """Return what each waits for. Wants actor, plan and pending_approval selected with them; one query, four with
    `with_changes`, which says of each what has changed of its machines (and one more for each that names playbooks),
    and two more with `with_gates` when waves wait.
    """
    given: dict[int, list[Approval]] = defaultdict(list)
    rows = Approval.objects.filter(execution__in=[execution.pk for execution in executions]).select_related("by")
    for approval in rows.order_by("pk"):
        given[approval.execution_id].append(approval)
    asks = [
        Ask(execution, execution.plan.document, given[execution.pk], _points(execution)) for execution in executions
    ]
    if with_changes:
        look = cache(read_folder)  # once for all of them
        found = changes_of(
            {a.execution.pk: PlanOfTenant(a.execution.tenant_id, a.document, a.execution.actor_id) for a in asks}
        )
        for ask in asks:
            ask.changes = found.get(ask.execution.pk, [])
            ask.file_changes = file_changes(ask.execution, ask.document, look)
    if with_gates:
        views = gates_of([(ask.execution.pk, ask.document, ask.open_points) for ask in asks])
        for ask in asks:
            ask.gates = views.get(ask.execution.pk, {})
    return asks


def _points(execution: Execution) -> list[Point]:
    pending = getattr(execution, "pending_approval", None)  # one that waits for nothing has no such row
    return pending.points if pending is not None else []
