"""`manage.py prune`: remove what retention says is old enough."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from executions import retention
from safety.management.example_help import ExampleCommand

TELL_EVERY_SECONDS = 2.0
INTERRUPTED = 130


class Command(ExampleCommand):
    help = (
        "Removes events, output, executions and what goes with them once they are older than the settings say, in small"
        " batches while everything runs on. It runs by itself every day; killed, it goes on with the next run."
    )
    example = """\
  manage.py prune --dry-run
  manage.py prune --yes
  manage.py prune --yes --batch 500 --pause 1
"""

    def add_arguments(self, parser: CommandParser) -> None:
        pace = retention.Pace()
        parser.add_argument("--dry-run", action="store_true", help="only count what would be removed")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument(
            "--batch", metavar="ROWS", type=_rows, default=pace.rows, help="rows in one transaction (%(default)s)"
        )
        parser.add_argument(
            "--pause",
            metavar="SECONDS",
            type=_seconds,
            default=pace.pause_seconds,
            help="least pause after each batch (%(default)s); never shorter than the batch took",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(rules())
        if options["dry_run"]:
            self.stdout.write(f"Would remove {retention.in_words(retention.count_due())}. Nothing was changed.")
            return
        if not options["yes"]:
            _ask()
        removed: retention.Counts = retention.Counts()
        try:
            retention.prune(
                retention.Pace(options["batch"], options["pause"]), tell=self._tell(removed), waiting=self._say_waiting
            )
        except KeyboardInterrupt:
            self.stdout.write(f"Stopped after removing {retention.in_words(removed)}. Run it again to go on.")
            sys.exit(INTERRUPTED)
        self.stdout.write(f"Removed {retention.in_words(removed)}.")

    def _tell(self, removed: retention.Counts) -> Callable[[retention.Counts], None]:
        """Keep what was removed so far in `removed`, and say it every now and then."""
        next_at = time.monotonic() + TELL_EVERY_SECONDS

        def tell(counts: retention.Counts) -> None:
            nonlocal next_at
            removed.clear()
            removed.update(counts)
            if time.monotonic() >= next_at:
                self.stdout.write(f"Removed {retention.in_words(removed)} so far.")
                self.stdout.flush()
                next_at = time.monotonic() + TELL_EVERY_SECONDS

        return tell

    def _say_waiting(self) -> None:
        self.stdout.write("Another prune is at work; this one begins when it has ended.")
        self.stdout.flush()


def rules() -> str:
    """What the settings say, in a sentence."""
    return (
        f"Events and output are kept {_time(settings.EVENT_RETENTION)} after the end of their execution, executions"
        f" {_time(settings.EXECUTION_RETENTION)}."
    )


def _time(keep: timedelta | None) -> str:
    return f"for {keep.days} days" if keep else "for ever"


def _ask() -> None:
    if not sys.stdin.isatty():
        raise CommandError("This removes what is older, for good: give --yes if that is meant, or --dry-run to see it.")
    if input("Remove what is older, for good? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was removed.")


def _rows(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise ArgumentTypeError("a whole number from 1 to 100,000, please")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise ArgumentTypeError("seconds from 0 to 3,600, please")
    return seconds
