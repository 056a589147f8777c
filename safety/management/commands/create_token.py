"""Make an API token."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from safety.accounts import TOKEN_LIFETIME, UnknownRole, make_token, set_roles
from safety.management.example_help import ExampleCommand
from safety.models import DEFAULT_TENANT, Tenant, User
from safety.rbac import ROLES, roles_of
from safety.scopes import ALL_SCOPES

MAX_DAYS = 3650
UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}


class Command(ExampleCommand):
    help = "Makes an API token for a user and prints it as the last word. It is shown this once: only a hash is kept."
    example = """\
  manage.py create_token alice --label "release pipeline" --expires-in 90d
  manage.py create_token alice --scope read --scope submit
  manage.py create_token pipeline --create --role requester

  curl -H "Authorization: Bearer $(manage.py create_token alice | awk 'END {print $NF}')" \\
       http://localhost:8000/api/v1/executions/
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="user name")
        parser.add_argument("--label", default="", help="what it is for; shown in the list of tokens")
        parser.add_argument(
            "--expires-in", metavar="TIME", help=f"how long it is valid: 30d, 12h, 15m ({TOKEN_LIFETIME.days}d)"
        )
        parser.add_argument("--days", type=int, help="the same, in days")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            choices=ALL_SCOPES,
            help="what it may be used for; repeatable; without it everything that the user may",
        )
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
        lifetime = _lifetime(options)
        if len(options["label"]) > 120:
            raise CommandError("--label must not be longer than 120 characters.")
        with transaction.atomic():
            user = self._user(options)
            if not user.is_active:
                raise CommandError(f"{user.username} is not active: a token would not work. Activate the user first.")
            scopes = options["scope"] or ALL_SCOPES
            made = make_token(user, label=options["label"], expires_in=lifetime, scopes=scopes)
        if not user.is_superuser and not roles_of(user):
            self.stderr.write(
                f"{user.username} has no role yet: give one with `manage.py set_role {user.username} ROLE`."
            )
        limits = f", for {', '.join(made.token.scopes)} only" if options["scope"] else ""
        self.stdout.write(f"Token of {user.username}, valid for {_words(lifetime)}{limits}: {made.value}")

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


def _lifetime(options: dict[str, Any]) -> timedelta:
    """Return how long the token is to be valid, from --expires-in or --days. Raises CommandError."""
    text, days = options["expires_in"], options["days"]
    if text is not None and days is not None:
        raise CommandError("Give --expires-in or --days, not both.")
    if days is not None:
        if not 1 <= days <= MAX_DAYS:
            raise CommandError(f"--days must be from 1 to {MAX_DAYS}.")
        return timedelta(days=days)
    if text is None:
        return TOKEN_LIFETIME
    written = re.fullmatch(r"([0-9]{1,7})([dhm])", text)
    lifetime = int(written[1]) * UNITS[written[2]] if written else timedelta(0)
    if not timedelta(0) < lifetime <= timedelta(days=MAX_DAYS):
        raise CommandError(f"--expires-in must be a time such as 30d, 12h or 15m, at most {MAX_DAYS}d, not {text!r}.")
    return lifetime


def _words(lifetime: timedelta) -> str:
    for name, unit in (("day", "d"), ("hour", "h"), ("minute", "m")):
        count, rest = divmod(lifetime, UNITS[unit])
        if count and not rest:
            return f"{count} {name}{'' if count == 1 else 's'}"
    return str(lifetime)
