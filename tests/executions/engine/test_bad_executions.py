"""Executions that are bad for the process that runs them, and those that run beside them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.db.models.functions import Now

from executions.models import Execution, ExecutionPlan
from queueing.connections import connect
from queueing.models import DeadLetter, Worker
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    printed,
    shell,
    status_of,
    target_of,
)
from tests.executions.engine.test_lost_workers import is_running, make_asset
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


@pytest.fixture
def rough(workers: Workers, tmp_path: Path) -> Workers:
    """Workers whose engine misbehaves on demand: see rough_engine.py."""
    folder = tmp_path / "rough"
    folder.mkdir()
    workers.environment |= {
        "DJANGO_SETTINGS_MODULE": "tests.executions.engine.rough_settings",
        "ROUGH_FOLDER": str(folder),
    }
    return workers


def begin_beside(begin: Begin, log: Path, number: int) -> int:
    """Begin an execution of two steps, the first of which may run again; return its id when that one runs."""
    first = f"echo begun >> {log}; sleep 1.5"
    beside = begin(
        shell("first", first, targets=[make_asset(f"beside-{number}")], idempotent=True),
        shell("last", "echo on", targets=[make_asset(f"last-{number}")]),
    )
    wait_until(log.exists, what="the start of the one beside")
    return beside


def test_a_blocked_event_loop_ends_its_worker_and_its_executions_go_on(
    rough: Workers, begin: Begin, tmp_path: Path
) -> None:
    rough.start(WORKER_PROCESSES="1")
    (blocked,) = Worker.objects.filter(stopped_at=None)
    beside = begin_beside(begin, tmp_path / "beside", 1)
    blocks = begin(shell("blocks", "echo now it runs"))
    assert ended(blocks, seconds=60).status == "succeeded"
    assert ended(beside, seconds=60).status == "succeeded"
    assert printed(blocks, "blocks") == "now it runs\n"
    assert printed(beside, "last") == "on\n"
    assert not is_running(blocked.pid)
    blocked.refresh_from_db()
    assert blocked.state == "lost"
    assert_nothing_left_behind()


def test_upkeep_that_fails_keeps_no_worker_from_its_work(rough: Workers, begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "rough" / "upkeep-fails").touch()
    rough.start(WORKER_PROCESSES="1")
    for number in range(2):
        assert ended(begin(shell("fine", "echo fine", targets=[make_asset(f"host-{number}")]))).status == "succeeded"
    assert_nothing_left_behind()


def test_a_fault_in_one_duty_of_upkeep_keeps_no_other_from_being_done(workers: Workers, begin: Begin) -> None:
    """The batches of the DLQ cannot be worked at; what comes after them is: the audit is sealed all the same."""
    begin(shell("a", "true", requires_approval=True))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE queueing_deadletterbatch RENAME TO away")
        try:
            cursor.execute("SELECT count(*) FROM safety_auditoutbox")
            assert cursor.fetchone()[0] > 0
            workers.start(WORKER_PROCESSES="1")

            def is_sealed() -> bool:
                cursor.execute("SELECT count(*) FROM safety_auditoutbox")
                return bool(cursor.fetchone()[0] == 0)

            wait_until(is_sealed, seconds=20, what="the sealing of the audit")
        finally:
            cursor.execute("ALTER TABLE away RENAME TO queueing_deadletterbatch")


def test_an_approval_that_somebody_sits_on_keeps_no_worker_from_its_work(workers: Workers, begin: Begin) -> None:
    """Upkeep expires overdue approvals; the row may be locked by a process that stands still."""
    with connect("test") as frozen, frozen.transaction():
        overdue = begin(shell("a", "true", requires_approval=True))
        Execution.objects.filter(pk=overdue).update(approval_expires_at=Now() - timedelta(hours=1))
        frozen.execute("SELECT FROM executions_execution WHERE id = %s FOR UPDATE", (overdue,))
        workers.start(WORKER_PROCESSES="1", LEASE_SECONDS="30")
        assert ended(begin(shell("fine", "echo fine")), seconds=10).status == "succeeded"
    wait_until(lambda: status_of(overdue) == "expired", what="its end, once the row is free")


def test_a_worker_that_has_grown_too_big_ends_in_order_and_another_takes_its_place(
    rough: Workers, begin: Begin, tmp_path: Path
) -> None:
    rough.start(WORKER_PROCESSES="1", WORKER_MAX_RSS_MB="300")
    (big,) = Worker.objects.filter(stopped_at=None)
    beside = begin_beside(begin, tmp_path / "beside", 1)
    grows = begin(shell("grows", "echo grown"))
    for execution_id in (beside, grows):
        assert ended(execution_id).status == "succeeded"
    wait_until(lambda: not is_running(big.pid), what="the end of the big process")
    big.refresh_from_db()
    assert big.state == "stopped", "it ended in order"
    assert (tmp_path / "beside").read_text() == "begun\n", "what ran beside was not run again"
    assert ended(begin(shell("next", "true"))).status == "succeeded"
    (small,) = Worker.objects.filter(stopped_at=None)
    assert small.pid != big.pid
    assert small.rss_bytes < 300 * 1024 * 1024 < big.rss_bytes
    assert_nothing_left_behind()


def test_bad_executions_harm_neither_their_worker_nor_each_other(rough: Workers, begin: Begin, tmp_path: Path) -> None:
    """All in one process: a bug of the engine, plans that nobody can read, bytes that are no text, a line of 100 MB."""
    breaks = begin(shell("breaks", "echo at last"))
    unreadable = begin(shell("one", "true", targets=[make_asset("a")]))
    ExecutionPlan.objects.filter(execution_id=unreadable).update(document={"steps": "none"})
    empty = begin(shell("one", "true", targets=[make_asset("b")]))
    ExecutionPlan.objects.filter(execution_id=empty).delete()
    wild = begin(shell("one", "true", targets=[make_asset("e")]))
    document = ExecutionPlan.objects.get(execution_id=wild).document
    document["steps"][0]["targets"][0]["asset_id"] = 10**30  # the database itself refuses to look for it
    ExecutionPlan.objects.filter(execution_id=wild).update(document=document)
    bytes_ = begin(shell("bytes", r"printf 'a\377\000\300b\n'", targets=[make_asset("c")]))
    endless = "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end"
    line = begin(shell("line", endless, targets=[make_asset("d")]))
    rough.start(WORKER_PROCESSES="1", MAX_OUTPUT_BYTES="3000000")
    (worker,) = rough.pids()
    beside = [begin_beside(begin, tmp_path / f"beside-{number}", number) for number in range(3)]
    for execution_id in (*beside, bytes_, line):
        assert ended(execution_id, seconds=60).status == "succeeded"
    for execution_id in (unreadable, empty, wild):
        assert ended(execution_id).status == "needs_attention"
        assert DeadLetter.objects.get(execution_id=execution_id).reason == "engine_error"
    assert printed(bytes_, "bytes") == "a\ufffd\u2400\ufffdb\n"
    target = target_of(line, "line")
    assert (target.truncated, target.stdout_bytes) == (True, 3_000_000)
    assert (target.error_code, target.error) == (
        "output_truncated",
        "It printed 100.0 MB, of which the first 3.0 MB were kept.",
    )
    assert printed(line, "line").startswith("x" * 2_999_000)
    assert ended(breaks, seconds=60).status == "succeeded"
    assert rough.pids() == [worker]
    assert_nothing_left_behind()
