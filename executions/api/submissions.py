"""Submit: one plan, up to 1,000 of them, or only a look at what would happen."""

from __future__ import annotations

import logging
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.http import HttpResponse
from pydantic import ValidationError
from rest_framework.request import Request

from executions.api.answers import answer
from executions.api.base import ApiView, caller
from executions.api.bodies import BatchBody, PreviewBody, batch_submission_of, preview_of, submission_of
from executions.api.detail import execution_state, links
from executions.api.problems import body_errors, describe
from executions.api.reading import idempotency_key, read_body, wait_seconds
from executions.api.schema import call
from executions.api.shapes import BatchAnswers, Preview
from executions.live.hub import hub
from executions.live.reachability import check_machines
from executions.models import Execution
from executions.services import Accepted, Refused, Submission, preview, submit, submit_many
from executions.states import FINAL_EXECUTION, ExecutionStatus
from safety.scopes import Scope

logger = logging.getLogger(__name__)

EXAMPLE_PLAN: dict[str, Any] = {
    "title": "Free space on the web servers",
    "steps": [
        {
            "id": "df",
            "tool": "command",
            "description": "How full the root file system is",
            "inputs": {"argv": ["df", "-h", "/"]},
            "targets": ["localhost"],
        }
    ],
}
EXAMPLE_BODY = {"plan": EXAMPLE_PLAN, "reason": "Weekly look", "tags": ["weekly"], "priority": 5}
EXAMPLE_ACCEPTED = {
    "id": 4711,
    "status": "queued",
    "approval_level": 0,
    "sla_class": "fast",
    "links": links(4711),
}


def take_in(request: Request) -> HttpResponse:
    """POST /executions/: 202, or 200 for the same request again; with `Prefer: wait` 200 and the end of it."""
    key = idempotency_key(request)
    accepted = submit(submission_of(read_body(request), key=key), by=caller(request))
    headers = {"Location": links(accepted.execution_id)["self"]}
    if accepted.replay:
        headers["Idempotent-Replay"] = "true"
    seconds = wait_seconds(request)
    if seconds is not None and accepted.status != ExecutionStatus.PENDING_APPROVAL:  # a person may take hours
        headers["Preference-Applied"] = f"wait={seconds}"
        state = wait_for_end(accepted.execution_id, seconds)
        if state is not None:
            return answer(state, 200, headers)
    return answer(accepted_as_json(accepted), 200 if accepted.replay and seconds is None else 202, headers)


def accepted_as_json(accepted: Accepted) -> dict[str, Any]:
    """What the answer to a submit says."""
    return {
        "id": accepted.execution_id,
        "status": accepted.status,
        "approval_level": accepted.approval_level,
        "sla_class": accepted.sla_class,
        "links": links(accepted.execution_id),
    }


def wait_for_end(execution_id: int, seconds: float) -> dict[str, Any] | None:
    """Wait until the execution is final and return its whole state; None when it is not within `seconds`.

    Holds no database connection while it waits. The execution is accepted already: trouble with the database while
    waiting must not look like a refusal, so it only means that there is nothing to tell yet.
    """

    def look() -> dict[str, Any] | None:
        try:
            return _final_state(execution_id)
        except (DatabaseError, InterfaceError) as fault:
            logger.warning("Could not look at execution %s while waiting for its end: %s", execution_id, fault)
            return None

    return hub.wait_for(execution_id, look, seconds)


def _final_state(execution_id: int) -> dict[str, Any] | None:
    ended = Execution.objects.filter(pk=execution_id, status__in=FINAL_EXECUTION)
    found = ended.with_check().select_related("actor", "tenant").first()
    return execution_state(found) if found else None


class BatchView(ApiView):
    """Many plans in one request."""

    @call(
        "executions_batch",
        "Submit up to 1,000 plans",
        scope=Scope.SUBMIT,
        tag="executions",
        description="Each plan is judged for itself: one that is refused holds up no other. The answers are in the "
        "order of the plans, each with the `status_code` that its own request would have had.",
        takes=BatchBody,
        gives=BatchAnswers,
        refuses=("draining", "forbidden"),
        example={"executions": [{**EXAMPLE_BODY, "idempotency_key": "weekly-2026-05"}]},
        answer={"results": [{"status_code": 202, **EXAMPLE_ACCEPTED}]},
    )
    def post(self, request: Request) -> HttpResponse:
        bodies = BatchBody.model_validate(read_body(request)).executions
        results: list[dict[str, Any]] = [{} for _ in bodies]
        submissions: list[Submission] = []
        places: list[int] = []
        for place, body in enumerate(bodies):
            try:
                submissions.append(batch_submission_of(body))
                places.append(place)
            except ValidationError as fault:
                results[place] = _refused_body(fault, request.path)
        for place, outcome in zip(places, submit_many(submissions, by=caller(request)), strict=True):
            results[place] = _batch_answer(outcome, request.path)
        return answer({"results": results})


def _refused_body(fault: ValidationError, instance: str) -> dict[str, Any]:
    errors = body_errors(fault)
    told = describe("invalid_body", "The item is not what a submit takes.", instance=instance, errors=errors)
    return {"status_code": told["status"], **told}


def _batch_answer(outcome: Accepted | Refused, instance: str) -> dict[str, Any]:
    if isinstance(outcome, Accepted):
        status = 200 if outcome.replay else 202
        return {"status_code": status, **accepted_as_json(outcome), "replay": outcome.replay}
    told = describe(
        outcome.code,
        outcome.message,
        instance=instance,
        status=outcome.status,
        errors=outcome.errors,
        how_to_fix=outcome.how_to_fix,
    )
    return {"status_code": outcome.status, **told}


class PreviewView(ApiView):
    """A submit that writes nothing."""

    @call(
        "executions_preview",
        "Show what a submit would do",
        scope=Scope.SUBMIT,
        tag="executions",
        description="Steps, resolved targets, locks, approvals, permissions and time limits, or every reason why the "
        "plan would be refused. Nothing is written, unless `reachability` is asked for: workers then connect and sign "
        "in to the machines, as executions of the tool `asset-check`.",
        takes=PreviewBody,
        gives=Preview,
        example=EXAMPLE_BODY,
    )
    def post(self, request: Request) -> HttpResponse:
        wanted, tries_machines = preview_of(read_body(request))
        shown = preview(wanted.document, by=caller(request), check=wanted.check)
        if tries_machines and shown["acceptable"]:
            check_machines(shown, by=caller(request))
        return answer(shown)
