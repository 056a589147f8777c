"""Make a user with a password."""

from __future__ import annotations

import secrets
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from safety.accounts import UnknownRole, make_user
from safety.management.example_help import ExampleCommand
from safety.models import DEFAULT_TENANT, Tenant
from safety.rbac import ROLES


class Command(ExampleCommand):
    help = "Makes a user. Without --password-stdin it makes a password as well, and prints it as the last word, once."
    example = """\
  manage.py create_user alice --role requester
  manage.py create_user bob --tenant acme --role admin --password-stdin < password.txt
  manage.py create_user pipeline --no-password      # for tokens alone: manage.py create_token pipeline
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="user name")
        parser.add_argument("--role", action="append", default=[], choices=ROLES, help="a role; repeatable")
        parser.add_argument("--tenant", default=DEFAULT_TENANT, help="its tenant, for good (%(default)s)")
        parser.add_argument("--email", default="", help="its address")
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
        how.add_argument("--no-password", action="store_true", help="nobody signs in with a password as this user")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            known = ", ".join(Tenant.objects.order_by("name").values_list("name", flat=True)[:20])
            raise CommandError(
                f"There is no tenant {options['tenant']!r}; there are {known}. `manage.py create_tenant` makes one."
            )
        made = "" if options["no_password"] or options["password_stdin"] else secrets.token_urlsafe(18)
        password = sys.stdin.readline().rstrip("\r\n") if options["password_stdin"] else made or None
        try:
            user = make_user(
                options["user"], tenant=tenant, password=password, email=options["email"], roles=options["role"]
            )
        except (ValidationError, UnknownRole) as error:
            raise CommandError(" ".join(getattr(error, "messages", [str(error)]))) from None
        if not options["role"]:
            self.stderr.write(f"{user.username} has no role yet: `manage.py set_role {user.username} ROLE`.")
        self.stdout.write(
            f"Made the user {user.username} of the tenant {tenant.name}"
            + (f", with the password {made}" if made else ".")
        )
