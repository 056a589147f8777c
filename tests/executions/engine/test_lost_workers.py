"""Workers that die, freeze, lose the database or are told to stop, with real processes and real signals."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from django.db import connection

from executions.models import Event, Execution, Step
from executions.services import resolve
from queueing.models import DeadLetter, QueueEntry
from safety.models import User
from tests.executions.engine.conftest import (
    FINAL,
    Workers,
    assert_nothing_left_behind,
    ended,
    kinds,
    printed,
    shell,
    status_of,
    step_statuses,
    target_of,
)
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]
EXECUTIONS = 40
STEPS = 5


def test_killed_workers_run_no_finished_step_again(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    """Promise 2, with workers killed again and again: each step appends to a file of its own when it begins and ends.

    Each execution needs the lock of one of eight assets, so several run at the same time and several wait.
    """
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    assets = [make_asset(f"host-{number}") for number in range(8)]
    ids = []
    for number in range(EXECUTIONS):
        steps = []
        for step in range(STEPS):
            log = tmp_path / f"{number}-{step}"
            pause = dice.choice(["", "sleep 0.05; ", "sleep 0.2; "])
            steps.append(
                shell(
                    f"s{step}",
                    f"echo begin >> {log}; {pause}echo end >> {log}",
                    targets=[assets[number % len(assets)]],
                    idempotent=step == 2,
                )
            )
        ids.append(begin(*steps))
    workers.start(LEASE_SECONDS="5")
    kills = 0
    deadline = time.monotonic() + 100
    while Execution.objects.filter(pk__in=ids).exclude(status__in=FINAL).exists():
        assert time.monotonic() < deadline, f"seed {seed}: not all ended"
        time.sleep(dice.uniform(0.4, 1.2))
        if kills < 6 and workers.kill_one():
            kills += 1
    assert kills >= 3, "the workers were not killed often enough to show anything"

    for number, execution_id in enumerate(ids):
        for done in Step.objects.filter(execution_id=execution_id).order_by("position"):
            log = tmp_path / f"{number}-{done.position - 1}"
            seen = Counter(log.read_text().split()) if log.exists() else Counter()
            where = f"seed {seed}: execution {execution_id}, step {done.key}, {done.status}: {seen}"
            if done.status == "succeeded":
                assert seen["end"] >= 1, where
                if done.key != "s2":
                    assert seen == {"begin": 1, "end": 1}, where
            elif done.status == "unknown":
                assert done.key != "s2", where
                assert seen["begin"] <= 1, where
            else:
                assert done.status == "pending", where
                assert not seen, where
        assert status_of(execution_id) in ("succeeded", "needs_attention")
    unknown = Step.objects.filter(status="unknown").values_list("execution_id", flat=True)
    assert set(unknown) <= set(DeadLetter.objects.filter(state="open").values_list("execution_id", flat=True))
    assert_nothing_left_behind()


def make_asset(name: str) -> str:
    from executions.models import Asset
    from safety.models import Tenant

    Asset.objects.create(
        tenant=Tenant.objects.get(name="default"), name=name, connection="local", environment="development"
    )
    return name


def test_an_interrupted_step_waits_for_a_person_who_decides(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    started, again = tmp_path / "started", tmp_path / "again"
    workers.start(WORKER_PROCESSES="1")
    execution_id = begin(
        shell("change", f"echo x >> {started}; test -e {again} && exit 0; sleep 30"), shell("after", "echo after")
    )
    wait_until(started.exists, what="the command's start")
    workers.kill_one()
    execution = ended(execution_id)
    assert execution.status == "needs_attention"
    assert step_statuses(execution_id) == {"change": "unknown", "after": "pending"}
    assert DeadLetter.objects.get(execution_id=execution_id).reason == "outcome_unknown"
    assert_nothing_left_behind()

    again.touch()
    by = User.objects.get(username="requester")
    resolve(execution_id, by=by, step="change", outcome="run_again", reason="looked: nothing was changed")
    assert ended_again(execution_id).status == "succeeded"
    assert started.read_text() == "x\nx\n"
    assert printed(execution_id, "after") == "after\n"
    assert DeadLetter.objects.get(execution_id=execution_id).state == "resolved"
    resolved = Event.objects.get(execution_id=execution_id, kind="step.pending", actor="user:requester")
    assert resolved.reason == "looked: nothing was changed"
    assert_nothing_left_behind()


def ended_again(execution_id: int) -> Execution:
    wait_until(lambda: status_of(execution_id) in ("succeeded", "failed"), what="the second end")
    return Execution.objects.get(pk=execution_id)


def test_a_frozen_worker_loses_its_command_and_writes_nothing(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    """SIGSTOP beyond the lease: its warden kills the command before the lease ends; after SIGCONT it ends itself."""
    started, survived = tmp_path / "started", tmp_path / "survived"
    workers.start(WORKER_PROCESSES="1")
    execution_id = begin(shell("long", f"echo $$ > {started}; sleep 20; touch {survived}"))
    wait_until(lambda: started.exists() and started.read_text().strip(), what="the command's start")
    command = int(started.read_text())
    (frozen,) = workers.pids()
    entry = QueueEntry.objects.get(pk=execution_id)
    os.kill(frozen, signal.SIGSTOP)
    wait_until(lambda: not is_running(command), seconds=5, what="the end of the frozen worker's command")
    lease_is_over = "SELECT lease_expires_at <= clock_timestamp() FROM queueing_queueentry WHERE execution_id = %s"
    with connection.cursor() as cursor:
        cursor.execute(lease_is_over, [execution_id])
        assert cursor.fetchone() == (False,), "the command ended before the lease did"
    wait_until(lambda: lease_ran_out(execution_id), seconds=10, what="the end of the lease")
    before = Event.objects.filter(execution_id=execution_id).count()
    os.kill(frozen, signal.SIGCONT)
    execution = ended(execution_id)
    assert execution.status == "needs_attention"
    assert entry.token is not None
    wait_until(lambda: not is_running(frozen), seconds=10, what="the end of the worker that lost its lease")
    written = Event.objects.filter(execution_id=execution_id).order_by("seq")[before:]
    assert not [event for event in written if event.actor.endswith(f"/{frozen}")]
    assert not survived.exists()
    assert_nothing_left_behind()


def keeper_of(worker: int) -> int:
    """Return the pid of the process that guards a worker's commands."""
    found = [child.pid for child in psutil.Process(worker).children() if any("keeper" in w for w in child.cmdline())]
    assert len(found) == 1
    return int(found[0])


