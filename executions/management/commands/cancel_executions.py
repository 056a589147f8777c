"""Cancel executions by number or by status."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser

from executions.management.acting_user import acting_user, add_acting_user
from executions.models import Execution
from executions.services import cancel_many
from executions.states import FINAL_EXECUTION, ExecutionStatus
from safety.management.example_help import ExampleCommand
from safety.models import User

BATCH = 50
SHOWN = 20
UNFINISHED = [status for status in ExecutionStatus.values if status not in FINAL_EXECUTION]
DONE = (ExecutionStatus.CANCELLED, ExecutionStatus.CANCELLING)


class Command(ExampleCommand):
    help = (
        "Cancels executions, those named or all of a status, and says of each what became of it. What waits is"
        " cancelled at once; what runs is stopped by its worker. Ends with 1 when one of them could not be cancelled."
    )
    example = """\
  manage.py cancel_executions 41 42 --reason "wrong maintenance window"
  manage.py cancel_executions --status queued --reason "wrong maintenance window" --dry-run
  manage.py cancel_executions --status queued --reason "wrong maintenance window" --yes
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", metavar="ID", nargs="*", type=int, help="numbers of executions")
        parser.add_argument("--status", choices=UNFINISHED, help="all of this status; asks first")
        parser.add_argument("--reason", required=True, help="why; kept with each of them")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--dry-run", action="store_true", help="only show what would be cancelled")
        add_acting_user(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["ids"]) == bool(options["status"]):
            raise CommandError("Name the executions by their numbers, or give --status: one of the two.")
        if not options["reason"].strip():
            raise CommandError("--reason must say why.")
        user = acting_user(options)
        ids = list(dict.fromkeys(options["ids"])) or self._of_status(user, options["status"])
        if not ids:
            self.stdout.write(f"No execution is {options['status']}.")
            return
        if options["dry_run"]:
            self._show(user, ids)
            return
        if options["status"] and not options["yes"]:
            self._ask(user, ids)
        self._cancel(user, ids, options["reason"])

    def _of_status(self, user: User, status: str) -> list[int]:
        found = Execution.objects.visible_to(user).filter(status=status).order_by("pk")
        return list(found.values_list("pk", flat=True))

    def _show(self, user: User, ids: Sequence[int]) -> None:
        found = {execution.pk: execution for execution in Execution.objects.visible_to(user).filter(pk__in=ids)}
        for execution_id in ids[:SHOWN]:
            execution = found.get(execution_id)
            status, title = (execution.status, execution.title) if execution else ("not_found", "")
            self.stdout.write(f"{execution_id}  {status:<16} {title}".rstrip())
        if len(ids) > SHOWN:
            self.stdout.write(f"and {len(ids) - SHOWN} more")
        unfinished = sum(1 for execution in found.values() if not execution.is_final)
        self.stdout.write(f"Would cancel {unfinished} of {len(ids)}. Nothing was changed.")

    def _ask(self, user: User, ids: Sequence[int]) -> None:
        if not sys.stdin.isatty():
            raise CommandError(f"This would cancel {len(ids)} executions: give --yes if that is meant.")
        if input(f"Cancel {len(ids)} executions as {user.username}? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was cancelled.")

    def _cancel(self, user: User, ids: Sequence[int], reason: str) -> None:
        cancelled = 0
        for batch in _batches(ids):
            for execution_id, outcome in cancel_many(batch, by=user, reason=reason).items():
                self.stdout.write(f"{execution_id}  {outcome}")
                cancelled += outcome in DONE
        rest = len(ids) - cancelled
        self.stdout.write(
            f"{cancelled} of {len(ids)} cancelled or being cancelled" + (f"; {rest} not." if rest else ".")
        )
        if rest:
            raise SystemExit(1)


def _batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
