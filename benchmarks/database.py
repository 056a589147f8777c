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

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A new, empty database for as long as the context lasts; gives its URL."""
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(drop)
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
        finally:
            # So that one participant's vacuuming is not another's load, and the disk does not fill.
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(drop)
                connection.execute("CHECKPOINT")


@contextmanager
def embedded_server(var_dir: Path) -> Iterator[Server]:
    """A server with its data under `var_dir`, fsync on; stopped at the end."""
    try:
        yield Server(embedded_postgres.start(var_dir))
    finally:
        embedded_postgres.release(var_dir)
