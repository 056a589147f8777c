"""Submit: compile, decide, check rights, and take in with one statement, in one transaction."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from django.conf import settings
from django.db import DatabaseError

from executions.clients import AT_A_DOOR, trace_id
from executions.clients.reporting import report
from executions.inventory import TenantInventory
from executions.models import Asset
from executions.plans import CompiledPlan, PlanLimits, PlanRefused, Problem, compile_plan
from executions.plans.inventory import InventoryUnavailable
from executions.service_inventory import inventory_of
from executions.services.blast_radius import measure
from executions.services.plan_secrets import PlanSecrets
from executions.services.policy import Decision, decide
from executions.services.refusals import Refused, audited, forbidden
from executions.states import ExecutionStatus
from executions.target_changes import targets_hash
from executions.tools import get_catalog
from opsconductor.prepared import prepared_cursor
from queueing.control import is_draining
from safety import audit, idempotency, rbac
from safety.masking import mask_text
from safety.models import ActionClass, User
from safety.timeouts import Limits, policies

log = logging.getLogger(__name__)

DRAIN_RETRY_AFTER_SECONDS = 30
MAX_BATCH = 1000

_ACTION_CLASSES: tuple[str, ...] = tuple(ActionClass.values)  # the enumeration makes a new list at every look


@dataclass(frozen=True, slots=True)
class Submission:
    """One request to run a plan. `document` is the plan in any accepted form: bytes, text or a mapping.

    check: say what would change and change nothing, also when the plan does not ask for that itself.
    """

    document: object
    reason: str = ""
    tags: Sequence[str] = ()
    priority: int = 5
    not_before: datetime | None = None
    trace_id: str = ""
    idempotency_key: str | None = None
    parent_id: int | None = None
    check: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The execution that answers a submission; `replay` when it was made by an earlier one."""

    execution_id: int
    status: str
    approval_level: int
    sla_class: str
    replay: bool


