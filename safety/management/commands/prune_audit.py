"""Remove old records of the audit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connection

from safety.audit.database_role import why_it_can_change_the_audit
from safety.audit.pruning import due, prune
from safety.audit.verifying import note, verify
from safety.management.example_help import ExampleCommand

SHORTEST_DAYS = 30


class Command(ExampleCommand):
    help = (
        "Removes records of the audit that are older than so many days. Nothing else ever does: export them first."
        " The chains are verified before, and refused if they are broken; what is left verifies afterwards, from the"
        " seal of the last record that was removed."
    )
    example = """\
  manage.py export_audit --until 2025-01-01 --output audit-until-2025.jsonl
  manage.py prune_audit --older-than-days 730 --dry-run
  manage.py prune_audit --older-than-days 730 --yes
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--older-than-days", type=int, required=True, metavar="N", help=f"{SHORTEST_DAYS} or more")
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["older_than_days"] < SHORTEST_DAYS:
            raise CommandError(f"--older-than-days must be {SHORTEST_DAYS} or more.")
        if not why_it_can_change_the_audit():
            raise CommandError("This process has the role of web and workers: run it as the owner of the tables.")
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            before = cursor.fetchone()[0] - timedelta(days=options["older_than_days"])
        count = sum(one.records for one in due(before))
        self.stdout.write(f"{count:,} records are from before {before:%Y-%m-%d %H:%M} UTC.")
        if options["dry_run"] or not count:
            self.stdout.write("Nothing was removed.")
            return
        if not options["yes"] and input("Remove them? There is no way back but an export. [y/N] ").lower() != "y":
            raise CommandError("Nothing was removed.")
        report = verify()
        note(report)
        if report.first is not None:
            raise CommandError(f"The audit is broken, so nothing was removed: {report.first.sentence}")
        removed = prune(before)
        self.stdout.write(f"{sum(one.records for one in removed):,} records removed.")
