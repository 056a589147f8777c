"""Put executions of the DLQ back into the queue."""

from __future__ import annotations

from django.core.management.base import CommandParser

from executions.management.dead_letter_command import DeadLetterCommand
from queueing.models import BatchVerb, ItemOutcome


class Command(DeadLetterCommand):
    help = (
        "Puts executions of the DLQ back into the queue: entries by their numbers, those of a reason or of one error,"
        " or all. They go on where they stopped; finished steps are never run again. One with a step whose outcome is"
        " unknown is refused, unless it is to begin --from-failed-step. Each is requeued at most once, also when others"
        " do the same, and workers go on meanwhile. Ends with 1 when one of them was not requeued, with 2 when the"
        " request is refused, with 130 after Ctrl-C."
    )
    example = """\
  manage.py requeue_dead_letters 41 42
  manage.py requeue_dead_letters --reason attempts_exhausted --dry-run
  manage.py requeue_dead_letters --reason attempts_exhausted --why "more memory" --per-second 20
  manage.py requeue_dead_letters --fingerprint 9f3c2b7a10d4e586 --from-failed-step --why "the step is idempotent" --yes
"""
    verb = BatchVerb.REQUEUE
    done = ItemOutcome.REQUEUED
    why_help = "why; kept with each of them. Needed with --from-failed-step"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--from-failed-step",
            action="store_true",
            help="run again the steps that failed, or whose outcome is unknown, where they did not succeed: this may"
            " repeat an effect",
        )
