"""Connections of a worker: plain psycopg, in autocommit, outside Django's pool, each owned by one thread."""

from __future__ import annotations

from typing import Any

import psycopg
from django.conf import settings

# Nothing that a worker asks of the server takes this long. A server that is gone is noticed by TCP: see
# opsconductor/database.py, and so is a worker that is gone by the server.
STATEMENT_TIMEOUT_MS = 15_000


def parameters(purpose: str) -> dict[str, Any]:
    """Return psycopg's connection parameters; `purpose` is what pg_stat_activity shows."""
    database = settings.DATABASES["default"]
    options = {name: value for name, value in database.get("OPTIONS", {}).items() if name != "pool"}
    given = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
    }
    return {
        **{name: value for name, value in given.items() if value},
        **options,
        "application_name": f"opsconductor {purpose}",
        "options": f"{options.get('options', '')} -c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
    }


def connect(purpose: str) -> psycopg.Connection[Any]:
    """Open a connection. Raises psycopg.OperationalError when the server cannot be reached."""
    return psycopg.connect(**parameters(purpose), autocommit=True)


async def connect_async(purpose: str) -> psycopg.AsyncConnection[Any]:
    """Open a connection for the event loop. Raises psycopg.OperationalError."""
    return await psycopg.AsyncConnection.connect(**parameters(purpose), autocommit=True)
