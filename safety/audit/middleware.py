"""The HTTP door of the audit: where a request comes from, and what was refused before any verb heard of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from safety.audit.recording import record_refusal
from safety.audit.strangers import record_strangers_refusal
from safety.client_address import client_address
from safety.models import User
from safety.origin import Door, origin

# The longest beginning wins. What is under none of them is a page.
_DOORS = {"/api/": Door.API, "/admin/": Door.ADMIN}
_REFUSED = (401, 403)


class AuditOrigin:
    """Says through which door a request came, and records a refusal that nobody else has recorded.

    A verb records its own refusals. What remains is what was refused at the door itself: a right that a view asks
    for, a token without the scope, a form without its CSRF token. Somebody who gives no credentials at all is led to
    sign in and leaves nothing; of what else strangers are refused there is one record in a while: see strangers.py.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with origin(door_of(request.path), client_address(request)) as here:
            response = self.get_response(request)
            if response.status_code in _REFUSED and not here.refusal_is_recorded:
                _record(request, response)
            return response


def door_of(path: str) -> Door:
    return next((door for beginning, door in _DOORS.items() if path.startswith(beginning)), Door.PAGE)


def _record(request: HttpRequest, response: HttpResponseBase) -> None:
    by = _who(request)
    if by is None and response.status_code == 401 and "Authorization" not in request.headers:
        return
    code, reason = _said(response)
    named: dict[str, Any] = {"object_type": "address", "object_name": f"{request.method} {request.path}"}
    if by is None:
        record_strangers_refusal("access.use", code=code, reason=reason, **named)
    else:
        record_refusal("access.use", by=by, code=code, reason=reason, **named)


def _who(request: HttpRequest) -> User | None:
    """The user of the token or session. REST framework forgets whose session it was when it refuses a form's token."""
    user = getattr(request, "user", None)
    if not isinstance(user, User) and hasattr(request, "session"):
        user = get_user(request)
    return user if isinstance(user, User) else None


def _said(response: HttpResponseBase) -> tuple[str, str]:
    """Return code and detail of a problem; of a page, what its status says."""
    if response.headers.get("Content-Type", "").startswith("application/problem+json"):
        try:
            said = json.loads(getattr(response, "content", b""))
            return str(said["code"]), str(said["detail"])
        except (ValueError, KeyError, TypeError):
            pass
    return ("forbidden", "") if response.status_code == 403 else ("not_authenticated", "")
