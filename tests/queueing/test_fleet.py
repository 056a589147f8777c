"""The register of workers: no more of them than there should be, and the dead and the silent are struck off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from queueing import control, fleet, pool
from queueing.models import Cluster, QueueEntry, Worker
from queueing.queue import Connection
from tests.queueing.lines import at_once, claim_ids, enqueue, entry, new_worker, several

pytestmark = [pytest.mark.django_db]


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(fleet.CLUSTER_VARIABLE, "ours")
    return "ours"


@pytest.fixture
def dead_pid() -> int:
    """The number of a process that was, and is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@several
def test_a_cluster_has_no_more_workers_than_it_should(connections: Callable[[], Connection]) -> None:
    new_worker(cluster="another", pid=os.getpid())
    opened = [connections() for _ in range(8)]
    fleet.open_cluster(opened[0])
    answers = at_once(*(partial(fleet.register, one, 10, ["local"], isolation=False) for one in opened))
    registered = [answer for answer in answers if answer is not None]
    assert len(registered) == settings.WORKER_PROCESSES, answers
    assert Worker.objects.filter(cluster="ours").count() == settings.WORKER_PROCESSES
    assert fleet.standing(opened[0]).workers == settings.WORKER_PROCESSES
    fleet.end(opened[0], registered[0].worker_id, "stopped")
    assert register(opened[0]) is not None, "a place is free again"
    assert register(opened[0]) is None


def test_a_process_whose_cluster_is_not_registered_is_no_worker(connection: Connection) -> None:
    assert register(connection) is None


def test_a_cluster_that_comes_back_has_the_number_that_was_decided(connection: Connection) -> None:
    fleet.open_cluster(connection)
    Cluster.objects.update(processes=6, stopped_at=timezone.now())
    assert fleet.beat(connection) == 6
    assert Cluster.objects.get().stopped_at is None


def test_nobody_is_called_for_suspects_that_nobody_may_claim(connection: Connection) -> None:
    enqueue({**entry(1), "losses": 1, "pool": "heavy"})
    assert fleet.standing(connection).suspects
    control.pause_pool("heavy", by="user:op")
    assert not fleet.standing(connection).suspects
    control.resume_pool("heavy", by="user:op")
    control.drain(by="user:op")
    assert not fleet.standing(connection).suspects


def test_undrained_workers_hand_no_drain_on(connection: Connection) -> None:
    fleet.open_cluster(connection)
    first = register(connection)
    assert first is not None
    pool.drain_workers(by="user:op")
    fleet.step_down(connection, first.worker_id)
    pool.undrain_workers(by="user:op")
    second = register(connection)
    assert second is not None
    assert not Worker.objects.get(pk=second.worker_id).draining


def test_a_cluster_has_one_worker_more_for_what_is_run_apart(connection: Connection) -> None:
    fleet.open_cluster(connection)
    Cluster.objects.update(processes=1)
    assert register(connection) is not None
    assert fleet.standing(connection) == fleet.Standing(present=1, workers=1, isolation=False, suspects=False)
    enqueue({**entry(1), "losses": 1})
    assert fleet.standing(connection) == fleet.Standing(present=1, workers=1, isolation=False, suspects=True)
    apart = register(connection, isolation=True)
    assert apart is not None
    assert apart.isolation
    assert register(connection, isolation=True) is None
    assert fleet.standing(connection) == fleet.Standing(present=2, workers=1, isolation=True, suspects=True)


def test_who_takes_the_place_of_a_draining_worker_drains(connection: Connection) -> None:
    fleet.open_cluster(connection)
    Cluster.objects.update(processes=2)
    first, second = register(connection), register(connection)
    assert first is not None
    assert second is not None
    assert pool.drain_workers(by="user:op", reason="disk", ids=[first.worker_id]) == 1
    fleet.end(connection, first.worker_id, "lost", "It died.")
    third = register(connection)
    assert third is not None
    assert Worker.objects.get(pk=third.worker_id).draining
    fleet.end(connection, second.worker_id, "stopped")
    fourth = register(connection)
    assert fourth is not None
    assert not Worker.objects.get(pk=fourth.worker_id).draining, "a drain is handed on once"
    fleet.step_down(connection, third.worker_id)
    fifth = register(connection)
    assert fifth is not None
    assert Worker.objects.get(pk=fifth.worker_id).draining, "the other still lets go of what it runs"


