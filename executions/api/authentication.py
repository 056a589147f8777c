"""Who calls: a bearer token, or the session of somebody who is signed in."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request

from safety.accounts import Bearer, bearer_of
from safety.client_address import client_address
from safety.guessing import MustWait, count_bad_token
from safety.models import User

__all__ = ["SessionAuthentication", "TokenAuthentication"]

CHALLENGE = 'Bearer realm="opsconductor"'


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN`. First of the two, so that a missing one is answered with 401, not 403."""

    def authenticate(self, request: Request) -> tuple[User, Bearer] | None:
        """Return (user, what the token is), or None when no bearer token is given.

        Raises AuthenticationFailed when one is given that is unknown, expired or revoked, or whose user is inactive:
        a session beside it does not make it good. Raises Throttled when there were too many such from the same address.
        """
        scheme, _, value = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        bearer = bearer_of(value.strip())
        if bearer is None:
            try:
                count_bad_token(client_address(request._request))
            except MustWait as wait:
                raise Throttled(wait.seconds) from None
            raise AuthenticationFailed("The token is unknown, expired or revoked.", code="invalid_token")
        return bearer.user, bearer

    def authenticate_header(self, request: Request) -> str:
        """RFC 6750: `error` only when a token was given."""
        given = request.META.get("HTTP_AUTHORIZATION", "").lower().startswith("bearer")
        return f'{CHALLENGE}, error="invalid_token"' if given else CHALLENGE
