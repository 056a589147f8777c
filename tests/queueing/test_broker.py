"""Which `work` calls the broker hands out: as many as there are workers missing, and processes to take them."""

from __future__ import annotations

import os

import pytest
from django.conf import settings

from queueing import broker, fleet
from queueing.broker import UNDER_WAY_SECONDS, ExecutionBroker
from queueing.models import Cluster, Worker
from tests.queueing.lines import enqueue, entry, new_worker, several


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Clock:
    """A cluster of two at most, which is to have two; its broker's clock."""
    monkeypatch.setenv(fleet.CLUSTER_VARIABLE, "ours")
    monkeypatch.setattr(settings, "WORKER_MAX_PROCESSES", 2)
    Cluster.objects.create(name="ours", host="h", pid=1, version="0", processes=2, initial_processes=2, max_processes=2)
    made = Clock()
    monkeypatch.setattr(broker, "time", made)
    return made


def worker(state: str = "active", **fields: object) -> int:
    return new_worker(cluster="ours", pid=os.getpid(), state=state, **fields)


def calls_after(clock: Clock, of: ExecutionBroker, seconds: float) -> int:
    clock.now += seconds
    return len(of._missing_calls())


@several
def test_a_call_goes_out_for_each_worker_that_is_missing_and_again_when_it_was_lost(clock: Clock) -> None:
    ours = ExecutionBroker()
    assert calls_after(clock, ours, 1) == 2
    assert calls_after(clock, ours, 1) == 0, "they are under way"
    worker()
    assert calls_after(clock, ours, UNDER_WAY_SECONDS) == 1, "one of them did not come"


@several
def test_workers_that_wait_for_their_last_steps_are_no_sign_that_a_cluster_is_broken(clock: Clock) -> None:
    """Three of its four processes have steps that take hours, the fourth is django-q2's: nobody could take a call.

    Calls that nobody takes would have the cluster started anew, in the middle of those steps.
    """
    for _ in range(3):
        worker("stopping", running=1)
    ours = ExecutionBroker()
    for _ in range(10):
        assert calls_after(clock, ours, UNDER_WAY_SECONDS + 1) == 0
    assert ours._fruitless == 0
    Worker.objects.filter(pk=Worker.objects.first().pk).update(stopped_at="2026-01-01T00:00:00Z", state="stopped")  # type: ignore[union-attr]
    assert calls_after(clock, ours, 1) == 1, "one is free, so one call"


@several
def test_calls_that_nobody_takes_although_somebody_could_are_counted(clock: Clock) -> None:
    worker()
    ours = ExecutionBroker()
    for number in range(3):
        assert calls_after(clock, ours, UNDER_WAY_SECONDS + 1) == 1
        assert ours._fruitless == number


@several
def test_suspects_have_a_worker_called_if_there_is_a_process_for_it(clock: Clock) -> None:
    enqueue({**entry(1), "losses": 1})
    first, second = worker(), worker()
    ours = ExecutionBroker()
    assert calls_after(clock, ours, 1) == 1
    assert calls_after(clock, ours, 1) == 0, "it is under way"
    leaving = worker("stopping")
    assert calls_after(clock, ours, UNDER_WAY_SECONDS + 1) == 0
    Worker.objects.filter(pk=leaving).update(stopped_at="2026-01-01T00:00:00Z", state="stopped")
    assert calls_after(clock, ours, 1) == 1
    assert first != second
