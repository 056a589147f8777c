"""An installation of OpsConductor for one measurement: a migrated database, its settings, its programs."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.children import Child, wait_until
from benchmarks.machine import ROOT
from benchmarks.run import Run

TEMPLATE = "ours_template"
MIGRATE_TIMEOUT_SECONDS = 180.0
PROGRAM_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Installation:
    """One installation; its database is new."""

    run: Run
    database_url: str

    def environment(self, **more: str) -> dict[str, str]:
        """The settings of its programs, with `more` on top; all else is the default."""
        return {
            "DATABASE_URL": self.database_url,
            "SECRET_KEY": "only ever used by the benchmark, for as long as it runs",
            "VAR_DIR": str(self.run.run_dir / "ours"),
            "DJANGO_SETTINGS_MODULE": "opsconductor.settings",
            "LOG_LEVEL": "WARNING",
            "PYTHONUNBUFFERED": "1",
            "WORKER_PROCESSES": "2",
            **more,
        }

    def result(
        self, program: str, *options: str, timeout_seconds: float = PROGRAM_TIMEOUT_SECONDS, **environment: str
    ) -> dict[str, Any]:
        """Run a program of benchmarks/ours to its end and return what it reports. Raises ChildFailed."""
        return self.run.children.result(
            program.replace("_", "-"),
            [sys.executable, "-m", f"benchmarks.ours.{program}", *options],
            timeout_seconds=timeout_seconds,
            env=self.environment(**environment),
            cwd=ROOT,
        )

    @contextmanager
    def worker(self, **environment: str) -> Iterator[Child]:
        """`manage.py worker` with two processes, stopped in order at the end."""
        command = [sys.executable, "manage.py", "worker"]
        child = self.run.children.start("worker", command, env=self.environment(**environment), cwd=ROOT)
        try:
            yield child
        finally:
            child.stop(grace_seconds=30.0)

    @contextmanager
    def web(self, **environment: str) -> Iterator[tuple[Child, int]]:
        """The web process on a port of loopback that was free; ends with the context. Waits until it listens."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port)]
        child = self.run.children.start(
            "web", [*command, "opsconductor.asgi:application"], env=self.environment(**environment), cwd=ROOT
        )
        try:
            wait_until(
                lambda: _listens(port),
                timeout_seconds=60.0,
                what="the web process listens",
                child=child,
                every_seconds=0.05,
            )
            yield child, port
        finally:
            child.stop()

    def query(self, statement: str) -> tuple[Any, ...]:
        """The first row that a statement gives, in a transaction of its own."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            rows = connection.execute(statement.encode()).fetchall()
        return tuple(rows[0])

    def analyze(self) -> None:
        """Gather statistics, as autovacuum would within a minute."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("ANALYZE")


@contextmanager
def installation(run: Run, name: str = "ours") -> Iterator[Installation]:
    """A new installation, for as long as the context lasts. The first one of a run migrates the template of all.

    `name` is that of its database: two at the same time need two names.
    """
    if not run.template_ready:
        run.server.drop(TEMPLATE)
        url = run.server.create(TEMPLATE)
        run.children.run(
            "migrate",
            [sys.executable, "manage.py", "migrate", "--skip-checks", "--verbosity", "0"],
            timeout_seconds=MIGRATE_TIMEOUT_SECONDS,
            env=Installation(run, url).environment(),
            cwd=ROOT,
        )
        run.template_ready = True
    with run.server.database(name, TEMPLATE) as url:
        yield Installation(run, url)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
