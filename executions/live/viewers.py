"""Who sits at the other end of a socket, and whether they may still see what they watch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from channels.auth import get_user
from channels.db import database_sync_to_async
from django.conf import settings
from django.http.request import validate_host

from executions.models import Execution
from executions.states import FINAL_EXECUTION
from safety.accounts import authenticate_token
from safety.models import User
from safety.scopes import Scope
from safety.sessions import signed_in


@dataclass(frozen=True, slots=True)
class Viewer:
    """A signed-in user, by a session or by a token: the one that is set is looked at again."""

    user_id: int
    session_key: str | None
    token: str | None


@dataclass(frozen=True, slots=True)
class Sight:
    """What a viewer sees of an execution before reading on."""

    final: bool
    last_seq: int
    pruned_at: datetime | None = None  # when retention removed what there was to read


def same_origin(scope: Mapping[str, Any]) -> bool:
    """Whether the page that opened the socket is one of ours. A program sends no Origin, and may come without.

    A browser always sends it: so no foreign page can use the session cookie of somebody who visits it.
    """
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin1")
    name = urlsplit(f"//{host}").hostname or ""
    if not validate_host(f"[{name}]" if ":" in name else name, settings.ALLOWED_HOSTS):
        return False
    origin = headers.get(b"origin", b"").decode("latin1")
    return not origin or urlsplit(origin).netloc == host or origin in settings.CSRF_TRUSTED_ORIGINS


async def identify(scope: dict[str, Any]) -> Viewer | None:
    """Return who opened the socket, or None: by `Authorization: Bearer`, else by the session of `scope`.

    A token without the scope `read` is nobody here, also later: scopes do not change.
    """
    word, _, value = dict(scope["headers"]).get(b"authorization", b"").decode("latin1").partition(" ")
    if word.lower() == "bearer":
        user = await _by_token(value.strip(), scope=Scope.READ)
        return Viewer(user.pk, None, value.strip()) if user else None
    session = scope["session"]
    user = await get_user(scope)
    if not isinstance(user, User) or not user.is_active:
        return None
    return Viewer(user.pk, session.session_key, None)


def look(viewer: Viewer, execution_id: int) -> Sight | None:
    """Return what the viewer may see of the execution now; None when it is nothing (any more)."""
    user = _signed_in(viewer)
    if user is None:
        return None
    rows = Execution.objects.visible_to(user).filter(pk=execution_id)
    row = rows.values_list("status", "last_seq", "events_pruned_at").first()
    return Sight(row[0] in FINAL_EXECUTION, row[1], row[2]) if row else None


def visible_of(viewer: Viewer, ids: set[int] | None, *, limit: int) -> list[int] | None:
    """Return the newest of `ids` that the viewer may see, at most `limit`; None when they are signed out.

    With ids None: the newest of all.
    """
    user = _signed_in(viewer)
    if user is None:
        return None
    rows = Execution.objects.visible_to(user).order_by("-id")
    if ids is not None:
        rows = rows.filter(pk__in=sorted(ids, reverse=True)[:limit])
    return list(rows.values_list("pk", flat=True)[:limit])


alook = database_sync_to_async(look, thread_sensitive=False)
_by_token = database_sync_to_async(authenticate_token, thread_sensitive=False)
avisible_of = database_sync_to_async(visible_of, thread_sensitive=False)


def _signed_in(viewer: Viewer) -> User | None:
    if viewer.token is not None:
        return authenticate_token(viewer.token, scope=Scope.READ)
    return signed_in(viewer.session_key, viewer.user_id)
