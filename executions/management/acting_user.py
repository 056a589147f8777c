"""Who a command acts as: whoever may run commands of an installation may act as any of its users."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from safety.models import User


class NoSuchUser(CommandError):
    """There is nobody to act as. The message says what to do."""


def add_acting_user(parser: CommandParser) -> None:
    parser.add_argument("--as", dest="as_user", metavar="USER", help="act as this user (the first administrator)")


def acting_user(options: dict[str, Any]) -> User:
    """Return the active user that --as names, or the first administrator. Raises NoSuchUser."""
    users = User.objects.select_related("tenant").filter(is_active=True)
    name = options["as_user"]
    if name is None:
        user = users.filter(is_superuser=True).order_by("pk").first()
        if user is None:
            raise NoSuchUser(
                "There is no administrator yet: start `make serve` once, or use `manage.py createsuperuser`."
            )
        return user
    user = users.filter(username=name).first()
    if user is None:
        raise NoSuchUser(f"There is no active user {name!r}: give the name of another one with --as.")
    return user
