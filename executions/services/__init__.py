"""The verbs of executions, called by every door: API, pages, admin, commands."""

from executions.services.checks import ask_for_host_keys, check_assets
from executions.services.dead_letter_batches import cancel_batch, carry_out, start_batch, work_at_batches
from executions.services.dead_letters import discard_dead_letters, requeue_dead_letters
from executions.services.decisions import approve, reject
from executions.services.inventory import import_inventory
from executions.services.locks import free_lock, free_within_seconds
from executions.services.preview import preview
from executions.services.recovery import resolve, retry
from executions.services.refusals import Refused
from executions.services.stop import cancel, cancel_many
from executions.services.submit import Accepted, Submission, submit, submit_many
from executions.services.withdrawing import withdraw_approval

__all__ = [
    "Accepted",
    "Refused",
    "Submission",
    "approve",
    "ask_for_host_keys",
    "cancel",
    "cancel_batch",
    "cancel_many",
    "carry_out",
    "check_assets",
    "discard_dead_letters",
    "free_lock",
    "free_within_seconds",
    "import_inventory",
    "preview",
    "reject",
    "requeue_dead_letters",
    "resolve",
    "retry",
    "start_batch",
    "submit",
    "submit_many",
    "withdraw_approval",
    "work_at_batches",
]