@dataclass(slots=True)
class Planning:
    """What compiling many plans of one user shares: inventory, policies and rights, each looked up once."""

    by: User
    limits: PlanLimits = field(init=False)
    inventory: TenantInventory = field(init=False)
    policies: dict[tuple[str, str], Limits] = field(init=False)
    secrets: PlanSecrets = field(init=False)
    _permitted: dict[str, dict[int, bool]] = field(default_factory=dict)
    _may_submit: bool | None = None

    def __post_init__(self) -> None:
        self.limits = PlanLimits(max_targets=settings.MAX_TARGETS)
        self.inventory = inventory_of(self.by.tenant_id, AT_A_DOOR, seen_by=self.by)
        self.policies = policies()
        self.secrets = PlanSecrets(self.by)

    def compile(self, document: object, *, check: bool = False) -> CompiledPlan:
        """Raises Refused with every problem of the plan, or because the inventory cannot be asked for its machines."""
        try:
            return compile_plan(
                document, inventory=self.inventory, catalog=get_catalog(), limits=self.limits, check=check
            )
        except PlanRefused as refused:
            errors = self._as_seen(refused.problems)
            count = f"{len(errors)} problems" if len(errors) > 1 else "a problem"
            raise Refused(
                "invalid_plan",
                f"The plan has {count}.",
                "Correct each of the errors listed, then submit the plan again.",
                status=422,
                errors=errors,
            ) from None
        except InventoryUnavailable as trouble:
            raise Refused(
                "inventory_unavailable",
                str(trouble),
                "Submit the plan again when the asset service answers; the Retry-After header says when to look.",
                status=503,
                retry_after=math.ceil(trouble.retry_after),
            ) from None

    def _as_seen(self, problems: Sequence[Problem]) -> list[dict[str, Any]]:
        """The problems, without those candidates that the user may not see."""
        named = {candidate.asset_id for problem in problems for candidate in problem.candidates}
        visible = Asset.objects.filter(rbac.visible_assets(self.by), pk__in=named) if named else Asset.objects.none()
        return [problem.as_dict(seen=set(visible.values_list("pk", flat=True))) for problem in problems]

    def learn_rights(self, plans: Sequence[CompiledPlan]) -> None:
        """Look up the rights on all targets of some plans: one query for each action class, not for each plan."""
        for action_class in _ACTION_CLASSES:
            self.permitted(
                action_class,
                {u.asset_id for plan in plans for u in plan.targets.values() if u.action_class == action_class},
            )

    @property
    def may_submit(self) -> bool:
        if self._may_submit is None:
            self._may_submit = rbac.can_submit(self.by)
        return self._may_submit

    def permitted(self, action_class: str, asset_ids: set[int]) -> set[int]:
        """Return those of the assets on which the user may run plans of this class."""
        known = self._permitted.setdefault(action_class, {})
        if unknown := asset_ids - known.keys():
            granted = rbac.permitted_assets(self.by, action_class, unknown)
            known.update({asset_id: asset_id in granted for asset_id in unknown})
        return {asset_id for asset_id in asset_ids if known[asset_id]}

    def sees_all_of(self, plan: CompiledPlan) -> bool:
        """Whether the user may see every machine that the plan names."""
        visible = Asset.objects.filter(rbac.visible_assets(self.by), pk__in=plan.targets.keys())
        return visible.count() == len(plan.targets)

    def check_rights(self, plan: CompiledPlan) -> None:
        """Refuse a plan with a target that this user may not use so; without targets the right to submit is needed."""
        if not plan.targets and not self.may_submit:
            raise forbidden(
                "You may not submit plans.", "Ask an administrator for the role requester, then submit again."
            )
        for action_class in _ACTION_CLASSES:
            wanted = {use.asset_id for use in plan.targets.values() if use.action_class == action_class}
            if missing := wanted - self.permitted(action_class, wanted):
                # Named only if the caller may see it: a refusal must not tell which machines there are.
                visible = Asset.objects.filter(rbac.visible_assets(self.by), pk__in=missing)
                errors = [_missing_right(plan, asset.pk, action_class) for asset in visible.order_by("pk")]
                raise forbidden(
                    f"You may not run plans that {action_class} on {len(missing)} of the plan's targets.",
                    f"Ask an administrator for execute_{action_class} on them, or leave them out of the plan.",
                    errors,
                )


def _missing_right(plan: CompiledPlan, asset_id: int, action_class: str) -> dict[str, Any]:
    name = plan.targets[asset_id].name
    return {
        "code": "forbidden",
        "path": next(
            f"steps[{step['position'] - 1}].targets"
            for step in plan.document["steps"]
            if any(target["asset_id"] == asset_id for target in step["targets"])
        ),
        "message": f"You may not run plans that {action_class} on {name}.",
        "how_to_fix": f"Ask an administrator for execute_{action_class} on {name} or on one of its groups.",
    }


@audited("execution.submit")
def submit(submission: Submission, *, by: User) -> Accepted:
    """Take in one plan. When this returns, the execution is kept whatever crashes afterwards.

    Raises Refused: invalid_plan (422, with every problem), forbidden (403), draining (503), invalid_input (422),
    idempotency_key_reused (422).
    """
    answer = submit_many([submission], by=by)[0]
    if isinstance(answer, Refused):
        raise answer
    return answer


