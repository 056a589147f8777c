"""A cursor for the few statements that every submit asks: the server plans them once a connection, not every time.

Django sends its statements with the values written into them, so each is a new one to the server. For most that is
right. Planning the query of a user's rights takes longer than answering it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection
from django.db.backends.utils import CursorWrapper


@contextmanager
def prepared_cursor() -> Iterator[CursorWrapper]:
    """Like `connection.cursor()`, in the same transaction, with its statements prepared when they come again.

    Values are bound by the server: a statement says their types where it cannot know them (`%s::interval`).
    """
    with connection.cursor() as cursor, psycopg.Cursor(connection.connection) as plain:
        cursor.cursor = plain
        yield cursor
