"""Asking the database through Django in a thread of a worker, over a connection that stays open between questions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

from queueing.connections import STATEMENT_TIMEOUT_MS

T = TypeVar("T")

# Nothing that is asked in such a thread waits longer for somebody's lock: all claims, or all secrets, would wait too.
LOCK_TIMEOUT_MS = 2000

_bounded = threading.local()


def ask_django(ask: Callable[[], T]) -> T:
    """Ask over this thread's own connection of Django's, which stays open, or over a new one should it be broken."""
    try:
        _bound_waits()
        return ask()
    except (OperationalError, InterfaceError):
        connection.close()
        _bound_waits()
        return ask()


def _bound_waits() -> None:
    connection.ensure_connection()
    if getattr(_bounded, "connection", None) is not connection.connection:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}; SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
        _bounded.connection = connection.connection
