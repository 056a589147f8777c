"""Steps on many targets, branches side by side, retries: what begins, what ends, and what is written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from executions.models import Event, StepTarget
from executions.services import cancel, resolve
from queueing.models import DeadLetter
from safety.models import User
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    make_hosts,
    shell,
    step_statuses,
    target_of,
)
from tests.executions.engine.test_lost_workers import make_asset
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]
MANY = 40


@pytest.fixture
def hosts(transactional_db: None, requester: User) -> list[str]:
    return make_hosts("h", MANY)


def counted(execution_id: int) -> Counter[str]:
    return Counter(StepTarget.objects.filter(execution_id=execution_id).values_list("status", flat=True))


def test_a_step_runs_on_many_targets_within_its_limits(
    workers: Workers, begin: Begin, hosts: list[str], tmp_path: Path
) -> None:
    assert settings.APPROVAL_TARGETS >= MANY
    running = tmp_path / "running"
    running.mkdir()
    most = tmp_path / "most"
    command = f"touch {running}/$$; ls {running} | wc -l >> {most}; sleep 0.1; rm {running}/$$; echo out"
    whole = begin(shell("all", command, targets=hosts, fan_out={"max_concurrent": 6}))
    stopped = begin(shell("all", "exit 7", targets=hosts, fan_out={"max_concurrent": 3, "max_failures": 2}))
    fail_one = f"mkdir {tmp_path}/first 2>/dev/null && exit 1; true"
    share = begin(shell("all", fail_one, targets=hosts, fan_out={"max_failures": "5%"}), shell("after", "true"))
    workers.start(WORKER_PROCESSES="1")

    assert ended(whole).status == "succeeded"
    assert counted(whole) == {"succeeded": MANY}
    assert 2 <= max(map(int, most.read_text().split())) <= 6, "several at a time, never more than it says"
    begun = Event.objects.filter(execution_id=whole, kind="target.running").count()
    assert begun == Event.objects.filter(execution_id=whole, kind="target.succeeded").count() == MANY
    execution = ended(stopped)
    assert execution.status == "failed"
    statuses = counted(stopped)
    assert 3 <= statuses["failed"] <= 5, "the third failure is one too many; two others may have been running"
    assert statuses["skipped"] == MANY - statuses["failed"]
    execution = ended(share)
    assert execution.status == "partial"
    assert execution.status_reason == "1 target failed, which the plan allows."
    assert step_statuses(share) == {"all": "succeeded", "after": "succeeded"}
    assert_nothing_left_behind()


def test_a_cancel_or_a_time_limit_ends_a_fan_out_in_the_middle(
    workers: Workers, begin: Begin, hosts: list[str], requester: User, tmp_path: Path
) -> None:
    workers.start(WORKER_PROCESSES="1")
    log = tmp_path / "log"
    command = f"echo {{{{ name }}}} >> {log}; case {{{{ name }}}} in {hosts[0]}|{hosts[1]}) ;; *) sleep 30;; esac"
    wave = shell("all", command, targets=hosts[:20])
    execution_id = begin({**wave, "fan_out": {"max_concurrent": 4}}, shell("after", "true"))
    wait_until(lambda: log.exists() and len(log.read_text().split()) == 6, what="two that end and four that wait")
    cancel(execution_id, by=requester, reason="enough")
    assert ended(execution_id, seconds=5).status == "cancelled"
    assert step_statuses(execution_id) == {"all": "cancelled", "after": "skipped"}
    assert counted(execution_id) == {"succeeded": 2, "cancelled": 4, "skipped": 15}
    assert_nothing_left_behind()


def test_a_failed_branch_lets_the_others_end_and_nothing_new_begins(
    workers: Workers, begin: Begin, tmp_path: Path
) -> None:
    a, b, c = make_asset("a"), make_asset("b"), make_asset("c")
    plan = [
        shell("bad", "sleep 0.3; exit 1", targets=[a]),
        shell("long", f"sleep 1; touch {tmp_path}/long", targets=[b]),
        shell("after-long", f"touch {tmp_path}/never", targets=[c], depends_on=["long"]),
    ]
    stopping = begin(*plan)
    going_on = begin(
        shell("bad", "sleep 0.3; exit 1", targets=[a], on_failure="continue"),
        shell("long", "sleep 0.5", targets=[b]),
        shell("after-both", "true", targets=[c], depends_on=["bad", "long"]),
    )
    workers.start(WORKER_PROCESSES="1")
    assert ended(stopping).status == "failed"
    assert step_statuses(stopping) == {"bad": "failed", "long": "succeeded", "after-long": "skipped"}
    assert (tmp_path / "long").exists()
    assert not (tmp_path / "never").exists()
    assert ended(going_on).status == "succeeded"
    assert step_statuses(going_on) == {"bad": "failed", "long": "succeeded", "after-both": "succeeded"}
    assert_nothing_left_behind()


def test_a_pause_between_attempts_ends_at_once_on_a_stop(
    workers: Workers, begin: Begin, requester: User, tmp_path: Path
) -> None:
    a, b = make_asset("a"), make_asset("b")
    log = tmp_path / "log"
    retry = {"max_attempts": 3, "delay_seconds": 60}
    workers.start(WORKER_PROCESSES="1")
    cancelled = begin(shell("flaky", "exit 1", retry=retry, targets=[a]), shell("after", "true", targets=[a]))
    handed_back = begin(shell("flaky", f"echo x >> {log}; exit 1", retry=retry, targets=[b]))
    for execution_id in (cancelled, handed_back):
        pauses = Event.objects.filter(execution_id=execution_id, kind="target.pending")
        wait_until(pauses.exists, what="the first pause")
    asked = time.monotonic()
    cancel(cancelled, by=requester, reason="enough")
    assert ended(cancelled, seconds=3).status == "cancelled"
    assert time.monotonic() - asked < 1.5
    assert step_statuses(cancelled) == {"flaky": "cancelled", "after": "skipped"}
    assert workers.stop(seconds=10) == 0
    assert target_of(handed_back, "flaky").status == "pending"
    assert step_statuses(handed_back) == {"flaky": "pending"}, "an attempt is left, so it has not failed"
    workers.start(WORKER_PROCESSES="1")
    wait_until(lambda: log.read_text() == "x\nx\n", what="the second attempt")
    cancel(handed_back, by=requester, reason="enough")
    assert ended(handed_back).status == "cancelled"
    assert_nothing_left_behind()


def test_at_shutdown_every_running_step_is_told_apart(
    workers: Workers, begin: Begin, requester: User, tmp_path: Path
) -> None:
    """One step ends within the grace, one is stopped and may run again, one is stopped and nobody knows."""
    a, b, c = make_asset("a"), make_asset("b"), make_asset("c")
    started = tmp_path / "started"
    started.mkdir()
    workers.start(WORKER_PROCESSES="1", SHUTDOWN_GRACE_SECONDS="2")
    execution_id = begin(
        shell("short", f"touch {started}/1; sleep 2", targets=[a]),
        shell("repeatable", f"touch {started}/2; test -e {tmp_path}/again || sleep 60", targets=[b], idempotent=True),
        shell("change", f"touch {started}/3; sleep 60", targets=[c]),
        shell("join", "true", targets=[a], depends_on=["short", "repeatable", "change"]),
    )
    wait_until(lambda: len(list(started.iterdir())) == 3, what="the start of all three")
    time.sleep(0.5)
    assert workers.stop() == 0
    assert ended(execution_id).status == "needs_attention"
    assert step_statuses(execution_id) == {
        "short": "succeeded",
        "repeatable": "pending",
        "change": "unknown",
        "join": "pending",
    }
    assert DeadLetter.objects.get(execution_id=execution_id, state="open").reason == "outcome_unknown"
    (tmp_path / "again").touch()
    resolve(execution_id, by=requester, step="change", outcome="succeeded", reason="looked")
    workers.start(WORKER_PROCESSES="1")
    wait_until(lambda: step_statuses(execution_id)["join"] == "succeeded", what="the rest")
    assert ended(execution_id).status == "succeeded"
    assert_nothing_left_behind()
