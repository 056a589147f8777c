"""Connections and workers for the tests of the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection as django_connection

from queueing.connections import connect
from queueing.queue import Connection
from tests.queueing.lines import new_worker


@pytest.fixture
def connections(db: None) -> Iterator[Callable[[], Connection]]:
    """Opens connections such as workers have, for tests marked `several`; they are closed when the test ends."""
    opened: list[Connection] = []

    def open_one() -> Connection:
        opened.append(connect("test"))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(db: None) -> Connection:
    """The test's own connection, inside its transaction: enough wherever one thing happens after the other."""
    django_connection.ensure_connection()
    inner: Connection = django_connection.connection
    return inner


@pytest.fixture
def worker(db: None) -> int:
    return new_worker()