@audited("execution.submit")
def submit_many(submissions: Sequence[Submission], *, by: User) -> list[Accepted | Refused]:
    """Take in up to 1,000 plans in one transaction; each gets its own answer, in order.

    Raises Refused only for what concerns all of them: draining, too many.
    """
    if is_draining():
        raise Refused(
            "draining",
            "The queue is draining and takes in nothing new.",
            "Submit again after `manage.py resume`; the Retry-After header says when to look.",
            status=503,
            retry_after=DRAIN_RETRY_AFTER_SECONDS,
        )
    if len(submissions) > MAX_BATCH:
        raise Refused(
            "too_many_executions",
            f"A batch holds at most {MAX_BATCH} executions; this one has {len(submissions)}.",
            "Send it in several batches.",
            status=422,
        )
    planning = Planning(by)
    answers: list[Accepted | Refused | None] = [None] * len(submissions)
    plans: dict[int, CompiledPlan] = {}
    for number, submission in enumerate(submissions):
        try:
            _check_fields(submission)
            trace_id.set(submission.trace_id)  # of what the asset service is asked for it
            plans[number] = planning.compile(submission.document, check=submission.check)
        except Refused as refused:
            answers[number] = refused
    trace_id.set("")
    _report()
    planning.learn_rights(list(plans.values()))
    planning.secrets.learn(list(plans.values()))
    requests: list[dict[str, Any]] = []
    for number, plan in plans.items():
        try:
            requests.append(_request(number, submissions[number], plan, planning))
        except Refused as refused:
            answers[number] = refused
    for number, answer in _take_in(requests).items():
        answers[number] = answer
    _record_refusals(answers, submissions, by)
    return [answer for answer in answers if answer is not None]


def _report() -> None:
    """Tell how the asset service answers, if it was asked. No plan is refused because that cannot be written."""
    try:
        report()
    except DatabaseError as error:
        log.warning("How the asset service answers could not be written: %s", str(error).partition("\n")[0])


def _record_refusals(answers: Sequence[Accepted | Refused | None], submissions: Sequence[Submission], by: User) -> None:
    """Write into the audit what was refused; what was taken in is there, by the statement that took it in."""
    refusals = []
    for answer, submission in zip(answers, submissions, strict=True):
        if isinstance(answer, Refused) and not answer.is_recorded:
            answer.is_recorded = True
            codes = sorted({problem["code"] for problem in answer.problems()})
            retried = {"retry_of": submission.parent_id} if submission.parent_id is not None else {}
            refusals.append(
                audit.Entry(
                    action="execution.retry" if retried else "execution.submit", by=by, object_type="execution",
                    allowed=False, code=answer.code, reason=answer.message, data={"codes": codes, **retried},
                )
            )  # fmt: skip
    audit.record_refusals(refusals)


def _request(number: int, submission: Submission, plan: CompiledPlan, planning: Planning) -> dict[str, Any]:
    """Return one request in the shape of executions/sql/intake.sql. Raises Refused."""
    by, here = planning.by, audit.current_origin()
    planning.check_rights(plan)
    planning.secrets.check(plan)
    measure(plan, by.tenant_id)
    decision = decide(plan, planning.policies)
    return {
        "n": number,
        "tenant_id": by.tenant_id,
        "actor_id": by.pk,
        "actor": by.actor,
        "door": here.door,
        "address": here.address[:120],
        "parent_id": submission.parent_id,
        "title": mask_text(plan.title)[:300],
        "plan_hash": plan.hash,
        # Nobody approves what runs by itself, so nothing need be said of what was approved.
        "targets_hash": targets_hash(plan.document) if decision.approval_level else "",
        "action_class": plan.action_class,
        "environment": plan.document["environment"] or "",
        "reason": mask_text(submission.reason),
        "tags": [mask_text(tag) for tag in submission.tags],
        "trace_id": submission.trace_id,
        "priority": submission.priority,
        "not_before": submission.not_before.isoformat() if submission.not_before else None,
        "key": _key(submission, plan, by),
        "request_hash": plan.request_hash,
        "pool": plan.document["pool"],
        "region": plan.document["region"],
        "document": plan.document,
        **_decided(decision),
    }


def _decided(decision: Decision) -> dict[str, Any]:
    waits = decision.approval_level > 0
    return {
        "status": ExecutionStatus.PENDING_APPROVAL if waits else ExecutionStatus.QUEUED,
        "sla_class": decision.sla_class,
        "approval_level": decision.approval_level,
        "execution_seconds": decision.execution_seconds,
        "step_seconds": decision.limits.step_seconds,
        "approval_seconds": decision.limits.approval_seconds,
        "max_attempts": decision.limits.max_attempts,
        "locks": decision.locks,
    }


