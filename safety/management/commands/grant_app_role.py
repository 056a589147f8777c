"""Give web and workers a role of their own in an external database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from safety.audit.database_role import CannotGrant, grant
from safety.management.example_help import ExampleCommand


class Command(ExampleCommand):
    help = (
        "Grants a role of the database what web and workers need, and nothing by which they could change the audit:"
        " no form of any table, no record once it is written. Run it as the role that owns the tables; running it again"
        " does no harm. The embedded PostgreSQL has such a role by itself."
    )
    example = """\
  psql -c "CREATE ROLE opsconductor_app LOGIN PASSWORD '...'"      # as an administrator of the server
  manage.py grant_app_role opsconductor_app

then set, for web and workers:
  DATABASE_URL=postgresql://opsconductor_app:...@db:5432/opsconductor
  DATABASE_OWNER_URL=postgresql://opsconductor:...@db:5432/opsconductor    # only where serve or migrate run
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", metavar="ROLE", help="a role that exists")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            grant(options["role"])
        except CannotGrant as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write(f"{options['role']} can do the work of web and workers, and cannot change the audit.")
