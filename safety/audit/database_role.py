"""The role that web and workers have in the database: everything that their work needs, and no way to change the audit.

Tables belong to another role, the owner, as which migrations run. A role that does not own a table cannot drop it,
disable its triggers or truncate it; and on the audit it has no right but to read, and to insert records.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.db import connection, transaction

from opsconductor import embedded_postgres
from opsconductor.environment import ConfigError

# Only to be read: seals and outbox are written by functions that have their owner's rights.
_SEALED = ("safety_auditseal", "safety_auditoutbox", "django_migrations")
_RECORDS = "safety_auditrecord"

_RIGHTS = """
SELECT rolsuper,
       has_table_privilege(r.rolname, 'safety_auditrecord', 'UPDATE, DELETE, TRUNCATE')
           OR has_table_privilege(r.rolname, 'safety_auditseal', 'INSERT, UPDATE, DELETE, TRUNCATE'),
       (SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c
         WHERE c.relname IN ('safety_auditrecord', 'safety_auditseal') AND c.relkind = 'r'
           AND c.relnamespace = current_schema()::regnamespace AND pg_has_role(r.oid, c.relowner, 'MEMBER'))
  FROM pg_roles r WHERE r.rolname = coalesce(%s, current_user)
"""


class CannotGrant(Exception):
    """The role cannot be what web and workers use. The message says why and what to do."""


def grant(role: str) -> None:
    """Give the role what web and workers need, and take from it what would let it change the audit.

    To be called as the owner of the tables. Running it again does no harm; tables that later migrations make are
    granted by the same owner's default privileges. Raises CannotGrant.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT current_schema(), current_database(), current_user, quote_ident(%s)", [role])
        schema, database, owner, name = cursor.fetchone()
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
        if cursor.fetchone() is None:
            raise CannotGrant(f"There is no role {role}: CREATE ROLE {name} LOGIN PASSWORD '...' first.")
        if role == owner:
            raise CannotGrant(f"{role} is the role that this command has: web and workers need another one.")
        cursor.execute("SELECT quote_ident(%s), quote_ident(%s)", [schema, database])
        in_schema, in_database = cursor.fetchone()
        for statement in _statements(name, in_schema, in_database):
            cursor.execute(statement)
        if why := why_it_can_change_the_audit(role):
            raise CannotGrant(f"{role} could still change the audit: {why}")


def configured_role() -> str | None:
    """Return the role that web and workers of this installation have beside the owner; None if they have the same."""
    if not settings.DATABASE_URL:
        return embedded_postgres.APP_ROLE
    return unquote(urlsplit(settings.DATABASE_URL).username or "") or None if settings.DATABASE_OWNER_URL else None


def grant_configured(**signal: Any) -> None:
    """Grant to the role of web and workers, if they have one: at every start, and after migrations (post_migrate)."""
    role = configured_role()
    if role is not None and signal.get("plan", True):  # a migrate that had nothing to do changes nothing here either
        try:
            grant(role)
        except CannotGrant as refusal:
            raise ConfigError(str(refusal)) from None


def _statements(role: str, schema: str, database: str) -> list[str]:
    rows = f"SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}"
    return [
        f"GRANT CONNECT ON DATABASE {database} TO {role}",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"REVOKE CREATE ON SCHEMA {schema} FROM {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {rows}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {role}",
        f"REVOKE ALL ON {schema}.{_RECORDS}, {', '.join(f'{schema}.{table}' for table in _SEALED)} FROM {role}",
        f"GRANT SELECT, INSERT ON {schema}.{_RECORDS} TO {role}",
        *(f"GRANT SELECT ON {schema}.{table} TO {role}" for table in _SEALED),
    ]


def why_it_can_change_the_audit(role: str | None = None) -> str:
    """Return in a sentence how this role (without: the one that we have) could change the audit; "" if it cannot."""
    with connection.cursor() as cursor:
        cursor.execute(_RIGHTS, [role])
        is_superuser, may_write, owned = cursor.fetchone()
    if is_superuser:
        return "it is a superuser."
    if owned:
        return f"it owns, or is a member of the role that owns, {owned}."
    return "it may write to its tables." if may_write else ""
