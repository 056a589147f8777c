"""What is asked again when a worker takes an execution: may it still be run, and which steps have to wait?

Between the submit or the approval and this moment a right may have been withdrawn, an approver may have left, and the
machines may have changed. What comes after it reaches a running execution as a wish to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from executions.approval_points import WHOLE_PLAN, Point, points_to_approve
from executions.engine.outcome import Ending
from executions.engine.state import ExecutionState
from executions.services.stop import WITHDRAWN
from executions.states import ExecutionStatus
from executions.target_changes import PlanOfTenant, changes_of, out_of_use
from safety import rbac
from safety.approvals import approvals_needed

E = ExecutionStatus

MOST_SAID = 3


@dataclass(frozen=True, slots=True)
class Permit:
    """refusal   how the execution ends instead of going on; None when it may go on
    waits_before  the steps, and waves, that may not begin, for want of an approval of their own
    """

    refusal: Ending | None = None
    waits_before: frozenset[Point] = frozenset()


FORBIDDEN = Ending(E.FAILED, "The right to run this plan was withdrawn before it started.", "forbidden")


def look_again(states: Sequence[ExecutionState]) -> list[Permit]:
    """Return the permit of each. Three queries, however many they are, and four more when some were approved."""
    gone = out_of_use({number for state in states for number in state.asset_ids()})
    allowed = _allowed(states)
    approved = [state for state in states if state.approval_level > 0]
    plans = {state.id: PlanOfTenant(state.tenant_id, state.document, state.actor_id) for state in approved}
    changes = changes_of(plans) if plans else {}
    able = rbac.approvers_among({(user_id, state.id) for state in approved for _, user_id in state.approvals})
    permits = []
    for state, may in zip(states, allowed, strict=True):
        refusal = _gone(state, gone) or (None if may else FORBIDDEN)
        if state.approval_level == 0:
            permits.append(Permit(refusal))
            continue
        standing = [(point, user_id) for point, user_id in state.approvals if (user_id, state.id) in able]
        refusal = _changed(changes.get(state.id, [])) or refusal or _too_few(state, standing)
        permits.append(Permit(refusal, _waits_before(state, standing)))
    return permits


def _allowed(states: Sequence[ExecutionState]) -> list[bool]:
    """Whether the requester may still do this on every target."""
    uses = [(number, use) for number, state in enumerate(states) for use in state.uses()]
    answers = rbac.permitted_many([(states[number].actor_id, *use) for number, use in uses])
    allowed = [True] * len(states)
    for (number, _), answer in zip(uses, answers, strict=True):
        allowed[number] = allowed[number] and answer
    return allowed


def _gone(state: ExecutionState, gone: dict[int, str]) -> Ending | None:
    """What nobody approved runs on the machines that its requester saw, but never on one that is not to be used."""
    names = {t.planned["asset_id"]: t.name for step in state.steps for t in step.targets if t.planned}
    said = [f"{names[number]} {what}" for number, what in gone.items() if number in names]
    if not said:
        return None
    more = f", and {len(said) - MOST_SAID} more" if len(said) > MOST_SAID else ""
    return Ending(E.FAILED, f"{'; '.join(said[:MOST_SAID])}{more}, so it was not run.", "targets_changed")


def _changed(changes: list[str]) -> Ending | None:
    if not changes:
        return None
    more = f" And {len(changes) - MOST_SAID} more." if len(changes) > MOST_SAID else ""
    reason = f"Its approval is void, because its machines have changed: {' '.join(changes[:MOST_SAID])}{more}"
    return Ending(E.CANCELLED, reason, "targets_changed")


def _too_few(state: ExecutionState, standing: list[tuple[Point, int]]) -> Ending | None:
    needed = approvals_needed(state.approval_level)
    given = len({user_id for point, user_id in standing if point == WHOLE_PLAN})
    if given >= needed:
        return None
    reason = (
        f"Only {given} of {needed} approvals stand: who gave the others withdrew them, or may not approve any more."
    )
    return Ending(E.CANCELLED, reason, WITHDRAWN)


def _waits_before(state: ExecutionState, standing: list[tuple[Point, int]]) -> frozenset[Point]:
    approved = {point for point, _ in standing}
    return frozenset(points_to_approve(state.document, state.approval_level)) - approved
