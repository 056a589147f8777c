"""Remove a secret."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from safety.management.example_help import ExampleCommand
from safety.management.secret_command import add_tenant, tenant_named, told_as_refusal
from safety.secrets.keeping import remove_secret


class Command(ExampleCommand):
    help = "Removes a secret for good. Plans that name it are refused from then on; waiting ones fail at the step."
    example = "  manage.py delete_secret db/orders/backup --yes"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", metavar="PATH", help="the secret to remove")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        add_tenant(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        tenant, path = tenant_named(options["tenant"]), options["path"]
        if not options["yes"]:
            _ask(f"Remove {path} of the tenant {tenant.name} for good? [y/N] ")
        with told_as_refusal():
            removed = remove_secret(tenant, path, by=None)
        if not removed:
            raise CommandError(f"There is no secret {path} in the tenant {tenant.name}: see manage.py list_secrets.")
        self.stdout.write(f"Removed {path} of the tenant {tenant.name}.")


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError("Nobody can be asked here: give --yes to remove it.")
    if input(question).strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was removed.")
