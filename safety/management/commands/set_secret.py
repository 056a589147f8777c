"""Store a secret."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from safety.management.example_help import ExampleCommand
from safety.management.secret_command import add_tenant, tenant_named, told_as_refusal
from safety.secrets import check_path
from safety.secrets.keeping import store_secret
from safety.secrets.stores import LARGEST_BYTES


class Command(ExampleCommand):
    help = (
        "Stores a secret, whose value is read from standard input: never from the command line, where others could see"
        " it. One line end at its end is dropped. On a terminal it is asked for, without an echo."
    )
    example = """\
  manage.py set_secret db/orders/backup < password.txt
  pass show db/orders | manage.py set_secret db/orders/backup --tenant acme

  In a plan it is {"type": "secret", "path": "db/orders/backup"}. Several entries are one JSON object;
  a plan then adds "key": "password".
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", metavar="PATH", help="where to keep it, such as db/orders/backup")
        add_tenant(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = tenant_named(options["tenant"])
        with told_as_refusal():
            check_path(options["path"])
            version = store_secret(tenant, options["path"], _value(), by=None)
        self.stdout.write(f"Stored version {version} of {options['path']} for the tenant {tenant.name}.")


def _value() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Value (not shown): ")
    raw = sys.stdin.buffer.read(LARGEST_BYTES + 3)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise CommandError("The value is not UTF-8 text: encode binary values, in base64 for example.") from None
    for end in ("\r\n", "\n"):
        if text.endswith(end):
            return text.removesuffix(end)
    return text
