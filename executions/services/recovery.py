"""What a person does after trouble: retry as a new execution, or say what became of a step whose outcome is unknown."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection
from typing import Any

from django.db import transaction

from executions.models import Execution, Step
from executions.services.answers import OUTCOMES, answer
from executions.services.decisions import void_step_approvals
from executions.services.entries import entries_of
from executions.services.records import move
from executions.services.refusals import Refused, audited, forbidden, not_found
from executions.services.remainder import remainder
from executions.services.submit import Accepted, Submission, submit
from executions.states import ExecutionStatus, StepStatus
from queueing import queue
from queueing.dead_letters import close, lock_open
from queueing.models import DeadLetterState
from safety import audit, rbac
from safety.masking import mask_text
from safety.models import User

E = ExecutionStatus
S = StepStatus

# The fields of a compiled step that say what it does; the others are derived from them again.
RESUBMITTED = (
    "id",
    "description",
    "tool",
    "inputs",
    "depends_on",
    "on_failure",
    "retry",
    "timeout_seconds",
    "idempotent",
    "requires_approval",
    "success",
    "rollback",
    "fan_out",
    "run_as",
    "estimated_duration",
)

# The same of what undoes a step.
RESUBMITTED_ROLLBACK = ("tool", "inputs", "retry", "timeout_seconds", "idempotent", "success")


@audited("execution.retry")
def retry(
    execution_id: int,
    *,
    by: User,
    reason: str = "",
    from_start: bool = False,
    hosts: Collection[str] = (),
    only: str = "",
) -> Accepted:
    """Submit a new execution, linked to the old, from its first failed step (or from the start).

    The new plan holds the steps that did not succeed, or were undone, on the targets where that was so, or on those of
    them that `hosts` and `only` choose (remainder.py).
    Raises Refused: not_found, not_final (409), whatever `remainder` raises, and whatever `submit` raises.
    """
    old = Execution.objects.visible_to(by).select_related("plan").filter(pk=execution_id).first()
    if old is None:
        raise not_found(execution_id)
    if not old.is_final:
        raise Refused(
            "not_final",
            f"Execution {old.pk} has not ended: it is {old.get_status_display().lower()}.",
            "Wait for its end, or cancel it first.",
            status=409,
        )
    if from_start and (hosts or only):
        raise Refused(
            "invalid_input",
            "From the start it runs on all of its hosts.",
            "Leave out from_start to retry some hosts, or hosts and only to begin from the start.",
            status=422,
        )
    document = copy.deepcopy(old.plan.document) if from_start else remainder(old, hosts=hosts, only=only)
    return submit(
        Submission(
            document=resubmittable(document),
            reason=reason or f"Retry of #{old.pk}",
            tags=old.tags,
            priority=old.priority,
            trace_id=old.trace_id,
            parent_id=old.pk,
            # A double click is one retry; after one that failed, another may be asked for.
            idempotency_key=None if from_start else _key_of(old, hosts, only),
        ),
        by=by,
    )


def _key_of(old: Execution, hosts: Collection[str], only: str) -> str:
    """Another choice of hosts is another retry; the same one asked for twice is one."""
    key = f"retry of execution {old.pk}"
    if not hosts and not only:
        return key
    return f"{key}: {hashlib.sha256(json.dumps([only, sorted(set(hosts))]).encode()).hexdigest()}"


def resubmittable(document: dict[str, Any]) -> dict[str, Any]:
    """Return a compiled plan in the form that is submitted: targets by asset id, no derived fields."""
    steps = []
    # Steps of which none depends on another are independent here; read again without a word, they would be a sequence.
    independent = not any(step["depends_on"] for step in document["steps"])
    for step in document["steps"]:
        plain = {name: step[name] for name in RESUBMITTED if step.get(name) is not None}
        if step.get("rollback"):
            undo = step["rollback"]
            plain["rollback"] = {name: undo[name] for name in RESUBMITTED_ROLLBACK if undo.get(name) is not None}
        if independent:
            plain["execution_order"] = 1
        if step["targets"]:
            plain["targets"] = [str(target["asset_id"]) for target in step["targets"]]
        steps.append(plain)
    return {
        "title": document["title"],
        "steps": steps,
        # Without `check`, what was only checked would be carried out.
        **{name: document[name] for name in ("environment", "labels", "safety_checks", "check") if document.get(name)},
    }


@audited("execution.resolve")
def resolve(execution_id: int, *, by: User, step: str, outcome: str, reason: str) -> str:
    """Say what became of a step whose outcome is unknown; the execution goes on from there. Return its status.

    `step` is the step's id in the plan; `outcome` succeeded, failed or run_again. Of a rollback that did not succeed
    they say: it is undone now, it stays as it is, try once more.
    Raises Refused: not_found, forbidden, invalid_input (422), not_waiting (409).
    """
    if outcome not in OUTCOMES:
        raise Refused(
            "invalid_input",
            f"'{outcome}' is not a way to resolve a step.",
            f"Say one of: {', '.join(OUTCOMES)}.",
            status=422,
        )
    if not reason.strip():
        raise Refused("invalid_input", "A reason is needed.", "Say how you know.", status=422)
    with transaction.atomic():
        execution = _needing_attention(execution_id, by)
        found = Step.objects.unanswered().filter(execution=execution, key=step).first()
        if found is None:
            raise Refused(
                "not_waiting",
                f"Step '{step}' of execution {execution_id} is not waiting for an answer.",
                "Look at the execution's page for the steps that wait for one.",
                status=409,
            )
        answer(found, OUTCOMES[outcome], actor=by.actor, reason=reason)
        if OUTCOMES[outcome] == S.PENDING:
            void_step_approvals([execution.pk], reason=reason)
        audit.record(
            "execution.resolve", by=by, object_type="execution", object_id=execution.pk, object_name=execution.title,
            reason=reason, data={"step": step, "as": outcome},
        )  # fmt: skip
        if Step.objects.unanswered().filter(execution=execution).exists():
            return E.NEEDS_ATTENTION
        if not move(
            execution.pk, E.NEEDS_ATTENTION, E.QUEUED, actor=by.actor, reason=reason, status_reason="", restart=True
        ):
            raise Refused("not_waiting", "Somebody else has just decided.", "Look at the page again.", status=409)
        close(execution.pk, DeadLetterState.RESOLVED, by=by.actor, reason=mask_text(reason))
        queue.enqueue(entries_of([execution.pk], at_once=True))
    return E.QUEUED


def _needing_attention(execution_id: int, by: User) -> Execution:
    lock_open(execution_id)
    execution = Execution.objects.visible_to(by).select_for_update().filter(pk=execution_id).first()
    if execution is None:
        raise not_found(execution_id)
    if not rbac.can_cancel(by, execution):
        raise forbidden(
            "You may not decide what becomes of this execution.",
            "Ask the one who submitted it, an operator or an administrator.",
        )
    if execution.status != E.NEEDS_ATTENTION:
        raise Refused(
            "not_waiting",
            f"Execution {execution_id} does not need attention: it is {execution.get_status_display().lower()}.",
            "Look at its page: somebody may have decided already.",
            status=409,
        )
    return execution
