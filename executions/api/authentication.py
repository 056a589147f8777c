"""Who calls: a bearer token, or the session of somebody who is signed in."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from safety.accounts import authenticate_token
from safety.models import User

__all__ = ["SessionAuthentication", "TokenAuthentication"]


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN`. First of the two, so that a missing one is answered with 401, not 403."""

    def authenticate(self, request: Request) -> tuple[User, str] | None:
        """Return (user, token), or None when no bearer token is given.

        Raises AuthenticationFailed when one is given that is unknown, expired or revoked, or whose user is inactive:
        a session beside it does not make it good.
        """
        scheme, _, value = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        user = authenticate_token(value.strip())
        if user is None:
            raise AuthenticationFailed("The token is unknown, expired or revoked.", code="invalid_token")
        return user, value.strip()

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="opsconductor"'
