"""Processes that use the embedded PostgreSQL, and a look at its own processes, for tests that kill them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import psycopg

from opsconductor import launch
from tests.installations import PROJECT, clean_environment

HOLD = """
import sys
from pathlib import Path
from opsconductor import embedded_postgres
print(embedded_postgres.start(Path(sys.argv[1]), durable=False), flush=True)
sys.stdin.read()
if "release" in sys.argv:
    embedded_postgres.release(Path(sys.argv[1]))
"""


class Holder:
    """A process that has called `embedded_postgres.start` and lives until it is told to end, or killed."""

    def __init__(self, var_dir: Path, *, wrapper: Sequence[str] = (), wait: bool = True, **settings: str) -> None:
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", HOLD, str(var_dir)],
            cwd=PROJECT,
            env=clean_environment(**settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = self.read_url() if wait else ""

    def read_url(self) -> str:
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.communicate()[1]
        return self.url

    def end(self) -> None:
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def postmaster(var_dir: Path) -> psutil.Process:
    return psutil.Process(int((var_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0]))


def keeper(var_dir: Path) -> psutil.Process:
    found = postmaster(var_dir).parent()
    assert found is not None
    assert "opsconductor.embedded_postgres.keeper" in found.cmdline()
    return found


def is_gone(process: psutil.Process) -> bool:
    """Say whether it ended; one that init has not buried yet runs no more."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def servers_of(var_dir: Path) -> list[psutil.Process]:
    """All postmasters and keepers whose command line names this VAR_DIR."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(word == str(var_dir) or word == str(var_dir / "postgres") for word in process.info["cmdline"] or [])
        and not any(word in ("-c", "pytest") for word in (process.info["cmdline"] or [])[1:2])
    ]


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return [] if cursor.description is None else list(cursor.fetchall())


def sleeper(uid: int, gid: int) -> subprocess.Popen[bytes]:
    """An innocent process of that user, which happens to have a pid that somebody noted down."""
    watched = ["--parent", str(os.getpid()), "--death-signal", "9"]
    user = ["--user", f"{uid}:{gid}"] if os.geteuid() == 0 else []
    return subprocess.Popen(
        [sys.executable, "-I", "-S", launch.__file__, *watched, *user, "--", "/bin/sleep", "300"], cwd="/"
    )