def test_a_frozen_warden_ends_its_worker_and_no_command_lives_on(
    workers: Workers, begin: Begin, tmp_path: Path
) -> None:
    """What guards nothing must not be relied on: the worker ends, and what it ran is decided as after any loss."""
    started, again = tmp_path / "started", tmp_path / "again"
    workers.start(WORKER_PROCESSES="1")
    change = begin(shell("change", f"echo $$ > {started}; sleep 60"))
    repeat = begin(shell("repeat", f"echo $$ >> {again}; sleep 2", targets=[make_asset("elsewhere")], idempotent=True))
    wait_until(lambda: started.exists() and started.read_text().strip(), what="the command's start")
    wait_until(lambda: again.exists() and again.read_text().strip(), what="the other command's start")
    (worker,) = workers.pids()
    keeper = keeper_of(worker)
    os.kill(keeper, signal.SIGSTOP)
    wait_until(lambda: not is_running(worker), seconds=20, what="the end of the worker without a warden")
    assert not is_running(int(started.read_text()))
    assert not is_running(keeper)
    assert ended(change).status == "needs_attention"
    assert step_statuses(change) == {"change": "unknown"}
    assert ended(repeat).status == "succeeded"
    assert_nothing_left_behind()


def lease_ran_out(execution_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM queueing_queueentry WHERE execution_id = %s AND lease_expires_at > clock_timestamp()",
            [execution_id],
        )
        return bool(cursor.fetchone() == (0,))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_told_to_stop_hands_back_between_two_steps(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    log = tmp_path / "log"
    workers.start(WORKER_PROCESSES="1")
    steps = [shell(f"s{n}", f"echo {n} >> {log}; sleep 0.7") for n in range(4)]
    execution_id = begin(*steps)
    wait_until(log.exists, what="the first step")
    assert workers.stop() == 0
    assert status_of(execution_id) == "queued"
    assert kinds(execution_id)[-1] == "execution.returned"
    assert QueueEntry.objects.get(pk=execution_id).attempts_left == Execution.objects.get(pk=execution_id).max_attempts
    done = log.read_text().split()
    assert 1 <= len(done) < 4
    workers.start(WORKER_PROCESSES="1")
    assert ended(execution_id).status == "succeeded"
    assert log.read_text().split() == ["0", "1", "2", "3"]
    assert_nothing_left_behind()


def test_time_back_in_the_queue_does_not_count_against_the_limit(workers: Workers, begin: Begin) -> None:
    """Handed back by one worker, then a minute in the queue: longer than the ten seconds that the plan may take."""
    workers.start(WORKER_PROCESSES="1")
    execution_id = begin(*({"id": f"s{n}", "tool": "wait", "inputs": {"seconds": 1}} for n in range(3)))
    wait_until(lambda: "step.running" in kinds(execution_id), what="the first step")
    assert workers.stop() == 0
    assert status_of(execution_id) == "queued"
    with connection.cursor() as cursor:
        cursor.execute("UPDATE executions_execution SET deadline_at = deadline_at - interval '1 minute'")
        cursor.execute("UPDATE queueing_queueentry SET returned_at = returned_at - interval '1 minute'")
    workers.start(WORKER_PROCESSES="1")
    execution = ended(execution_id)
    assert (execution.status, execution.execution_seconds) == ("succeeded", 10)
    assert_nothing_left_behind()


def test_a_poison_execution_ends_in_the_dlq_and_harms_no_other(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    """Its step kills the worker each time. It is idempotent, so it is tried again, until its attempts are used up."""
    workers.start(WORKER_PROCESSES="1")
    kill_worker = "kill -9 $(ps -o ppid= -p $PPID); sleep 5"
    poison = begin(shell("poison", kill_worker, idempotent=True))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE queueing_queueentry SET attempts_left = least(attempts_left, 1)")
    make_asset("elsewhere")
    others = [begin(shell("fine", "echo fine", targets=["elsewhere"], idempotent=True)) for _ in range(3)]
    for other in others:
        assert ended(other, seconds=60).status == "succeeded"
    execution = ended(poison, seconds=60)
    assert execution.status == "needs_attention"
    letter = DeadLetter.objects.get(execution_id=poison)
    assert letter.reason == "attempts_exhausted"
    assert target_of(poison, "poison").status == "pending"
    assert_nothing_left_behind()


def test_broken_connections_lose_and_repeat_nothing(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    workers.start(LEASE_SECONDS="5")
    log = tmp_path / "log"
    steps = [shell(f"s{n}", f"echo {n} >> {log}; echo {n}; sleep 0.1") for n in range(15)]
    execution_id = begin(*steps)
    dice = random.Random(7)
    for _ in range(12):
        time.sleep(dice.uniform(0.1, 0.3))
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'opsconductor %'"
                " AND datname = current_database() AND random() < 0.6"
            )
    execution = ended(execution_id)
    assert execution.status == "succeeded"
    assert log.read_text().split() == [str(n) for n in range(15)]
    assert "".join(printed(execution_id, f"s{n}") for n in range(15)) == "".join(f"{n}\n" for n in range(15))
    assert_nothing_left_behind()
