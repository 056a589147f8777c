"""Make an API token."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from safety.accounts import TOKEN_LIFETIME, UnknownRole, issue_token, set_roles
from safety.management.example_help import ExampleCommand
from safety.models import DEFAULT_TENANT, Tenant, User
from safety.rbac import ROLES, roles_of

MAX_DAYS = 3650


class Command(ExampleCommand):
    help = "Makes an API token for a user and prints it as the last word. It is shown this once: only a hash is kept."
    example = """\
  manage.py create_token alice --label "release pipeline" --days 90
  manage.py create_token pipeline --create --role requester

  curl -H "Authorization: Bearer $(manage.py create_token alice | awk 'END {print $NF}')" \\
       http://localhost:8000/api/v1/executions/
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="user name")
        parser.add_argument("--label", default="", help="what it is for; shown in the list of tokens")
        parser.add_argument("--days", type=int, default=TOKEN_LIFETIME.days, help="how long it is valid (%(default)s)")
        parser.add_argument("--create", action="store_true", help="make the user if there is none, without a password")
        parser.add_argument(
            "--role",
            action="append",
            default=[],
            choices=ROLES,
            help="with --create: a role of the new user; repeatable",
        )
        parser.add_argument("--tenant", default=DEFAULT_TENANT, help="with --create: its tenant (%(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= MAX_DAYS:
            raise CommandError(f"--days must be from 1 to {MAX_DAYS}.")
        if len(options["label"]) > 120:
            raise CommandError("--label must not be longer than 120 characters.")
        with transaction.atomic():
            user = self._user(options)
            if not user.is_active:
                raise CommandError(f"{user.username} is not active: a token would not work. Activate the user first.")
            value = issue_token(user, options["label"], timedelta(days=options["days"]))
        if not user.is_superuser and not roles_of(user):
            self.stderr.write(
                f"{user.username} has no role yet: give one with `manage.py set_role {user.username} ROLE`."
            )
        self.stdout.write(f"Token of {user.username}, valid for {options['days']} days: {value}")

    def _user(self, options: dict[str, Any]) -> User:
        user = User.objects.filter(username=options["user"]).first()
        if user is None and options["create"]:
            return self._create(options)
        if user is None:
            raise CommandError(
                f"There is no user {options['user']!r}. Give --create to make one, or look the name up under Users in"
                " the admin pages."
            )
        if options["role"]:
            raise CommandError(f"{user.username} exists already: change roles with `manage.py set_role`.")
        return user

    def _create(self, options: dict[str, Any]) -> User:
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            known = ", ".join(Tenant.objects.order_by("name").values_list("name", flat=True)[:20])
            raise CommandError(f"There is no tenant {options['tenant']!r}; there are {known}.")
        try:
            User.username_validator(options["user"])
            user = User.objects.create_user(options["user"], tenant=tenant)
            set_roles(user, options["role"])
        except (ValidationError, UnknownRole) as error:
            raise CommandError(" ".join(getattr(error, "messages", [str(error)]))) from None
        self.stderr.write(f"Made the user {user.username} of the tenant {tenant.name}, without a password.")
        return user
