"""Freeing a lock with real workers: the next one gets it when the command has ended, and not a moment sooner."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from executions.models import Event
from executions.services import Refused, free_lock
from queueing.models import AssetLock, Worker
from safety.models import User
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    kinds,
    shell,
    status_of,
    target_of,
)
from tests.executions.engine.test_lost_workers import is_running, make_asset
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]
LEASE_SECONDS = 3  # of the workers here


def asset_of(execution_id: int) -> int:
    return AssetLock.objects.values_list("asset_id", flat=True).get(execution_id=execution_id)


def test_a_freed_lock_goes_to_the_next_when_the_command_has_ended(
    workers: Workers, begin: Begin, requester: User, tmp_path: Path
) -> None:
    make_asset("db-12")
    workers.start(WORKER_PROCESSES="1")
    started = tmp_path / "started"
    holder = begin(shell("hangs", f"echo $$ > {started}; sleep 60", targets=["db-12"]))
    wait_until(lambda: started.exists() and started.read_text().strip(), what="the command's start")
    waits = begin(shell("next", "echo mine", targets=["db-12"]))
    asset = asset_of(holder)
    (freed,) = free_lock(asset, by=requester, reason="the outage needs it")
    assert (freed.execution_id, freed.status, freed.revoked) == (holder, "cancelling", True)
    assert ended(waits, seconds=10).status == "succeeded"
    assert not is_running(int(started.read_text()))
    assert status_of(holder) == "cancelled"
    assert "execution.revoked" in kinds(holder)
    assert kinds(holder)[-1] == "execution.cancelled", "its end is still the last that is said of it"
    first, second = target_of(holder, "hangs"), target_of(waits, "next")
    assert first.finished_at is not None
    assert second.started_at is not None
    assert first.finished_at <= second.started_at
    with pytest.raises(Refused) as refused:
        free_lock(asset, by=requester, reason="again")
    assert refused.value.code == "not_held"
    assert_nothing_left_behind()


def test_a_worker_that_is_frozen_loses_the_lock_with_its_lease_and_its_command_is_dead_by_then(
    workers: Workers, begin: Begin, requester: User, tmp_path: Path
) -> None:
    """It cannot hear that it is to let go. Its warden ends the command, the lease runs out, the next has the lock."""
    make_asset("db-12")
    workers.start(WORKER_PROCESSES="2", WORKER_CONCURRENCY="1")
    started, order = tmp_path / "started", tmp_path / "order"
    holder = begin(shell("hangs", f"echo $$ > {started}; sleep 60; echo late >> {order}", targets=["db-12"]))
    wait_until(lambda: started.exists() and started.read_text().strip(), what="the command's start")
    waits = begin(shell("next", f"kill -0 $(cat {started}) && echo both >> {order}; true", targets=["db-12"]))
    pid = Worker.objects.values_list("pid", flat=True).get(running=1, stopped_at=None) if _one_runs() else 0
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        free_lock(asset_of(holder), by=requester, reason="the outage needs it")
        assert ended(waits, seconds=20).status == "succeeded"
        assert time.monotonic() - began < LEASE_SECONDS * 4 / 3 + 8
        assert not order.exists(), "the two commands were there at once"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not is_running(int(started.read_text()))
    wait_until(lambda: status_of(holder) not in ("cancelling", "running"), seconds=30, what="the end of the holder")
    assert Event.objects.filter(execution_id=holder, kind="execution.revoked").count() == 1


def _one_runs() -> bool:
    wait_until(lambda: Worker.objects.filter(running=1, stopped_at=None).count() == 1, what="the worker's figures")
    return True
