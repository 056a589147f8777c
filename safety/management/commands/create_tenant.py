"""Make a tenant."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from safety.accounts import make_tenant
from safety.management.example_help import ExampleCommand


class Command(ExampleCommand):
    help = "Makes a tenant: an organisation whose executions, assets and people are invisible to every other one."
    example = """\
  manage.py create_tenant acme
  manage.py create_user root-of-acme --tenant acme --role admin
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="letters, digits, - and _; it never changes")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            tenant = make_tenant(options["name"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        first = f"manage.py create_user NAME --tenant {tenant.name} --role admin"
        self.stdout.write(f"Made the tenant {tenant.name}. Its first person: `{first}`.")