def test_a_worker_that_says_why_it_ended_leaves_what_it_ran_without_blame(
    connection: Connection, dead_pid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fleet.AT_WORK_VARIABLE, str(tmp_path / "at-work"))
    worker = new_worker(cluster="ours", pid=dead_pid)
    monkeypatch.setattr(os, "getpid", lambda: dead_pid)
    fleet.leave_last_words("The database cannot be reached.")
    monkeypatch.undo()
    monkeypatch.setenv(fleet.CLUSTER_VARIABLE, "ours")
    monkeypatch.setenv(fleet.AT_WORK_VARIABLE, str(tmp_path / "at-work"))
    fleet.bury_dead(connection)
    row = Worker.objects.get(pk=worker)
    assert (row.state, row.note, row.blamed) == ("lost", "The database cannot be reached.", False)
    assert list(tmp_path.iterdir()) == [], "its words were read"


def register(connection: Connection, *, isolation: bool = False) -> fleet.Registration | None:
    return fleet.register(connection, 10, ["local"], isolation=isolation)


def test_a_worker_whose_process_is_gone_is_struck_off_and_its_leases_end_soon(
    connection: Connection, dead_pid: int
) -> None:
    dead, living = new_worker(cluster="ours", pid=dead_pid), new_worker(cluster="ours", pid=os.getpid())
    elsewhere = new_worker(cluster="another", pid=dead_pid)
    enqueue(entry(1), entry(2))
    assert claim_ids(connection, dead, 1) == [1]
    assert claim_ids(connection, living, 1) == [2]
    assert fleet.standing(connection).workers == 1
    row = Worker.objects.get(pk=dead)
    assert (row.state, row.blamed) == ("lost", True)
    assert Worker.objects.get(pk=living).state == "active"
    assert Worker.objects.get(pk=elsewhere).state == "active", "numbers of processes mean nothing on another machine"
    ends = dict(QueueEntry.objects.values_list("pk", "lease_expires_at"))
    assert ends[1] is not None
    assert ends[2] is not None
    assert timezone.now() < ends[1] < timezone.now() + timedelta(seconds=fleet.DEAD_LEASE_SECONDS + 1)
    assert ends[2] > timezone.now() + timedelta(seconds=20)


def test_a_worker_that_fell_silent_is_struck_off_wherever_it_is(connection: Connection) -> None:
    silent, quiet, ended = new_worker(cluster="another"), new_worker(cluster="another"), new_worker(cluster="another")
    Worker.objects.filter(pk=silent).update(last_beat_at=timezone.now() - 3 * settings.LEASE - timedelta(seconds=1))
    Worker.objects.filter(pk=quiet).update(last_beat_at=timezone.now() - 2 * settings.LEASE)
    long_ago = timezone.now() - timedelta(days=1)
    Worker.objects.filter(pk=ended).update(last_beat_at=long_ago, stopped_at=long_ago, state="stopped")
    assert control.live_workers() == 0, "neither has beaten within a lease"
    assert fleet.bury_silent(connection) == 1
    assert dict(Worker.objects.values_list("pk", "state")) == {silent: "lost", quiet: "active", ended: "stopped"}
    assert [worker.pk for worker in control.workers()] == [quiet]


def test_the_end_of_a_worker_is_written_once(connection: Connection) -> None:
    worker = new_worker()
    fleet.end(connection, worker, "lost", "It fell silent.")
    fleet.end(connection, worker, "stopped")
    row = Worker.objects.get(pk=worker)
    assert (row.state, row.note) == ("lost", "It fell silent.")
