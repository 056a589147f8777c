"""Executions as a worker left them that died at one point or another: what the next one makes of them.

The rows are written as the ledger of the dead worker would have left them; then a worker is started.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from executions.models import Event, Execution, Step, StepTarget
from executions.services import resolve
from queueing.models import DeadLetter
from safety.models import User
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    kinds,
    shell,
    step_statuses,
    target_of,
)
from tests.executions.engine.test_lost_workers import make_asset

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


@pytest.fixture
def hosts(transactional_db: None) -> list[str]:
    return [make_asset(f"host-{number}") for number in range(4)]


def left_by_a_dead_worker(execution_id: int, *, attempts_left: int | None = None, **fields: object) -> None:
    """Write an execution that was claimed, started and lost."""
    Execution.objects.filter(pk=execution_id).update(**{"status": "running", **fields})
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE queueing_queueentry SET attempt = 1, attempts_left = coalesce(%s, attempts_left - 1)"
            " WHERE execution_id = %s",
            [attempts_left, execution_id],
        )
        cursor.execute(
            "UPDATE executions_execution SET started_at = now() - interval '1 minute', deadline_at ="
            " coalesce(deadline_at, now() + interval '1 minute') WHERE id = %s",
            [execution_id],
        )


def set_step(execution_id: int, key: str, status: str, *targets: str) -> None:
    Step.objects.filter(execution_id=execution_id, key=key).update(status=status)
    rows = StepTarget.objects.filter(execution_id=execution_id, step__key=key).order_by("position")
    for row, target_status in zip(rows, targets or [status] * len(rows), strict=True):
        attempt = 0 if target_status == "pending" else 1
        StepTarget.objects.filter(pk=row.pk).update(status=target_status, attempt=attempt)


def target_statuses(execution_id: int, key: str) -> list[str]:
    rows = StepTarget.objects.filter(execution_id=execution_id, step__key=key).order_by("position")
    return list(rows.values_list("status", flat=True))


def test_a_step_on_many_targets_is_resumed_where_it_was(
    workers: Workers, begin: Begin, tmp_path: Path, hosts: list[str]
) -> None:
    def fan(name: str, **fields: object) -> int:
        command = "echo $OPSCONDUCTOR_FENCE >> " + str(tmp_path / name)
        return begin(shell("all", command, targets=hosts, **fields), shell("after", "true", targets=[hosts[0]]))

    def ran(name: str) -> int:
        return len((tmp_path / name).read_text().split()) if (tmp_path / name).exists() else 0

    in_flight = fan("in-flight")
    set_step(in_flight, "all", "running", "succeeded", "running", "pending", "pending")
    repeatable = fan("repeatable", idempotent=True)
    set_step(repeatable, "all", "running", "succeeded", "running", "pending", "pending")
    between = fan("between")
    set_step(between, "all", "running", "succeeded", "succeeded", "pending", "pending")
    all_over = fan("all-over")
    set_step(all_over, "all", "running", "succeeded", "succeeded", "succeeded", "succeeded")
    over_and_bad = fan("over-and-bad")
    set_step(over_and_bad, "all", "running", "succeeded", "failed", "succeeded", "succeeded")
    too_many = fan("too-many")
    set_step(too_many, "all", "running", "failed", "pending", "pending", "pending")
    for execution_id in (in_flight, repeatable, between, all_over, over_and_bad, too_many):
        left_by_a_dead_worker(execution_id)
    workers.start(WORKER_PROCESSES="1")

    assert ended(in_flight).status == "needs_attention"
    assert target_statuses(in_flight, "all") == ["succeeded", "unknown", "pending", "pending"]
    assert step_statuses(in_flight) == {"all": "unknown", "after": "pending"}
    assert ran("in-flight") == 0
    assert ended(repeatable).status == "succeeded"
    assert ran("repeatable") == 3
    assert StepTarget.objects.filter(step__execution_id=repeatable, attempt=2).count() == 1
    assert ended(between).status == "succeeded"
    assert ran("between") == 2
    assert ended(all_over).status == "succeeded"
    assert ran("all-over") == 0
    assert step_statuses(all_over) == {"all": "succeeded", "after": "succeeded"}
    execution = ended(over_and_bad)
    assert execution.status == "failed"
    assert execution.status_reason == "Step 'all' failed: 1 of 4 targets failed; host-1"
    assert step_statuses(over_and_bad) == {"all": "failed", "after": "skipped"}
    assert ended(too_many).status == "failed"
    assert target_statuses(too_many, "all") == ["failed", "skipped", "skipped", "skipped"]
    assert ran("too-many") == 0
    assert_nothing_left_behind()


def test_graphs_and_ends_are_resumed_from_what_is_written(
    workers: Workers, begin: Begin, tmp_path: Path, hosts: list[str]
) -> None:
    log = tmp_path / "log"
    numbers = itertools.count(1)

    def graph() -> int:
        number = next(numbers)  # equal plans would be taken for the same request
        return begin(
            shell("left", f"echo left {number} >> {log}", targets=[hosts[0]]),
            shell("right", f"echo right >> {log}", targets=[hosts[1]]),
            shell("join", f"echo join >> {log}", targets=[hosts[2]], depends_on=["left", "right"]),
        )

    one_branch = graph()
    set_step(one_branch, "left", "succeeded")
    set_step(one_branch, "right", "running")
    failed_branch = graph()
    set_step(failed_branch, "left", "failed")
    all_done = graph()
    for key in ("left", "right", "join"):
        set_step(all_done, key, "succeeded")
    outcome_missing = graph()
    set_step(outcome_missing, "left", "running", "succeeded")
    set_step(outcome_missing, "right", "succeeded")
    too_late = graph()
    for execution_id in (one_branch, failed_branch, outcome_missing, too_late):
        left_by_a_dead_worker(execution_id)
    left_by_a_dead_worker(all_done, attempts_left=0)
    Execution.objects.filter(pk=too_late).update(deadline_at="2020-01-01T00:00:00Z")
    workers.start(WORKER_PROCESSES="1")

    assert ended(one_branch).status == "needs_attention"
    assert step_statuses(one_branch) == {"left": "succeeded", "right": "unknown", "join": "pending"}
    assert ended(failed_branch).status == "failed"
    assert ended(failed_branch).status_reason == "Step 'left' failed."
    assert step_statuses(failed_branch) == {"left": "failed", "right": "skipped", "join": "skipped"}
    assert ended(all_done).status == "succeeded", "nothing is left to try, so no attempt is needed"
    assert ended(outcome_missing).status == "succeeded"
    assert ended(too_late).status == "timed_out"
    assert step_statuses(too_late) == {"left": "skipped", "right": "skipped", "join": "skipped"}
    assert log.read_text() == "join\n", "only the join of the one whose outcome was missing"
    assert_nothing_left_behind()


def test_attempts_are_counted_over_all_workers(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    retry = {"max_attempts": 3, "delay_seconds": 0.1}
    execution_id = begin(shell("flaky", f"echo x >> {tries}; exit 1", retry=retry))
    set_step(execution_id, "flaky", "running", "pending")
    StepTarget.objects.filter(execution_id=execution_id).update(attempt=2)
    left_by_a_dead_worker(execution_id)
    workers.start(WORKER_PROCESSES="1")
    assert ended(execution_id).status == "failed"
    assert tries.read_text() == "x\n"
    assert target_of(execution_id, "flaky").attempt == 3


def test_what_was_being_cancelled_is_cancelled_by_the_next_worker(
    workers: Workers, begin: Begin, tmp_path: Path, requester: User, hosts: list[str]
) -> None:
    survived = tmp_path / "survived"

    def plan(name: str, **fields: object) -> int:
        return begin(shell("one", f"touch {survived}; : {name}", **fields), shell("two", f"touch {survived}"))

    repeatable = plan("repeatable", idempotent=True)
    exhausted = plan("exhausted", idempotent=True)
    partly = begin(shell("all", f"touch {survived}", targets=hosts, idempotent=True))
    unknown = plan("unknown")
    both = begin(
        shell("one", f"touch {survived}", execution_order=1),
        shell("two", f"touch {survived}", idempotent=True, execution_order=1),
    )
    for execution_id in (repeatable, exhausted, unknown, both):
        set_step(execution_id, "one", "running")
    set_step(both, "two", "running")
    set_step(partly, "all", "running", "succeeded", "running", "pending", "pending")
    for execution_id in (repeatable, partly, unknown, both):
        left_by_a_dead_worker(execution_id, status="cancelling")
    left_by_a_dead_worker(exhausted, attempts_left=0, status="cancelling")
    workers.start(WORKER_PROCESSES="1")
    assert ended(repeatable).status == "cancelled"
    assert step_statuses(repeatable) == {"one": "cancelled", "two": "skipped"}, "skipped is only what never ran"
    assert ended(exhausted).status == "cancelled"
    assert ended(partly).status == "cancelled"
    assert step_statuses(partly) == {"all": "cancelled"}, "it ran on some of its targets, so it was not skipped"
    assert ended(unknown).status == "needs_attention"
    assert step_statuses(unknown) == {"one": "unknown", "two": "skipped"}
    assert ended(both).status == "needs_attention"
    assert step_statuses(both) == {"one": "unknown", "two": "cancelled"}

    for execution_id, two in ((unknown, "skipped"), (both, "cancelled")):
        resolve(execution_id, by=requester, step="one", outcome="succeeded", reason="looked")
        assert ended(execution_id).status == "cancelled", "what was cancelled does not begin again because of an answer"
        assert step_statuses(execution_id) == {"one": "succeeded", "two": two}
    assert not survived.exists()
    assert_nothing_left_behind()


def test_a_failure_of_the_engine_ends_in_the_dlq_and_can_be_requeued(workers: Workers, begin: Begin) -> None:
    """Rows that contradict each other make the ledger refuse: the execution must not come back for ever."""
    broken, healthy = begin(shell("one", "true")), begin(shell("one", "echo fine"))
    # A step that is pending cannot have a target that runs: the record of its beginning is refused.
    set_step(broken, "one", "pending", "running")
    left_by_a_dead_worker(broken)
    workers.start(WORKER_PROCESSES="1")
    assert ended(healthy).status == "succeeded"
    execution = ended(broken)
    assert execution.status == "needs_attention"
    assert DeadLetter.objects.get(execution_id=broken).reason == "engine_error"
    assert kinds(broken)[-1] == "execution.needs_attention"
    assert Event.objects.filter(execution_id=broken, kind="step.succeeded").count() == 0
    assert_nothing_left_behind()
