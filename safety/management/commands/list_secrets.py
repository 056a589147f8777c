"""List secrets by path."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from safety.management.example_help import ExampleCommand
from safety.management.secret_command import add_tenant, tenant_named, told_as_refusal
from safety.secrets import configured_store


class Command(ExampleCommand):
    help = "Lists the paths of a tenant's secrets, one a line. Values are shown by no command and no page."
    example = "  manage.py list_secrets --tenant acme"

    def add_arguments(self, parser: CommandParser) -> None:
        add_tenant(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = tenant_named(options["tenant"])
        with told_as_refusal():
            paths = configured_store().paths(tenant)
        for path in paths:
            self.stdout.write(path)
        if not paths:
            self.stderr.write(f"The tenant {tenant.name} has no secrets: store one with manage.py set_secret PATH.")
