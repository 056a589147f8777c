"""What a token may be used for: never more than its scopes, and never more than its user may.

A session has no scopes: it is the user. A scope gives no right, it only takes away: whoever may not approve cannot with
a token of the scope `approve` either. No scope includes another one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum


class Scope(StrEnum):
    READ = "read"
    SUBMIT = "submit"
    APPROVE = "approve"
    OPERATE = "operate"
    ADMIN = "admin"


ALL_SCOPES: tuple[str, ...] = tuple(scope.value for scope in Scope)

# One sentence each: pages, --help and the API's documentation show them.
MEANINGS: dict[str, str] = {
    Scope.READ: "see executions, output, inventory, queue",
    Scope.SUBMIT: "preview and submit plans, retry, cancel",
    Scope.APPROVE: "approve and reject",
    Scope.OPERATE: "cancel, DLQ, queue, workers, locks; change the inventory",
    Scope.ADMIN: "make and revoke tokens, and what only administrators may",
}


class UnknownScope(ValueError):
    """There is no such scope, or none was given. The message says which there are."""


def checked_scopes(given: Iterable[str]) -> list[str]:
    """Return the scopes once each, in our order. Raises UnknownScope for an unknown one, and for none at all."""
    wanted = set(given)
    unknown = sorted(wanted - set(ALL_SCOPES))
    if unknown or not wanted:
        wrong = f"There is no scope {', '.join(map(repr, unknown))}" if unknown else "A token needs a scope"
        raise UnknownScope(f"{wrong}; the scopes are {', '.join(ALL_SCOPES)}.")
    return [scope for scope in ALL_SCOPES if scope in wanted]


def allows(held: Collection[str], needed: Collection[str]) -> bool:
    """Whether one of the `needed` scopes is among those that are held."""
    return not set(needed).isdisjoint(held)
