"""How a password becomes a user: Django's check, with guessing slowed down, and what was tried in the audit."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from safety import audit, guessing
from safety.client_address import client_address
from safety.models import User


class PasswordBackend(ModelBackend):
    """Local accounts. Without a request (a command, a test) nothing is slowed down: there is no stranger."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        """Return the user, or None; Django's check takes as long for a user who is not there.

        Raises PermissionDenied, which ends the search for other ways in, when it is too early to try again; then
        `request.must_wait` says for how long.
        """
        if request is None or username is None or password is None:
            return _user(super().authenticate(request, username=username, password=password, **kwargs))
        try:
            made = guessing.begin_try(username, client_address(request))
        except guessing.MustWait as wait:
            request.must_wait = wait  # type: ignore[attr-defined]
            # Nothing was checked, and nothing slows it down: the audit has it once in a while.
            audit.record_strangers_refusal("session.sign_in", code="must_wait", reason=str(wait), **_named(username))
            raise PermissionDenied from None
        user = _user(super().authenticate(request, username=username, password=password, **kwargs))
        if user is None:
            # Each was checked, and waited for: all are recorded.
            why = "User name and password do not belong together, or it is closed."
            audit.record_refusal(
                "session.sign_in", actor="anonymous", code="wrong_password", reason=why, **_named(username)
            )
        else:
            guessing.was_right(made)
        return user


class SsoBackend(ModelBackend):
    """People of the provider: safety/sso says who they are, so nobody is ever found by what they type."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:  # type: ignore[override]
        return None


def _user(found: Any) -> User | None:
    return found if isinstance(found, User) else None


def _named(username: str) -> dict[str, Any]:
    """The name is written down only when it is one: people type passwords into the wrong field."""
    user = User.objects.filter(username=username).first()
    if user is None:
        return {}
    return {"tenant_id": user.tenant_id, "object_type": "user", "object_id": user.pk, "object_name": user.username}
