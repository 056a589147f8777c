"""Scaling and draining real workers while they work: nothing lost, nothing twice, nothing left waiting."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from executions.models import Asset, Event, Execution
from executions.services import Submission, submit_many
from queueing import control, pool
from queueing.models import Attempt, Cluster, QueueEntry, ScalingDecision, Worker
from safety.models import Tenant, User
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, shell
from tests.installations import MANAGE, wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

LEASE_SECONDS = 5
STEPS = 4  # of the slow executions, a second each


def submit_all(by: User, plans: list[dict[str, Any]]) -> list[int]:
    ids = []
    for start in range(0, len(plans), 500):
        answers = submit_many([Submission(plan) for plan in plans[start : start + 500]], by=by)
        ids += [answer.execution_id for answer in answers]  # type: ignore[union-attr]
    return ids


def quick(count: int) -> list[dict[str, Any]]:
    return [{"title": f"quick {number}", "steps": [{"id": "a", "tool": "noop"}]} for number in range(count)]


def slow(count: int, folder: Path, first: int = 0) -> list[dict[str, Any]]:
    """Plans of some steps that each take a second and leave a line: each on a machine of its own, none idempotent."""
    tenant = Tenant.objects.get(name="default")
    plans = []
    for number in range(first, first + count):
        Asset.objects.create(tenant=tenant, name=f"host-{number}", connection="local", environment="development")
        steps = [
            shell(f"s{step}", f"echo {step} >> {folder}/{number}; sleep 1", targets=[f"host-{number}"])
            for step in range(STEPS)
        ]
        plans.append({"title": f"slow {number}", "steps": steps})
    return plans


def alive(**which: Any) -> int:
    return Worker.objects.filter(stopped_at=None, state="active", isolation=False, **which).count()


def lines(folder: Path) -> dict[int, list[str]]:
    return {int(file.name): file.read_text().split() for file in folder.iterdir()}


def until_all_ended(ids: list[int], seconds: float) -> Counter[str]:
    def statuses() -> Counter[str]:
        return Counter(Execution.objects.filter(pk__in=ids).values_list("status", flat=True))

    wait_until(
        lambda: not {"queued", "running"} & set(statuses()), seconds=seconds, what=f"the end of all, not {statuses()}"
    )
    return statuses()


def longest_wait_after_hand_back() -> float:
    """How long what was handed back lay there at most until a worker had it again, in seconds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT max(extract(epoch FROM (SELECT min(e.at) FROM executions_event e"
            " WHERE e.execution_id = a.execution_id AND e.kind IN ('execution.claimed', 'execution.running')"
            " AND e.at > a.ended_at) - a.ended_at))::float8 FROM queueing_attempt a WHERE a.\"end\" = 'handed_back'"
        )
        (seconds,) = cursor.fetchone()
    return float(seconds or 0)


def test_from_2_to_6_and_back_under_load_nothing_is_lost_and_nothing_runs_twice(
    workers: Workers, requester: User, tmp_path: Path
) -> None:
    workers.start(
        WORKER_PROCESSES="2", WORKER_MAX_PROCESSES="6", WORKER_CONCURRENCY="20", LEASE_SECONDS=str(LEASE_SECONDS)
    )
    ids = submit_all(requester, slow(40, tmp_path) + quick(800))
    assert pool.scale(6, by="user:op").before == 2
    wait_until(lambda: alive() == 6, what="six workers")
    late = submit_all(requester, slow(40, tmp_path, 40))
    ids += late + submit_all(requester, quick(800))
    newest = Worker.objects.filter(stopped_at=None, isolation=False).order_by("-pk").values_list("pk", flat=True)[:4]
    held = QueueEntry.objects.filter(state="leased", pk__in=late, worker_id__in=list(newest))
    wait_until(lambda: held.count() >= 5, what="slow ones in the hands of those that are to go")
    left: set[int] = set()
    pool.scale(2, by="user:op", reason="The night is over.")
    ids += submit_all(requester, quick(800))

    def two_are_left() -> bool:
        left.update(QueueEntry.objects.filter(attempt__gte=2, state="leased").values_list("attempts_left", flat=True))
        return alive() == 2 and Worker.objects.filter(stopped_at=None).count() == 2

    wait_until(two_are_left, what="two workers")
    assert until_all_ended(ids, 60) == {"succeeded": 2480}
    assert lines(tmp_path) == {number: [str(step) for step in range(STEPS)] for number in range(80)}
    ends = set(Attempt.objects.values_list("end", "error"))
    assert {end for end, _ in ends} == {"handed_back"}, (
        f"steps were let end, the rest handed back, no lease ran out: {ends}"
    )
    assert left <= {2}, "of three attempts the first claim takes one; being handed back takes none"
    # A slot comes free when an execution ends: none takes longer than its steps, and they may all have just begun.
    assert longest_wait_after_hand_back() < LEASE_SECONDS + STEPS
    assert set(Worker.objects.exclude(stopped_at=None).values_list("state", flat=True)) == {"stopped"}
    assert [(d.before, d.after) for d in ScalingDecision.objects.order_by("pk")] == [(2, 6), (6, 2)]
    assert_nothing_left_behind()


def test_workers_come_and_go_by_themselves_and_say_why(workers: Workers, requester: User) -> None:
    workers.start(WORKER_PROCESSES="1", WORKER_MAX_PROCESSES="2", WORKER_CONCURRENCY="5", LEASE_SECONDS="3")
    pool.autoscale("dry_run", minimum=1, maximum=2, by="user:op")
    waits = {"steps": [{"id": "a", "tool": "wait", "inputs": {"seconds": 2}}]}
    ids = submit_all(requester, [{"title": f"wait {number}", **waits} for number in range(40)])
    decided = ScalingDecision.objects.filter(by="autoscale")
    wait_until(lambda: decided.filter(applied=False).exists(), what="what it would do")
    would = decided.get()
    assert (would.before, would.after) == (1, 2)
    assert "entries wait, more than 2 for each of 5 slots." in would.reason
    assert (Cluster.objects.get().processes, alive()) == (1, 1), "a dry run changes nothing"
    pool.autoscale("on", minimum=1, maximum=2, by="user:op")
    wait_until(lambda: alive() == 2, what="two workers")
    assert until_all_ended(ids, 60) == {"succeeded": 40}
    wait_until(lambda: alive() == 1, what="one worker again")
    steps = [(one.before, one.after) for one in decided.filter(applied=True).order_by("pk")]
    assert steps == [(1, 2), (2, 1)], "up and down once, and no to and fro"
    assert [one.reason for one in decided.order_by("-pk")[:1]] == ["Nothing waits, and 0 of 10 slots are in use."]
    assert_nothing_left_behind()


@pytest.fixture
def second_host(process_environment: dict[str, str]) -> Iterator[Workers]:
    """Workers whose machine has another name: a UTS namespace of their own."""
    if subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("another host name needs unshare --uts, which is not allowed here")
    started = Workers(process_environment)
    yield started
    started.kill_all()


def start_as(host: str, workers: Workers, **settings: str) -> None:
    workers.process = subprocess.Popen(
        ["unshare", "--uts", "sh", "-c", f'hostname {host}; exec "$0" "$@"', sys.executable, MANAGE, "worker"],
        env={**workers.environment, **settings},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def manage(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, MANAGE, *words], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def begun_since(moment: datetime, host: str) -> int:
    """How many executions a worker of this host has begun since then."""
    begun = Event.objects.filter(kind__in=("execution.running", "execution.claimed"), at__gt=moment)
    return begun.filter(actor__startswith=f"worker:{host}/").count()


def now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (moment,) = cursor.fetchone()
    assert isinstance(moment, datetime)
    return moment


def test_a_host_is_drained_while_another_goes_on_and_takes_its_share_when_it_goes(
    workers: Workers, second_host: Workers, requester: User, tmp_path: Path
) -> None:
    settings = {"WORKER_PROCESSES": "1", "WORKER_MAX_PROCESSES": "4", "WORKER_CONCURRENCY": "10", "LEASE_SECONDS": "4"}
    start_as("ops-2", second_host, **settings)
    workers.start(**settings)
    wait_until(lambda: Cluster.objects.count() == 2 and alive() == 2, what="a worker on each host")
    pool.scale(4, by="user:op")
    wait_until(lambda: alive(host="ops-2") == 2 and alive() == 4, what="two workers on each host")
    ids = submit_all(requester, slow(16, tmp_path) + quick(200))
    wait_until(lambda: pool.running_on(host="ops-2") > 0, what="work on the second host")

    drained = manage(second_host.environment, "drain", "--host", "ops-2", "--wait", "40", "--reason", "kernel")

    assert drained.returncode == 0, drained.stdout + drained.stderr
    assert "2 workers drain." in drained.stdout
    assert "Drained: nothing runs on the workers of ops-2 any more." in drained.stdout
    moment = now()
    ids += submit_all(requester, quick(200))
    assert until_all_ended(ids, 40) == {"succeeded": 416}
    assert begun_since(moment, "ops-2") == 0
    assert alive(host="ops-2", draining=True) == 2, "they stay"
    assert lines(tmp_path) == {number: [str(step) for step in range(STEPS)] for number in range(16)}
    assert not Attempt.objects.exists(), "what ran was let end; nothing was even handed back"
    assert second_host.stop() == 0
    wait_until(lambda: alive() == 4, what="four workers on the host that is left")
    whole = manage(workers.environment, "drain", "--wait", "20")
    assert (whole.returncode, whole.stdout.splitlines()[-1]) == (0, "The queue is drained: nothing runs any more.")
    assert_nothing_left_behind()


def test_a_paused_pool_stands_still_while_others_go_on(workers: Workers, requester: User, tmp_path: Path) -> None:
    workers.start(WORKER_PROCESSES="1")
    heavy = {"labels": {"pool": "heavy"}}
    control.pause_pool("heavy", by="user:op", reason="the backup runs")
    waiting = submit_all(requester, [{**plan, **heavy} for plan in quick(5)])
    others = submit_all(requester, quick(100))
    assert until_all_ended(others, 30) == {"succeeded": 100}
    assert Counter(Execution.objects.filter(pk__in=waiting).values_list("status", flat=True)) == {"queued": 5}
    control.resume_pool("heavy", by="user:op")
    began = time.monotonic()
    assert until_all_ended(waiting, 20) == {"succeeded": 5}
    assert time.monotonic() - began < 10, "its workers are told, and do not have to be started anew"
    assert_nothing_left_behind()
