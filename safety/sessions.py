"""Django's session engine of this project: rows that say whose session it is, with limits that the server keeps.

A session ends SESSION_IDLE_MINUTES after the last thing its person did, and SESSION_MAX_HOURS after the sign-in, by the
clock of the database; and at once when it is ended here, when its user gets another password or is made inactive.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.db import IntegrityError, transaction
from django.db.models import BooleanField, Case, ExpressionWrapper, F, Q, When
from django.db.models.functions import Now
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from safety.models import Session, User
from safety.models.sessions import ANONYMOUS_FOR, STARTED_AT, good_until

SEEN_RESOLUTION = timedelta(minutes=1)  # not an UPDATE for every request


class SessionStore(DatabaseStore):
    """One session. `is_due`: its last use is so long ago that it has to be noted again."""

    is_due = False

    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def load(self) -> dict[str, Any]:
        due = ExpressionWrapper(Q(last_seen_at__lt=Now() - _resolution()), output_field=BooleanField())
        alive = Session.objects.alive().filter(session_key=self.session_key)
        row = alive.annotate(due=due).values_list("session_data", "due").first()
        if row is None:
            self._session_key = None
            return {}
        self.is_due = row[1]
        data: dict[str, Any] = self.decode(row[0])
        return data

    async def aload(self) -> dict[str, Any]:
        from channels.db import database_sync_to_async

        data: dict[str, Any] = await database_sync_to_async(self.load, thread_sensitive=False)()
        return data

    def save(self, must_create: bool = False) -> None:
        """Write the session; a new sign-in is a new row, for Django gives it a new key.

        Raises UpdateError when the session was ended meanwhile: nothing brings it back.
        """
        if self.session_key is None:
            return self.create()
        data: dict[str, Any] = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        written: dict[str, Any] = {
            "session_data": self.encode(data),
            "user_id": int(data[SESSION_KEY]) if SESSION_KEY in data else None,
            "auth_hash": data.get(HASH_SESSION_KEY, ""),
        }
        if must_create:
            ends = good_until() if written["user_id"] else Now() + ANONYMOUS_FOR
            try:
                with transaction.atomic():
                    Session.objects.create(session_key=self.session_key, expire_date=ends, **written)
            except IntegrityError:
                raise CreateError from None
            return
        if written["user_id"]:  # login() makes the row before it says whose it is: the time begins now
            written["expire_date"] = Case(When(user=None, then=good_until()), default=F("expire_date"))
            written["started_at"] = Case(When(user=None, then=Now()), default=STARTED_AT)
        # One statement: a session that is ended at the same moment is gone, or goes right after.
        if Session.objects.alive().filter(session_key=self.session_key).update(**written) != 1:
            raise UpdateError

    async def asave(self, must_create: bool = False) -> None:
        from channels.db import database_sync_to_async

        await database_sync_to_async(self.save, thread_sensitive=False)(must_create)


def _resolution() -> timedelta:
    return min(SEEN_RESOLUTION, settings.SESSION_IDLE / 4)


class SessionActivity:
    """Middleware: what a person does keeps the session alive; what a page does by itself does not.

    A page that refreshes itself says so in a header that scripts cannot forge (Sec-Fetch-Dest). Where browsers do not
    send it (plain HTTP on another host than localhost) every request counts.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        session = request.session
        by_itself = request.method == "GET" and request.headers.get("Sec-Fetch-Dest") == "empty"
        if isinstance(session, SessionStore) and session.is_due and not by_itself:
            note_use(session.session_key)
        return response


def note_use(session_key: str | None) -> None:
    """Somebody did something: the session is good for SESSION_IDLE_MINUTES more, but not beyond SESSION_MAX_HOURS."""
    Session.objects.alive().filter(session_key=session_key, user__isnull=False).update(
        last_seen_at=Now(), expire_date=good_until(STARTED_AT)
    )


def signed_in(session_key: str | None, user_id: int) -> User | None:
    """Return the user if the session is still theirs and good, and they are active. One query, for who asks again."""
    row = Session.objects.alive().filter(session_key=session_key, user_id=user_id, user__is_active=True)
    found = row.select_related("user__tenant").first()
    if found is None or found.user is None or found.auth_hash != found.user.get_session_auth_hash():
        return None
    return found.user


def good_sessions(keys: Collection[str]) -> set[str]:
    """Return those of the session keys that `signed_in` would find good. One query."""
    rows = Session.objects.alive().filter(session_key__in=keys, user__is_active=True).select_related("user")
    return {row.session_key for row in rows if row.user and row.auth_hash == row.user.get_session_auth_hash()}


def end_sessions(user: User, *, keep: str | None = None, only: str | None = None) -> int:
    """End the sessions of `user`: all, all but the one with the key `keep`, or the one `only`. Returns how many."""
    rows = Session.objects.filter(user=user)
    if keep is not None:
        rows = rows.exclude(session_key=keep)
    if only is not None:
        rows = rows.filter(session_key=only)
    return rows.delete()[0]
