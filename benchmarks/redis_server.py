"""A Redis server of the run's own, for the peers that need one: on a unix socket, nothing written to disk."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.children import Children, wait_until

MISSING = (
    "redis-server is not on the PATH: install it (on Debian and Ubuntu: apt-get install redis-server) and run again"
)


class NoRedis(Exception):
    """There is no redis-server to start; the sentence says how to get one."""


def answers(path: Path) -> bool:
    """Whether a Redis server answers on the socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def redis_server(children: Children) -> Iterator[Path]:
    """Start one; gives the path of its socket. Raises NoRedis when there is no redis-server on the PATH."""
    program = shutil.which("redis-server")
    if program is None:
        raise NoRedis(MISSING)
    # A short path: a socket's may have no more than about 100 bytes.
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        path = Path(folder) / "redis.sock"
        command: list[str | Path] = [
            program,
            "--port",
            "0",
            "--unixsocket",
            path,
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            folder,
        ]
        child = children.start("redis", command)
        try:
            wait_until(lambda: answers(path), timeout_seconds=10.0, what="Redis answers", child=child)
            yield path
        finally:
            child.stop()
