"""`manage.py drain`: hand out nothing more, of the whole queue, to some workers, or of a pool."""

from __future__ import annotations

import sys
import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from queueing.management.by import command_actor
from queueing.management.which import add_which, which_of
from safety.management.example_help import ExampleCommand

LOOK_SECONDS = 0.2
LOOKS_UNTIL_QUIET = 5  # a second without anything that runs
EXIT_STILL_RUNNING = 4


class Command(ExampleCommand):
    help = (
        "Stops intake (503) and hands out nothing more; what runs goes on. With --worker, --host or --workers only"
        " these workers claim nothing more, and the queue goes on with the others; with --pool only what waits in that"
        " pool stands still. With --wait it ends with 0 as soon as nothing runs there any more, with 4 when something"
        " still does. Nothing is lost; `manage.py resume` with the same options opens it again."
    )
    example = """\
  manage.py drain --wait 600 --reason "database upgrade"
  manage.py drain --host db-host-2 --wait 600 --reason "kernel update"
  manage.py drain --worker 17 18
  manage.py drain --pool heavy --reason "the backup runs"
  manage.py drain --dry-run
"""

    def add_arguments(self, parser: CommandParser) -> None:
        add_which(parser)
        parser.add_argument(
            "--wait", type=float, metavar="SECONDS", help="wait so long for what runs; exit 4 if it still runs"
        )
        parser.add_argument("--reason", default="", help="shown to whoever is refused or waits meanwhile")
        parser.add_argument("--yes", action="store_true", help="do not ask, on a terminal, before it is drained")

    def handle(self, *args: Any, **options: Any) -> None:
        wait = options["wait"]
        if wait is not None and not 0 <= wait < float("inf"):
            raise CommandError("--wait takes the seconds to wait, such as 600.")
        which = which_of(options)
        if options["dry_run"]:
            self.stdout.write(which.would_change(True, command_actor()))
            self.stdout.write(f"{_executions(which.running())} there now, and would go on.")
            return
        # From a script the command alone is an order: it can be taken back at any time, and nothing is lost by it.
        if not options["yes"] and sys.stdin.isatty():
            answer = input(f"Drain {which.name}, where {_executions(which.running())} now? [y/N] ").strip().lower()
            if answer not in ("y", "yes"):
                raise CommandError("Nothing was changed.")
        self.stdout.write(which.change(True, command_actor(), options["reason"]))
        deadline = time.monotonic() + (wait or 0)
        told = -1
        # A claim that began before the drain was written may be about to be committed: nothing is believed at one look.
        quiet = 0
        while (running := which.running()) or (wait is not None and quiet < LOOKS_UNTIL_QUIET):
            quiet = 0 if running else quiet + 1
            if time.monotonic() >= deadline:
                break
            if running and running != told:
                self.stdout.write(f"{_executions(running)} still.")
                self.stdout.flush()
                told = running
            time.sleep(LOOK_SECONDS)
        if not running:
            self.stdout.write(f"Drained: nothing runs on {which.name} any more." if which.name != "the queue" else DONE)
        elif wait is None:
            self.stdout.write(f"{_executions(running)} still; --wait SECONDS waits for the end.")
        else:
            self.stderr.write(f"{_executions(running)} still. It stays drained; look again later.")
            raise SystemExit(EXIT_STILL_RUNNING)


DONE = "The queue is drained: nothing runs any more."


def _executions(count: int) -> str:
    return f"{count} {'execution runs' if count == 1 else 'executions run'}"
