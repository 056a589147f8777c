"""Sessions of people, each in a row that says whose it is, and until when it is good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models import ExpressionWrapper, F
from django.db.models.functions import Least, Now

ANONYMOUS_FOR = timedelta(hours=1)  # of who has not signed in: long enough for a sign-in at the provider


class SessionQuerySet(models.QuerySet["Session"]):
    def alive(self) -> SessionQuerySet:
        """Those that are neither idle for too long nor older than a session may be, by the clock of the database."""
        return self.filter(expire_date__gt=Now())

    def of_nobody_else_than(self, user: Any) -> SessionQuerySet:
        """Those of `user` that are good: alive, and begun with the password that is still the user's."""
        return self.alive().filter(user_id=user.pk, auth_hash=user.get_session_auth_hash())


class Session(AbstractBaseSession):
    """One sign-in of somebody in one browser, or what a browser has to remember before that.

    `expire_date` is the earlier of two moments: SESSION_IDLE_MINUTES after the last thing the person did, and
    SESSION_MAX_HOURS after the sign-in. `auth_hash` belongs to the password: with a new one the session is over.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="sessions", editable=False
    )
    auth_hash = models.CharField(max_length=128, blank=True)
    started_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())
    method = models.CharField(max_length=20, blank=True)  # how the person signed in: password, sso
    address = models.CharField(max_length=64, blank=True)
    agent = models.CharField(max_length=300, blank=True)

    objects = SessionQuerySet.as_manager()  # type: ignore[misc, assignment]

    class Meta(AbstractBaseSession.Meta):
        abstract = False

    @classmethod
    def get_session_store_class(cls) -> Any:
        from safety.sessions import SessionStore

        return SessionStore


def good_until(started_at: Any = None) -> Any:
    """Return the expression for `expire_date` of a session that is used now. Without a start it begins now."""
    start = Now() if started_at is None else started_at
    longest = ExpressionWrapper(start + settings.SESSION_MAX, output_field=models.DateTimeField())
    idle = ExpressionWrapper(Now() + settings.SESSION_IDLE, output_field=models.DateTimeField())
    return Least(idle, longest)


STARTED_AT = F("started_at")
