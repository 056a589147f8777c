"""Chaining what was recorded: see safety/sql/audit.sql for how, and why not at once."""

from __future__ import annotations

from django.db import connection, transaction

AT_ONCE = 1000


def seal(*, most: int = AT_ONCE) -> int:
    """Seal up to `most` records that wait, unless somebody else is at it; return how many. Workers call it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM safety_auditoutbox)")
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute("SELECT safety_audit_seal(%s, false)", [most])
        return cursor.fetchone()[0] or 0


def seal_all() -> int:
    """Seal everything that waits now; return how many. Waits for whoever is sealing."""
    sealed = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT safety_audit_seal(%s, true)", [AT_ONCE])
            some: int = cursor.fetchone()[0]
        sealed += some
        if some < AT_ONCE:
            return sealed
