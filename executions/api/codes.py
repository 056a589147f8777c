"""Every code that a refusal of the API can carry: its HTTP status, its title and the way out of it.

docs/reference/errors.md lists these and the codes of plans, targets and the DLQ; a test keeps the two together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """status: HTTP; title: the same for every occurrence; way_out: what the caller does next, one sentence."""

    status: int
    title: str
    way_out: str


CODES: dict[str, Code] = {
    # The request itself
    "malformed_body": Code(400, "The body cannot be read", "Send one JSON or YAML object in UTF-8, each key once."),
    "invalid_parameter": Code(
        400, "A parameter of the query is invalid", "Correct the parameters that `errors` names."
    ),
    "invalid_header": Code(400, "A header of the request is invalid", "Correct the header that `detail` names."),
    "bad_request": Code(400, "The request cannot be understood", "Correct the request; see the API's schema."),
    "invalid_body": Code(422, "The body is not what this call takes", "Correct the fields that `errors` names."),
    "payload_too_large": Code(
        413, "The body is too large", "Send less at a time; see PlanLimits and the batch's limit."
    ),
    "unsupported_media_type": Code(
        415, "The body's format is not understood", "Send Content-Type: application/json or application/yaml."
    ),
    "method_not_allowed": Code(405, "The call does not exist with this method", "Use a method of the Allow header."),
    "not_acceptable": Code(406, "The answer is not available in this format", "Ask for application/json."),
    # Who asks
    "not_authenticated": Code(
        401,
        "Nobody is signed in",
        "Send Authorization: Bearer TOKEN, or sign in; `manage.py create_token USER` makes one.",
    ),
    "invalid_token": Code(
        401, "The token is not valid", "It is unknown, expired or revoked: have a new one made with `create_token`."
    ),
    "csrf_failed": Code(403, "The form token is missing", "Send X-CSRFToken with a session, or use a bearer token."),
    "forbidden": Code(403, "Not allowed", "Ask an administrator for the role or the right that `detail` names."),
    "insufficient_scope": Code(
        403,
        "The token is not for this",
        "Use a token with the scope that `detail` names; `manage.py create_token USER --scope SCOPE` makes one.",
    ),
    "self_approval": Code(
        403, "Nobody approves what they asked for", "Have somebody else with the right to approve decide."
    ),
    "throttled": Code(429, "Too many requests", "Wait as long as Retry-After says."),
    # What is asked for
    "not_found": Code(404, "Not found", "It does not exist, or not for you: check the id and whose token it is."),
    "invalid_plan": Code(422, "The plan is refused", "Correct every problem in `errors` and submit it again."),
    "idempotency_key_reused": Code(
        422, "The Idempotency-Key belongs to another request", "Use a new key, or send the same plan as before."
    ),
    "already_final": Code(409, "The execution has ended", "Nothing to do; `retry` makes a new one from it."),
    "not_final": Code(409, "The execution has not ended", "Wait for its end, or cancel it first."),
    "not_waiting_for_approval": Code(
        409, "The execution does not wait for an approval", "Read it again: somebody decided, or it expired."
    ),
    "already_decided": Code(409, "This person has already decided", "Nothing to do; each approver decides once."),
    "targets_changed": Code(
        409,
        "Its machines are not what they were when it was submitted",
        "Cancel it and submit the plan again: it is then shown, and approved, as it is now.",
    ),
    "files_changed": Code(
        409,
        "A playbook is not what it was when the plan was submitted",
        "Cancel it and submit the plan again: it is then shown, and approved, with the files as they are now.",
    ),
    "nothing_to_withdraw": Code(
        409, "You gave no approval that could be withdrawn", "Cancel the execution, or have that done."
    ),
    "approval_expired": Code(409, "The time to decide has run out", "Submit the plan again."),
    "nothing_to_retry": Code(409, "Every step succeeded", "Retry with `from_start`, or submit the plan again."),
    "output_not_repeated": Code(409, "It takes the output of a step that is done", "Retry with `from_start`."),
    "step_left_out": Code(
        409, "A step would run without one that it waits for", "Choose hosts of both steps, or retry all that is left."
    ),
    "not_waiting": Code(
        409, "It does not wait for a person", "Read it again: somebody decided, or its outcome is known."
    ),
    "invalid_input": Code(422, "A value is invalid", "Correct what `errors` names."),
    "too_many_executions": Code(422, "The batch is too long", "Send it in several batches of at most 1,000."),
    "unknown_step": Code(404, "No such step", "Use a step id of GET /executions/ID/steps/."),
    "no_longer_open": Code(409, "The DLQ entry is closed", "Nothing to do: somebody requeued or discarded it."),
    "unknown_outcome": Code(
        409,
        "The outcome of a step is unknown",
        "Say with `resolve` what became of its steps; then it goes on by itself.",
    ),
    "batch_ended": Code(409, "The batch has ended", "Nothing to do: its results say what became of each entry."),
    "already_exists": Code(409, "The name is taken", "Choose another name, or change the one that is there."),
    "import_refused": Code(
        422, "The assets are refused", "Correct every line that `errors` names; nothing of it was imported."
    ),
    "asset_in_use": Code(409, "An unfinished execution needs the asset", "Wait for its end, or cancel it first."),
    "no_host_key": Code(409, "The asset has no host key", "Only assets with the connection ssh have one."),
    "host_key_not_shown": Code(
        409, "The machine showed no host key", "See that it answers and that workers run; then look again."
    ),
    "another_host_key": Code(
        409, "The machine shows another key by now", "Find out why it changed; look again and compare."
    ),
    "host_key_moved_on": Code(
        409, "The asset is not as it was when its key was compared", "Look again, and compare with what it says now."
    ),
    "not_held": Code(409, "Nobody holds the lock", "Nothing to do: whoever is next gets it."),
    "reason_required": Code(422, "A reason is missing", "Say why in `reason`: it is kept."),
    "too_few_processes": Code(
        422, "No worker process would be left", "Ask for 1 or more; to stop work drain the queue."
    ),
    "too_many_processes": Code(
        422,
        "The hosts have no room for so many worker processes",
        "Ask for fewer, raise WORKER_MAX_PROCESSES where workers start, or add a host.",
    ),
    "bad_pool": Code(
        422,
        "No pool can have this name",
        "Write 1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit at both ends.",
    ),
    "bad_limits": Code(
        422, "The limits of autoscaling contradict each other", "Give a `min` from 1 and a `max` from there."
    ),
    "no_cluster": Code(409, "No host runs workers", "Start `manage.py worker` on a host, or `make serve`."),
    "unknown_worker": Code(404, "No such worker", "Use an id of GET /workers/; a worker that has ended has none."),
    "unknown_host": Code(404, "No worker runs on this host", "Name a host as GET /workers/ does."),
    "conflict": Code(409, "It changed in the meantime", "Read it again and decide anew."),
    # The installation
    "draining": Code(
        503, "The queue takes nothing in", "Wait as long as Retry-After says; an operator resumes the queue."
    ),
    "inventory_unavailable": Code(
        503,
        "The asset service does not answer",
        "Send the same request again after Retry-After: without it nobody knows which machines a plan means.",
    ),
    "overloaded": Code(
        503, "Too many large requests are being received", "Send the same request again after Retry-After."
    ),
    "busy": Code(503, "It kept changing hands", "Send the same request again after Retry-After."),
    "database_unavailable": Code(
        503,
        "The database does not answer",
        "Send the same request again after Retry-After; with an Idempotency-Key it is never carried out twice.",
    ),
    "internal_error": Code(
        500,
        "A fault of ours",
        "Nothing you sent should cause this: give the reference in `detail` to the operators; it is in the log.",
    ),
}

_OF_STATUS = {
    400: "bad_request",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "invalid_body",
    429: "throttled",
    503: "database_unavailable",
}


def code_of_status(status: int) -> str:
    """The code that stands for an HTTP status where nothing more exact is known."""
    return _OF_STATUS.get(status, "internal_error")
