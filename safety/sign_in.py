"""Signing in and out: one verb for every way in."""

from __future__ import annotations

from django.contrib.auth import login, logout
from django.db import transaction
from django.http import HttpRequest

from safety import audit
from safety.client_address import client_address
from safety.models import Session, User

PASSWORD, SSO = "password", "sso"
BACKENDS = {PASSWORD: "safety.backends.PasswordBackend", SSO: "safety.backends.SsoBackend"}


def sign_in(request: HttpRequest, user: User, *, method: str) -> None:
    """Begin a session of `user`, whose identity the caller has seen proved. The browser gets a new session id."""
    with transaction.atomic():
        login(request, user, backend=BACKENDS[method])
        request.session.save()
        Session.objects.filter(session_key=request.session.session_key).update(
            method=method,
            address=client_address(request)[:64],
            agent=request.headers.get("User-Agent", "").replace("\0", "")[:300],
        )
        _record("session.sign_in", user, method=method)


def sign_out(request: HttpRequest) -> str:
    """End the session of this request; return how it was begun, "" when that is not known or there was none."""
    key = request.session.session_key
    method = Session.objects.filter(session_key=key).values_list("method", flat=True).first() or ""
    with transaction.atomic():
        if isinstance(request.user, User):
            _record("session.sign_out", request.user)
        logout(request)
    return method


def forget(request: HttpRequest) -> None:
    """The session of this request was ended: make the browser forget it as well."""
    logout(request)


def _record(action: str, user: User, **data: str) -> None:
    audit.record(action, by=user, object_type="user", object_id=user.pk, object_name=user.username, data=data)
