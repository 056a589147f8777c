"""Whether an external PostgreSQL can be used at all: asked once at the start, answered with one sentence."""

from __future__ import annotations

import psycopg

from opsconductor.environment import ConfigError

OLDEST_MAJOR_VERSION = 14
CONNECT_SECONDS = 10


def check_server(url: str) -> None:
    """Refuse a server that cannot be reached, is older than PostgreSQL 14, is not in UTF-8, is read-only or gives no
    right to create tables. Raises ConfigError with one sentence, which never holds the password.
    """
    try:
        connection = psycopg.connect(url, connect_timeout=CONNECT_SECONDS, autocommit=True)
    except psycopg.OperationalError as error:
        raise ConfigError(f"The server of DATABASE_URL cannot be used: {_reason(error)}.") from None
    except (psycopg.ProgrammingError, ValueError):
        raise ConfigError(
            "DATABASE_URL is not a PostgreSQL address such as postgresql://user:password@host:5432/database."
        ) from None
    with connection:
        _check_version(connection.info.server_version)
        try:
            _check_encoding(connection)
            _check_writable(connection)
            _check_rights(connection)
        except psycopg.OperationalError as error:
            raise ConfigError(f"The server of DATABASE_URL broke off: {_reason(error)}.") from None


def _reason(error: psycopg.Error) -> str:
    """Return libpq's last line that names a cause; several addresses of one host give several, a hint is indented."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1].rstrip(".") if lines else "no reason given"


def _check_version(version: int) -> None:
    major = version // 10000
    if major < OLDEST_MAJOR_VERSION:
        raise ConfigError(
            f"The server of DATABASE_URL is PostgreSQL {major}: OpsConductor needs {OLDEST_MAJOR_VERSION} or newer."
        )


def _check_encoding(connection: psycopg.Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigError(f"The database of DATABASE_URL is encoded in {encoding}: make one with ENCODING 'UTF8'.")


def _check_writable(connection: psycopg.Connection) -> None:
    found = connection.execute("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')").fetchone()
    assert found is not None
    if found[0]:
        raise ConfigError("The server of DATABASE_URL is a standby, which cannot be written to: name the primary.")
    if found[1] == "on":
        raise ConfigError(
            "The database of DATABASE_URL is read-only for this user (default_transaction_read_only is on)."
        )


def _check_rights(connection: psycopg.Connection) -> None:
    """Really create a table, and take it back: what privileges add up to is the server's to say."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("CREATE TABLE opsconductor_may_create_tables ()")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName):
        raise ConfigError(
            f"The user {connection.info.user} of DATABASE_URL may not create tables: make it the owner of the database "
            f"{connection.info.dbname}, or GRANT CREATE ON SCHEMA public to it."
        ) from None
