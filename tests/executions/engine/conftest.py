"""Real workers, as processes, on the test's database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from executions.models import Asset, Event, Execution, OutputChunk, Step, StepTarget
from executions.services import Submission, submit
from queueing.models import Worker
from safety.models import Tenant, User
from tests.installations import MANAGE, wait_until

FINAL = ("succeeded", "failed", "partial", "cancelled", "timed_out", "rejected", "expired", "needs_attention")


class Workers:
    """`manage.py worker` on the test's database; may be killed in any way."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {**environment, "WORKER_PROCESSES": "2", "LEASE_SECONDS": "3", "SHUTDOWN_GRACE_SECONDS": "3"}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, MANAGE, "worker"],
            env={**self.environment, **settings},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        count = int({**self.environment, **settings}.get("WORKER_PROCESSES", "2"))
        wait_until(lambda: len(self.pids()) >= count, what="the workers' registration")

    def pids(self) -> list[int]:
        return list(Worker.objects.filter(stopped_at__isnull=True).values_list("pid", flat=True))

    def kill_one(self) -> int | None:
        """SIGKILL one worker process; return its pid, None when none is there at this moment."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            return pid
        return None

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=seconds)

    def kill_all(self) -> None:
        """End everything that is left, however."""
        if self.process is None:
            return
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)


@pytest.fixture
def workers(process_environment: dict[str, str]) -> Iterator[Workers]:
    """Workers that a test starts, and that are gone when it ends."""
    started = Workers(process_environment)
    yield started
    started.kill_all()


@pytest.fixture
def requester(transactional_db: None) -> User:
    return User.objects.create_superuser(
        "requester", password="not-a-password", tenant=Tenant.objects.get(name="default")
    )


Run = Callable[..., Execution]


@pytest.fixture
def begin(requester: User) -> Callable[..., int]:
    """Submit a plan given as steps, or whole; return the execution's id."""

    def begin(*steps: dict[str, Any], plan: dict[str, Any] | None = None, **submission: Any) -> int:
        document = plan or {"title": f"test {time.time_ns()}", "steps": list(steps)}
        return submit(Submission(document, **submission), by=requester).execution_id

    return begin


def make_hosts(prefix: str, count: int, *, connection: str = "local") -> list[str]:
    """Assets of the development environment; return their names, which sort as they were made."""
    tenant = Tenant.objects.get(name="default")
    names = [f"{prefix}{number:0{len(str(count - 1))}}" for number in range(count)]
    Asset.objects.bulk_create(
        Asset(tenant=tenant, name=name, connection=connection, environment="development") for name in names
    )
    return names


def shell(key: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"id": key, "tool": "shell", "inputs": {"command": command}, "targets": ["localhost"], **fields}


def status_of(execution_id: int) -> str:
    return Execution.objects.values_list("status", flat=True).get(pk=execution_id)


def ended(execution_id: int, seconds: float = 30) -> Execution:
    """Wait for the end of an execution, or for its needing a person; return it."""
    wait_until(lambda: status_of(execution_id) in FINAL, seconds=seconds, what=f"the end of execution {execution_id}")
    return Execution.objects.get(pk=execution_id)


def step_statuses(execution_id: int) -> dict[str, str]:
    return dict(Step.objects.filter(execution_id=execution_id).order_by("position").values_list("key", "status"))


def target_of(execution_id: int, key: str) -> StepTarget:
    return StepTarget.objects.get(execution_id=execution_id, step__key=key)


def printed(execution_id: int, key: str, stream: str = "stdout") -> str:
    chunks = OutputChunk.objects.filter(execution_id=execution_id, step_target__step__key=key, stream=stream)
    return "".join(chunks.order_by("seq").values_list("text", flat=True))


def assert_nothing_left_behind() -> None:
    """No entry, no lock, and every series of events and output without a gap."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM queueing_queueentry")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT count(*) FROM queueing_assetlock")
        assert cursor.fetchone() == (0,)
        cursor.execute(
            "SELECT id FROM executions_execution e JOIN (SELECT execution_id, count(*) AS n, min(seq) AS low,"
            " max(seq) AS high FROM (SELECT execution_id, seq FROM executions_event UNION ALL"
            " SELECT execution_id, seq FROM executions_outputchunk) both_kinds GROUP BY execution_id) s"
            " ON s.execution_id = e.id WHERE s.n <> e.last_seq OR s.low <> 1 OR s.high <> e.last_seq"
        )
        assert cursor.fetchall() == []


def kinds(execution_id: int) -> list[str]:
    return list(Event.objects.filter(execution_id=execution_id).order_by("seq").values_list("kind", flat=True))
