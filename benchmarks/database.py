"""The PostgreSQL server of a run: embedded, durable, of its own, with a fresh database for each participant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from opsconductor import embedded_postgres


class Server:
    """A running server, and the databases in it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def create(self, name: str, template: str = "template1") -> str:
        """Make a new database, as a copy of another that nobody uses; return its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def drop(self, name: str) -> None:
        """Remove a database, also with connections left open."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def database(self, name: str, template: str = "template1") -> Iterator[str]:
        """A new database for as long as the context lasts; gives its URL."""
        self.drop(name)
        try:
            yield self.create(name, template)
        finally:
            self.drop(name)
            # What is still to be written of this one is not to be the load of the next.
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute("CHECKPOINT")


@contextmanager
def embedded_server(var_dir: Path) -> Iterator[Server]:
    """A server with its data under `var_dir`, fsync on; stopped at the end."""
    try:
        yield Server(embedded_postgres.start(var_dir))
    finally:
        embedded_postgres.release(var_dir)
