"""Give executions of the DLQ up."""

from __future__ import annotations

from executions.management.dead_letter_command import DeadLetterCommand
from queueing.models import BatchVerb, ItemOutcome


class Command(DeadLetterCommand):
    help = (
        "Gives executions of the DLQ up: entries by their numbers, those of a reason or of one error, or all. They end"
        " as failed, what had not begun is skipped, and nothing is undone on the machines. Ends with 1 when one of them"
        " was not given up, with 2 when the request is refused, with 130 after Ctrl-C."
    )
    example = """\
  manage.py discard_dead_letters 41 42 --why "the machines are gone"
  manage.py discard_dead_letters --reason outcome_unknown --why "rebuilt from scratch" --dry-run
"""
    verb = BatchVerb.DISCARD
    done = ItemOutcome.DISCARDED
    why_help = "why; kept with each of them. Needed"
