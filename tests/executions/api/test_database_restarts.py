"""A submit while the database restarts: accepted and kept, or refused with 503 and a time to come back; never half."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from opsconductor import embedded_postgres
from tests.executions.api.conftest import plan
from tests.installations import MANAGE, PROJECT, clean_environment, free_port, wait_until

SUBMITTERS = 4
# fast (sessions are ended, as an administrator does it), at once (as a crash does it, with recovery), fast again
RESTARTS = (signal.SIGINT, signal.SIGQUIT, signal.SIGINT)

MAKE_TOKEN = """
from safety.accounts import issue_token
from safety.models import Tenant, User
user = User.objects.create(username="alice", tenant=Tenant.objects.get(name="default"), is_superuser=True)
print(issue_token(user, "tests"))
"""

HALF = """
SELECT e.id FROM executions_execution e
 WHERE NOT EXISTS (SELECT FROM executions_executionplan p WHERE p.execution_id = e.id)
    OR 3 <> (SELECT count(*) FROM executions_step s WHERE s.execution_id = e.id)
    OR 3 <> (SELECT count(*) FROM executions_steptarget t WHERE t.execution_id = e.id)
    OR e.last_seq <> (SELECT count(*) FROM executions_event v WHERE v.execution_id = e.id) OR e.last_seq = 0
    OR 1 <> (SELECT count(*) FROM queueing_queueentry q WHERE q.execution_id = e.id)
    OR 1 <> (SELECT count(*) FROM queueing_assetlock l WHERE l.execution_id = e.id)
    OR 1 <> (SELECT count(*) FROM safety_idempotencykey k WHERE k.execution_id = e.id)
"""
ORPHANS = """
SELECT (SELECT count(*) FROM queueing_queueentry WHERE execution_id NOT IN (SELECT id FROM executions_execution))
     + (SELECT count(*) FROM safety_idempotencykey WHERE execution_id NOT IN (SELECT id FROM executions_execution))
     + (SELECT count(*) FROM executions_event WHERE execution_id NOT IN (SELECT id FROM executions_execution))
"""


class Web:
    """The web process on a PostgreSQL of this test alone."""

    def __init__(self, folder: Path) -> None:
        self.var_dir = folder
        self.database_url = embedded_postgres.start(folder)
        self.environment = clean_environment(
            DATABASE_URL=self.database_url, SECRET_KEY="k" * 60, VAR_DIR=str(folder), LOG_LEVEL="ERROR"
        )
        self._manage("migrate", "--no-input")
        self.token = self._manage("shell", "-v", "0", "-c", MAKE_TOKEN).split()[-1]
        self.port = free_port()
        daphne = ("-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(self.port), "opsconductor.asgi:application")
        self.process = subprocess.Popen([sys.executable, *daphne], cwd=PROJECT, env=self.environment)
        wait_until(self._answers, what="the web process")

    def _manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, MANAGE, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def postmaster(self) -> int:
        return int((self.var_dir / "postgres" / "postmaster.pid").read_text().split()[0])

    def restart_database(self, how: signal.Signals) -> None:
        """Stop the server; its keeper starts it again. Returns when it answers."""
        old = self.postmaster
        os.kill(old, how)
        wait_until(lambda: self._is_new(old), what="the restarted database")

    def _is_new(self, old: int) -> bool:
        try:
            with psycopg.connect(self.database_url, connect_timeout=2):
                return self.postmaster != old
        except (psycopg.OperationalError, OSError, IndexError):
            return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        embedded_postgres.release(self.var_dir)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    process = Web(tmp_path)
    yield process
    process.stop()


class Submitter(threading.Thread):
    """Submits plan after plan, each until it is accepted, as a client that heeds Retry-After does."""

    def __init__(self, web: Web, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.web, self.number, self.stop = web, number, stop
        self.accepted: dict[str, int] = {}  # key -> execution
        self.refusals = 0
        self.slowest = 0.0
        self.surprises: list[str] = []

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.web.token}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.web.port}", headers=headers, timeout=60) as http:
            while not self.stop.is_set() and not self.surprises:
                self._submit(http, f"{self.number}-{len(self.accepted)}")

    def _submit(self, http: httpx.Client, key: str) -> None:
        body = {"plan": plan(f"echo {key}", "true", "true")}
        while True:
            began = time.monotonic()
            try:
                response = http.post("/api/v1/executions/", json=body, headers={"Idempotency-Key": key})
            except httpx.HTTPError as error:
                self.surprises.append(repr(error))
                return
            self.slowest = max(self.slowest, time.monotonic() - began)
            if response.status_code in (200, 202):
                self.accepted[key] = response.json()["id"]
                return
            told = response.json()
            if (response.status_code, told["code"]) != (503, "database_unavailable"):
                self.surprises.append(f"{response.status_code} {response.text}")
                return
            if (
                response.headers["Content-Type"] != "application/problem+json"
                or int(response.headers["Retry-After"]) < 1
            ):
                self.surprises.append(f"{response.headers}")
                return
            self.refusals += 1
            time.sleep(0.2)


@pytest.mark.timeout(300)
def test_a_submit_while_the_database_restarts_is_kept_or_refused_and_never_half(web: Web) -> None:
    stop = threading.Event()
    submitters = [Submitter(web, number, stop) for number in range(SUBMITTERS)]
    for submitter in submitters:
        submitter.start()
    for how in RESTARTS:
        before = sum(len(submitter.accepted) for submitter in submitters)
        wait_until(
            lambda seen=before: sum(len(submitter.accepted) for submitter in submitters) > seen + 20,  # type: ignore[misc]
            seconds=60,
            what="submits between the restarts",
        )
        web.restart_database(how)
    before = sum(len(submitter.accepted) for submitter in submitters)
    wait_until(
        lambda: sum(len(submitter.accepted) for submitter in submitters) > before + 20,
        seconds=60,
        what="submits after the last restart",
    )
    stop.set()
    for submitter in submitters:
        submitter.join(60)

    assert [surprise for submitter in submitters for surprise in submitter.surprises] == []
    accepted = {key: number for submitter in submitters for key, number in submitter.accepted.items()}
    assert len(set(accepted.values())) == len(accepted)
    assert any(submitter.refusals or submitter.slowest > 0.1 for submitter in submitters), "nobody noticed the restarts"
    with psycopg.connect(web.database_url) as connection:
        kept = {row[0] for row in connection.execute("SELECT id FROM executions_execution")}
        assert kept == set(accepted.values())
        assert connection.execute(HALF).fetchall() == []
        assert connection.execute(ORPHANS).fetchone() == (0,)


def test_without_a_database_readiness_says_so_and_the_process_still_answers(web: Web) -> None:
    base = f"http://127.0.0.1:{web.port}"
    embedded_postgres.release(web.var_dir)
    wait_until(lambda: not embedded_postgres.is_running(web.var_dir), what="the end of the database")

    ready = httpx.get(f"{base}/readyz", timeout=60)

    assert ready.status_code == 503
    told = {check["name"]: check for check in ready.json()["checks"]}
    assert told["database"]["status"] == "fail"
    assert "does not answer" in told["database"]["reason"]
    assert httpx.get(f"{base}/healthz").status_code == 200
    metrics = httpx.get(f"{base}/metrics", timeout=60)
    assert metrics.status_code == 200
    assert 'opsconductor_scrape_failed{group="executions"} 1.0' in metrics.text
    assert "opsconductor_executions{" not in metrics.text
    refused = httpx.get(f"{base}/api/v1/executions/", headers={"Authorization": f"Bearer {web.token}"}, timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert refused.headers["Retry-After"] == "5"
