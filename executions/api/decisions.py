"""What people decide about an execution: cancel, approve, reject, retry, resolve."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from executions import services
from executions.api.answers import answer
from executions.api.base import ApiView, caller
from executions.api.bodies import DecisionBody, ReasonBody, ResolveBody, RetryBody, WithdrawBody
from executions.api.detail import links
from executions.api.reading import read_body
from executions.api.schema import call
from executions.api.shapes import AcceptedExecution, Status
from executions.api.submissions import EXAMPLE_ACCEPTED, accepted_as_json
from safety.scopes import Scope

_OF_A_DECISION = (
    "not_found",
    "forbidden",
    "self_approval",
    "not_waiting_for_approval",
    "already_decided",
    "approval_expired",
)


def _status(execution_id: int, status: str) -> HttpResponse:
    return answer({"id": execution_id, "status": status, "links": links(execution_id)})


class CancelView(ApiView):
    """Stop it."""

    @call(
        "executions_cancel",
        "Cancel an execution",
        scope=(Scope.SUBMIT, Scope.OPERATE),
        tag="decisions",
        description="What waits is cancelled at once; what runs is asked to stop within a second, and is `cancelling` "
        "until its worker confirmed it. Asking again changes nothing.",
        takes=ReasonBody,
        gives=Status,
        refuses=("not_found", "forbidden", "already_final", "busy"),
        example={"reason": "Wrong machines"},
        answer={"id": 4711, "status": "cancelling", "links": links(4711)},
    )
    def post(self, request: Request, execution_id: int) -> HttpResponse:
        body = ReasonBody.model_validate(read_body(request))
        return _status(execution_id, services.cancel(execution_id, by=caller(request), reason=body.reason))


class ApproveView(ApiView):
    """Let it run."""

    @call(
        "executions_approve",
        "Approve an execution",
        scope=Scope.APPROVE,
        tag="decisions",
        description="The last approval that is needed puts it into the queue. Nobody approves what they asked for. At "
        "level 3 it comes back before each step that cannot be undone, and waits for one more approval, and between "
        "two waves whose gate asks for one: name that step, and wave, and nothing else is approved should it have gone "
        "on meanwhile.",
        takes=DecisionBody,
        gives=Status,
        refuses=(*_OF_A_DECISION, "targets_changed", "files_changed"),
        example={"comment": "Looked at the targets"},
        answer={"id": 4711, "status": "queued", "links": links(4711)},
    )
    def post(self, request: Request, execution_id: int) -> HttpResponse:
        body = DecisionBody.model_validate(read_body(request))
        comment = body.comment or body.reason
        status = services.approve(execution_id, by=caller(request), comment=comment, step=body.step, wave=body.wave)
        return _status(execution_id, status)


class RejectView(ApiView):
    """Do not let it run."""

    @call(
        "executions_reject",
        "Reject an execution",
        scope=Scope.APPROVE,
        tag="decisions",
        takes=DecisionBody,
        gives=Status,
        description="For good. What was done before a step, or a wave, that is rejected stays done, and "
        "`status_reason` says it; unless the step says `on_failure: rollback`: then it is `cancelling` until that is "
        "undone.",
        refuses=_OF_A_DECISION,
        example={"comment": "Not in the office hours"},
        answer={"id": 4711, "status": "rejected", "links": links(4711)},
    )
    def post(self, request: Request, execution_id: int) -> HttpResponse:
        body = DecisionBody.model_validate(read_body(request))
        comment = body.comment or body.reason
        status = services.reject(execution_id, by=caller(request), comment=comment, step=body.step, wave=body.wave)
        return _status(execution_id, status)


class WithdrawApprovalView(ApiView):
    """Take an approval back."""

    @call(
        "executions_withdraw_approval",
        "Take back an approval that you gave",
        scope=Scope.APPROVE,
        tag="decisions",
        description="Before anything has begun it waits for somebody else to approve. Later it is cancelled, with the "
        "reason `approval_withdrawn`: at once, or by its worker within a second.",
        takes=WithdrawBody,
        gives=Status,
        refuses=("not_found", "already_final", "nothing_to_withdraw", "reason_required", "busy"),
        example={"reason": "The maintenance window was moved"},
        answer={"id": 4711, "status": "cancelling", "links": links(4711)},
    )
    def post(self, request: Request, execution_id: int) -> HttpResponse:
        body = WithdrawBody.model_validate(read_body(request))
        status = services.withdraw_approval(execution_id, by=caller(request), reason=body.reason, step=body.step)
        return _status(execution_id, status)


class RetryView(ApiView):
    """Once more."""

    @call(
        "executions_retry",
        "Retry an ended execution as a new one",
        scope=Scope.SUBMIT,
        tag="decisions",
        description="The new execution names the old one as its `parent`. It begins with the steps that did not "
        "succeed, on the targets where they did not, or with `from_start` with everything. `hosts` and `only` choose "
        "some of those hosts.",
        takes=RetryBody,
        gives=AcceptedExecution,
        status=202,
        refuses=(
            "not_found",
            "forbidden",
            "not_final",
            "nothing_to_retry",
            "output_not_repeated",
            "step_left_out",
            "invalid_input",
            "invalid_plan",
            "draining",
        ),
        example={"reason": "The disk was full", "from_start": False},
        answer=EXAMPLE_ACCEPTED,
    )
    def post(self, request: Request, execution_id: int) -> HttpResponse:
        body = RetryBody.model_validate(read_body(request))
        accepted = services.retry(
            execution_id,
            by=caller(request),
            reason=body.reason,
            from_start=body.from_start,
            hosts=body.hosts,
            only=body.only or "",
        )
        headers = {"Location": links(accepted.execution_id)["self"]}
        return answer({**accepted_as_json(accepted), "parent": execution_id}, 202, headers)


class ResolveView(ApiView):
    """Say what nobody but a person can know."""

    @call(
        "executions_resolve",
        "Say what became of a step whose outcome is unknown",
        scope=Scope.OPERATE,
        tag="decisions",
        description="For an execution that needs attention. When no step is unknown any more it goes on by itself.",
        takes=ResolveBody,
        gives=Status,
        refuses=("not_found", "forbidden", "not_waiting"),
        example={"step": "restart", "as": "succeeded", "reason": "systemctl status shows it restarted at 14:03"},
        answer={"id": 4711, "status": "queued", "links": links(4711)},
    )
    def post(self, request: Request, execution_id: int) -> HttpResponse:
        body = ResolveBody.model_validate(read_body(request))
        status = services.resolve(
            execution_id, by=caller(request), step=body.step, outcome=body.outcome, reason=body.reason
        )
        return _status(execution_id, status)
