"""Workers without a heart, for situations that chance brings about too seldom: they lose a lease and do not notice.

Everything they call is the real code: claim, engine, ledger, warden. What they lack is what would end them in time.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection as django_connection

from executions.engine.entry import Engine
from executions.services import Submission, submit
from queueing import queue
from queueing.connections import connect
from queueing.fleet import Registration
from queueing.models import Worker
from queueing.queue import Lease
from safety.models import User
from tests.chaos.history import History, read_history
from tests.chaos.load import STEP, Wanted
from tests.chaos.place import WITNESS
from tests.installations import wait_until

LEASE = timedelta(seconds=60)
_pids = itertools.count(1_000_000)

# A place to wait at, for the statement that calls it, as long as a test keeps it closed.
PAUSE = """
CREATE FUNCTION chaos.pause() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_lock_shared(4711);
    PERFORM pg_advisory_unlock_shared(4711);
END $$;
"""
AT_PAUSE = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@dataclass(slots=True)
class Actor:
    """One registered worker; `claim` and `run` may be called from any thread, one at a time.

    It runs once: the database takes each group of a worker's ledger once, and a second ledger would count from 1 again.
    """

    registration: Registration

    @classmethod
    def registered(cls) -> Actor:
        pid = next(_pids)
        row = Worker.objects.create(cluster="actors", host="actor", pid=pid, version="0", slots=10)
        return cls(Registration(row.pk, "actors", "actor", pid, 10, False))

    def claim(self, limit: int = 10, lease: timedelta = LEASE) -> tuple[Lease, ...]:
        with connect("actor") as connection:
            return queue.claim(connection, self.registration.worker_id, limit, lease).leases

    def run(self, leases: Sequence[Lease]) -> None:
        """Run executions to the end that this worker sees for them."""
        asyncio.run(self._run(leases))

    async def _run(self, leases: Sequence[Lease]) -> None:
        engine = Engine(self.registration, lambda execution_id: None)
        try:
            begun = await asyncio.to_thread(_prepared, engine, leases)
            await asyncio.wait_for(asyncio.gather(*begun), 30)
        finally:
            await engine.close()


def _prepared(engine: Engine, leases: Sequence[Lease]) -> list[Any]:
    try:
        return engine.prepare(leases)
    finally:
        django_connection.close()  # this thread's own


@dataclass(slots=True)
class Stage:
    """A database with the witness in it, on which actors play. Made by the fixture `stage`."""

    marks: Path
    by: User
    wanted: list[Wanted] = field(default_factory=list)
    accepted: dict[int, int] = field(default_factory=dict)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def submit(self, step: dict[str, Any], *, kind: str = "change", idempotent: bool = False, priority: int = 5) -> int:
        """Hand in an execution with one step, `s0`; return its id."""
        number = len(self.wanted)
        document = {"title": f"actors {number}", "steps": [{"id": "s0", **step}]}
        self.wanted.append(Wanted(number, kind, document, priority, {"s0": idempotent}, writes=step["tool"] != "noop"))
        submission = Submission(document, priority=priority, idempotency_key=f"actors {number}")
        self.accepted[number] = submit(submission, by=self.by).execution_id
        return self.accepted[number]

    def command(self, asset: str, work: str = ":", *, idempotent: bool = False) -> dict[str, Any]:
        """A step that writes its marks, as those of the load do."""
        number = len(self.wanted)
        begin = f"LOG={self.marks}/{asset} NUMBER={number} STEP=s0; . {STEP}"
        return {
            "tool": "shell",
            "inputs": {"command": f"{begin}; {work}; finish 0"},
            "targets": [asset],
            "idempotent": idempotent,
        }

    def gate(self) -> tuple[Path, str]:
        """A file, and the shell words that wait until somebody makes it."""
        path = self.marks.parent / f"gate-{time.monotonic_ns()}"
        return path, f"while [ ! -e {path} ]; do sleep 0.02; done"

    def began(self, asset: str) -> None:
        """Wait until a run on this asset has begun."""
        file = self.marks / asset
        wait_until(lambda: file.exists() and " start " in file.read_text(), what="the beginning of the step")

    def start(self, body: Callable[..., Any], *values: Any) -> Future[Any]:
        return self.threads.submit(body, *values)

    def ask(self, statement: str) -> Any:
        """The first column of the first row, asked on a connection of its own: any thread."""
        with connect("stage") as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def take_lease_away(self, execution_id: int) -> None:
        """What happens to the lease of a worker that was silent for too long, up to its being claimable again."""
        self.ask(
            "UPDATE queueing_queueentry SET lease_expires_at = statement_timestamp()"
            f" WHERE execution_id = {execution_id} AND state = 'leased'"
        )
        self.reap()

    def reap(self) -> None:
        with connect("stage") as connection:
            queue.reap(connection)
            connection.execute(
                "UPDATE queueing_queueentry SET available_at = statement_timestamp() WHERE state = 'delayed'"
            )
            queue.promote(connection)

    @contextmanager
    def pause_closed(self) -> Iterator[None]:
        """Whoever comes to the pause within this block waits for its end."""
        with connect("stage") as connection:
            connection.execute("SELECT pg_advisory_lock(4711)")
            yield

    def wait_at_pause(self, *futures: Future[Any]) -> None:
        """Wait until each of these is over or at the pause."""
        wait_until(
            lambda: self.ask(AT_PAUSE) >= sum(not future.done() for future in futures), what="somebody at the pause"
        )

    def wait_for_locks(self, count: int, *futures: Future[Any]) -> None:
        """Wait until one of these is over, or so many statements in all wait for a lock."""
        wait_until(
            lambda: any(future.done() for future in futures) or self.ask(WAITING) >= count, what="somebody at a lock"
        )

    def settle(self) -> History:
        """Have healthy workers run what is left, and return the history."""
        for _ in range(10):
            self.reap()
            healthy = Actor.registered()
            if leases := healthy.claim():
                healthy.run(leases)
        with connect("stage") as connection:
            return read_history(connection, self.wanted, self.accepted, self.marks)


def install(stage: Stage) -> None:
    with connect("stage") as connection:
        connection.execute(b"DROP SCHEMA IF EXISTS chaos CASCADE")
        connection.execute(WITNESS.read_bytes())
        connection.execute(PAUSE.encode())


def uninstall(stage: Stage) -> None:
    stage.threads.shutdown()
    with connect("stage") as connection:
        connection.execute(b"DROP SCHEMA chaos CASCADE")
