"""`manage.py resume`: open again what `drain` closed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from queueing.management.by import command_actor
from queueing.management.which import add_which, which_of
from safety.management.example_help import ExampleCommand


class Command(ExampleCommand):
    help = (
        "Opens the queue again after `drain`: intake and workers go on where they stopped. With --worker, --host,"
        " --workers or --pool only those; each is drained, and resumed, for itself."
    )
    example = """\
  manage.py resume
  manage.py resume --host db-host-2
  manage.py resume --pool heavy --reason "the backup is over"
"""

    def add_arguments(self, parser: CommandParser) -> None:
        add_which(parser)
        parser.add_argument("--reason", default="", help="kept with the change")
        parser.add_argument("--yes", action="store_true", help="as for drain; it asks nothing, as little can go wrong")

    def handle(self, *args: Any, **options: Any) -> None:
        which = which_of(options)
        if options["dry_run"]:
            self.stdout.write(which.would_change(False, command_actor()))
            return
        self.stdout.write(which.change(False, command_actor(), options["reason"]))
