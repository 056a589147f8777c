"""The verbs of executions, called by every door: API, pages, admin, commands."""

from executions.services.decisions import approve, reject
from executions.services.preview import preview
from executions.services.recovery import discard_dead_letters, requeue_dead_letters, resolve, retry
from executions.services.refusals import Refused
from executions.services.stop import cancel, cancel_many
from executions.services.submit import Accepted, Submission, submit, submit_many

__all__ = [
    "Accepted",
    "Refused",
    "Submission",
    "approve",
    "cancel",
    "cancel_many",
    "discard_dead_letters",
    "preview",
    "reject",
    "requeue_dead_letters",
    "resolve",
    "retry",
    "submit",
    "submit_many",
]