def _key(submission: Submission, plan: CompiledPlan, by: User) -> str | None:
    """The client's key, or the content's; plans that only read, and retries, are new each time they are asked for."""
    if submission.idempotency_key is not None:
        try:
            return idempotency.client_key(by.pk, submission.idempotency_key)
        except ValueError as error:
            raise _invalid("idempotency_key", str(error), "Use a UUID, for example.") from None
    if plan.action_class == "read" or submission.parent_id is not None:
        return None
    return idempotency.content_key(by.tenant_id, by.pk, plan.hash)


def _check_fields(submission: Submission) -> None:
    if not isinstance(submission.priority, int) or not 1 <= submission.priority <= 10:
        raise _invalid(
            "priority",
            "priority must be a whole number from 1 to 10.",
            "1 goes first, 10 goes last; leave it out for 5.",
        )
    if len(submission.tags) > 50 or any(not isinstance(tag, str) or not 0 < len(tag) <= 100 for tag in submission.tags):
        raise _invalid(
            "tags", "tags must be at most 50 texts of 1 to 100 characters.", "Shorten the list or the texts."
        )
    if len(submission.trace_id) > 120:
        raise _invalid("trace_id", "trace_id is longer than 120 characters.", "Send a shorter one.")
    if submission.not_before is not None and submission.not_before.tzinfo is None:
        raise _invalid("not_before", "not_before has no time zone.", "Write it as 2026-01-31T22:00:00Z.")
    texts = {"reason": [submission.reason], "trace_id": [submission.trace_id], "tags": submission.tags}
    for path, values in texts.items():
        if not all(map(_can_be_stored, values)):
            raise _invalid(path, f"{path} holds a NUL character or half of a surrogate pair.", "Remove it.")


def _can_be_stored(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _invalid(path: str, message: str, how_to_fix: str) -> Refused:
    error = {"code": "invalid_input", "path": path, "message": message, "how_to_fix": how_to_fix}
    return Refused("invalid_input", message, how_to_fix, status=422, errors=[error])


def _take_in(requests: list[dict[str, Any]]) -> dict[int, Accepted | Refused]:
    """Send the requests to the database; of equal keys in one call the first decides, the others repeat its answer."""
    firsts: dict[tuple[int, str], dict[str, Any]] = {}
    repeats: list[tuple[dict[str, Any], dict[str, Any]]] = []
    sent: list[dict[str, Any]] = []
    for request in requests:
        key = (request["tenant_id"], request["key"])
        if request["key"] is not None and key in firsts:
            repeats.append((request, firsts[key]))
        else:
            firsts[key] = request
            sent.append(request)
    if not sent:
        return {}
    # One statement, so all of it is kept or nothing; it needs no BEGIN and COMMIT of its own around it.
    with prepared_cursor() as cursor:
        cursor.execute(
            "SELECT executions_intake(%s::jsonb, %s::interval, %s::interval)::text",
            [orjson.dumps(sent).decode(), str(settings.IDEMPOTENCY_WINDOW), str(settings.QUEUE_AGEING)],
        )
        row = cursor.fetchone()
    answers = {answer["n"]: _answer(answer) for answer in orjson.loads(row[0])}
    for request, first in repeats:
        earlier = answers[first["n"]]
        same = request["request_hash"] == first["request_hash"]
        if isinstance(earlier, Refused) or not same:
            answers[request["n"]] = earlier if same else _reused()
        else:
            answers[request["n"]] = Accepted(
                earlier.execution_id, earlier.status, earlier.approval_level, earlier.sla_class, replay=True
            )
    return answers


def _answer(answer: dict[str, Any]) -> Accepted | Refused:
    if answer["conflict"]:
        return _reused()
    return Accepted(
        execution_id=answer["id"],
        status=answer["status"],
        approval_level=answer["approval_level"],
        sla_class=answer["sla_class"],
        replay=answer["replay"],
    )


def _reused() -> Refused:
    return Refused(
        "idempotency_key_reused",
        "This Idempotency-Key was used for another plan.",
        "Send the same plan again, or use a new key for the new plan.",
        status=422,
    )
