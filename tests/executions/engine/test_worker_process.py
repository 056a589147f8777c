"""The processes of `manage.py worker`: killed, interrupted, told to stop, cut off from the database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from django.db import connection

from executions.models import Execution
from queueing.models import QueueEntry, Worker
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    printed,
    shell,
    status_of,
    step_statuses,
)
from tests.executions.engine.postgres_relay import Relay
from tests.executions.engine.test_lost_workers import is_running, keeper_of, lease_ran_out, make_asset
from tests.installations import MANAGE, wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


def children(pid: int) -> list[int]:
    """Return the processes whose parent this is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def none_runs(pids: list[int]) -> bool:
    return not any(map(is_running, pids))


def sentinel_of(workers: Workers) -> int:
    assert workers.process is not None
    (sentinel,) = children(workers.process.pid)
    return sentinel


def test_nothing_lives_on_when_the_command_itself_is_killed(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    workers.start(WORKER_PROCESSES="1", SHUTDOWN_GRACE_SECONDS="1")
    started = tmp_path / "started"
    execution_id = begin(shell("long", f"echo $$ > {started}; sleep 60", idempotent=True))
    wait_until(lambda: started.exists() and started.read_text().strip(), what="the command's start")
    assert workers.process is not None
    sentinel = sentinel_of(workers)
    family = [sentinel, *children(sentinel)]
    assert len(family) >= 5, "sentinel, pusher, monitor, the worker and a process to spare"
    workers.process.kill()
    workers.process.wait()
    wait_until(lambda: not any(map(is_running, family)), seconds=10, what="the end of every process of the cluster")
    assert not is_running(int(started.read_text()))
    assert status_of(execution_id) == "queued", "it was handed back in order"
    assert not Worker.objects.filter(stopped_at__isnull=True).exists()


def test_a_cluster_whose_sentinel_is_killed_is_started_anew(workers: Workers, begin: Begin) -> None:
    workers.start(WORKER_PROCESSES="1")
    family = children(sentinel_of(workers))
    os.kill(sentinel_of(workers), signal.SIGKILL)
    assert ended(begin(shell("one", "echo on"))).status == "succeeded"
    wait_until(lambda: not any(map(is_running, family)), seconds=10, what="the end of the old cluster's processes")
    assert workers.stop() == 0


def test_processes_of_django_q2_may_be_killed_too(workers: Workers, begin: Begin) -> None:
    """Also one that waits for its next task and so holds the lock of their queue: it takes the cluster with it."""
    workers.start(WORKER_PROCESSES="1")
    (worker,) = workers.pids()
    for pid in children(sentinel_of(workers)):
        if pid != worker:
            os.kill(pid, signal.SIGKILL)
    assert ended(begin(shell("one", "echo on"))).status == "succeeded"
    os.kill(worker, signal.SIGKILL)
    assert ended(begin(shell("two", "echo again")), seconds=60).status == "succeeded"
    assert workers.stop(seconds=40) == 0


def test_ctrl_c_and_a_signal_to_the_whole_group_stop_in_order(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    workers.start(WORKER_PROCESSES="1")
    log = tmp_path / "log"
    execution_id = begin(*[shell(f"s{n}", f"echo {n} >> {log}; sleep 0.6") for n in range(4)])
    wait_until(log.exists, what="the first step")
    assert workers.process is not None
    os.killpg(workers.process.pid, signal.SIGINT)
    os.killpg(workers.process.pid, signal.SIGINT)
    assert workers.process.wait(timeout=15) == 0
    assert status_of(execution_id) == "queued"
    assert "unknown" not in step_statuses(execution_id).values()


def test_a_signal_during_the_start_ends_it_soon(process_environment: dict[str, str]) -> None:
    for pause in (0.0, 0.6, 1.2, 1.8):
        process = subprocess.Popen(
            [sys.executable, MANAGE, "worker"],
            env={**process_environment, "WORKER_PROCESSES": "1"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(pause)
        family = [pid for child in children(process.pid) for pid in (child, *children(child))]
        process.terminate()
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
        wait_until(partial(none_runs, family), seconds=10, what=f"the end after {pause} s")
    assert not Worker.objects.filter(stopped_at__isnull=True).exists()


def test_after_its_shift_a_new_process_takes_over_and_nothing_is_lost(
    workers: Workers, begin: Begin, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    ids = [
        begin(
            *[
                shell(f"s{n}", f"echo {number}-{n} >> {log}; sleep 0.3", targets=[make_asset(f"h{number}-{n}")])
                for n in range(6)
            ]
        )
        for number in range(3)
    ]
    workers.start(WORKER_PROCESSES="1", WORKER_SHIFT_SECONDS="1")
    for execution_id in ids:
        assert ended(execution_id, seconds=60).status == "succeeded"
    assert sorted(log.read_text().split()) == sorted(f"{number}-{n}" for number in range(3) for n in range(6))
    pids = list(Worker.objects.values_list("pid", flat=True))
    assert len(pids) >= 2
    assert len(set(pids)) == len(pids), "each shift is a process of its own"
    assert set(Worker.objects.exclude(stopped_at=None).values_list("state", flat=True)) == {"stopped"}
    assert_nothing_left_behind()


def test_a_full_worker_waits_without_turning_and_keeps_up_the_queue(workers: Workers, begin: Begin) -> None:
    """Notices of new work must not keep a worker busy that has no room; leases that ran out are still taken back."""
    for name in ("a", "b"):
        make_asset(name)
    workers.start(WORKER_PROCESSES="1", WORKER_CONCURRENCY="1")
    full = begin(shell("long", "sleep 3", targets=["a"]))
    wait_until(lambda: status_of(full) == "running", what="the long one")
    waiting = begin(shell("next", "true", targets=["a"]))
    orphan = begin(shell("orphan", "true", targets=["b"]))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE queueing_queueentry SET state = 'leased', token = nextval('queueing_token_seq'), worker_id = 0,"
            " attempt = 1, lease_expires_at = now() WHERE execution_id = %s",
            [orphan],
        )
    (pid,) = workers.pids()
    before = cpu_seconds(pid)
    time.sleep(1.5)
    assert cpu_seconds(pid) - before < 0.6
    assert status_of(full) == "running"
    assert QueueEntry.objects.get(pk=orphan).state != "leased"
    for execution_id in (full, waiting, orphan):
        assert ended(execution_id).status == "succeeded"


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A way to the test's database that can be closed."""
    made = Relay(connection.settings_dict["HOST"], tmp_path / "relay")
    yield made
    made.close()


def test_workers_end_themselves_when_the_database_is_away_and_work_again_after(
    workers: Workers, begin: Begin, relay: Relay, tmp_path: Path
) -> None:
    """Away for longer than a lease. Its connections first hang, so that nobody is told, then are refused."""
    host = connection.settings_dict["HOST"]
    url = workers.environment["DATABASE_URL"]
    workers.environment["DATABASE_URL"] = url.split("?")[0] + f"?host={relay.directory}"
    assert host in url.replace("%2F", "/")
    workers.start(WORKER_PROCESSES="2")
    before = set(workers.pids())
    started, survived = tmp_path / "started", tmp_path / "survived"
    execution_id = begin(shell("long", f"echo $$ > {started}; sleep 8; touch {survived}"))
    wait_until(lambda: started.exists() and started.read_text().strip(), what="the command's start")
    relay.freeze()
    away = time.monotonic()
    wait_until(lambda: not any(map(is_running, before)), seconds=8, what="the end of the workers")
    assert not is_running(int(started.read_text())), "the command ended with its worker's right"
    relay.refuse()
    time.sleep(max(0.0, 9 - (time.monotonic() - away)))
    relay.open()
    assert ended(begin(shell("next", "echo on", targets=[make_asset("elsewhere")])), seconds=30).status == "succeeded"
    assert ended(execution_id).status == "needs_attention"
    assert step_statuses(execution_id) == {"long": "unknown"}
    assert not survived.exists()
    assert not before & set(workers.pids())
    assert_nothing_left_behind()


def test_commands_of_a_worker_without_database_end_in_time_though_its_warden_is_frozen(
    workers: Workers, begin: Begin, relay: Relay, tmp_path: Path
) -> None:
    url = workers.environment["DATABASE_URL"]
    workers.environment["DATABASE_URL"] = url.split("?")[0] + f"?host={relay.directory}"
    workers.start(WORKER_PROCESSES="1", LEASE_SECONDS="5")
    started = tmp_path / "started"
    execution_id = begin(shell("long", f"echo $$ > {started}; sleep 60"))
    wait_until(lambda: started.exists() and started.read_text().strip(), what="the command's start")
    (worker,) = workers.pids()
    keeper = keeper_of(worker)
    os.kill(keeper, signal.SIGSTOP)
    relay.freeze()
    wait_until(lambda: not is_running(int(started.read_text())), seconds=10, what="the end of the command")
    assert not lease_ran_out(execution_id), "the command ended before the lease did"
    wait_until(lambda: not is_running(worker), seconds=10, what="the end of the worker")
    relay.open()
    assert ended(execution_id).status == "needs_attention"
    assert_nothing_left_behind()
    if is_running(keeper):
        os.kill(keeper, signal.SIGCONT)
    wait_until(lambda: not is_running(keeper), what="the end of the warden, whose worker is gone")


def test_a_short_outage_harms_nothing(workers: Workers, begin: Begin, relay: Relay, tmp_path: Path) -> None:
    url = workers.environment["DATABASE_URL"]
    workers.environment["DATABASE_URL"] = url.split("?")[0] + f"?host={relay.directory}"
    workers.start(WORKER_PROCESSES="1", LEASE_SECONDS="10")
    before = workers.pids()
    log = tmp_path / "log"
    execution_id = begin(*[shell(f"s{n}", f"echo {n} >> {log}; echo {n}; sleep 0.3") for n in range(6)])
    wait_until(log.exists, what="the first step")
    relay.refuse()
    time.sleep(2)
    relay.open()
    assert ended(execution_id).status == "succeeded"
    assert log.read_text().split() == [str(n) for n in range(6)]
    assert "".join(printed(execution_id, f"s{n}") for n in range(6)) == "".join(f"{n}\n" for n in range(6))
    assert workers.pids() == before
    assert ended(begin(shell("next", "echo on"))).status == "succeeded"
    assert Execution.objects.get(pk=execution_id).error_code == ""
    assert_nothing_left_behind()
