"""The one way in which a secret is not there."""

from __future__ import annotations


class SecretUnavailable(Exception):
    """A secret cannot be fetched. Nothing takes its place: what needs it does not run. `how_to_fix` is the way out.

    transient  True when asking again may well succeed without anybody changing anything: the store is down or busy.
    """

    code = "secret_unavailable"

    def __init__(self, path: str, message: str, how_to_fix: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.message = message
        self.how_to_fix = how_to_fix
        self.transient = transient

    def __str__(self) -> str:
        return f"{self.message} {self.how_to_fix}"


def not_there(path: str) -> SecretUnavailable:
    return SecretUnavailable(
        path, f"There is no secret {path}.", "Store it (manage.py set_secret), or correct the path."
    )
