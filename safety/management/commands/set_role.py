"""Give a user its roles."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from safety.accounts import UnknownRole, set_roles
from safety.management.example_help import ExampleCommand
from safety.models import User
from safety.rbac import ROLES


class Command(ExampleCommand):
    help = "Gives a user exactly these roles, in place of those it has. Without a role: takes all away."
    example = """\
  manage.py set_role alice requester
  manage.py set_role bob approver operator
  manage.py set_role carol            # no role any more

roles (docs/how-to/roles-and-tokens.md):
  viewer     sees everything of its tenant
  requester  submits plans; on a target only with an execute permission on it or on one of its groups
  approver   approves executions of others
  operator   operates queue, workers and DLQ; cancels any execution
  admin      everything in its tenant
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="user name")
        parser.add_argument("roles", metavar="ROLE", nargs="*", help=", ".join(ROLES))

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(
                f"There is no user {options['user']!r}. Make one in the admin pages, with `manage.py createsuperuser`,"
                f" or with `manage.py create_token {options['user']} --create`."
            )
        try:
            before = set_roles(user, options["roles"])
        except UnknownRole as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{user.username}: {_words(options['roles'])} (before: {_words(before)})")


def _words(roles: Any) -> str:
    return ", ".join(role for role in ROLES if role in roles) or "no role"
