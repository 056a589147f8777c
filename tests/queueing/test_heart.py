"""The heart: it renews what its worker holds, brings wishes, and ends the worker before a lease could be another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.utils import timezone

from queueing import queue
from queueing.connections import connect
from queueing.heart import Heart
from queueing.models import QueueEntry, Worker
from queueing.queue import Figures, Renewal
from tests.installations import wait_until
from tests.queueing.lines import LEASE, enqueue, entry, expire_leases, new_worker, several

pytestmark = [several]

SHORT = timedelta(seconds=3)


@dataclass
class Body:
    """What the heart keeps alive, and what it was told."""

    held: list[int] = field(default_factory=list)
    turned_at: float = field(default_factory=time.monotonic)
    turns: bool = True
    right_until: float = 0.0
    renewals: list[tuple[list[int], Renewal]] = field(default_factory=list)
    wishes: dict[int, str] = field(default_factory=dict)
    fenced_at: float | None = None
    why: str = ""
    blameless: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def leases(self) -> Sequence[int]:
        return list(self.held)

    def figures(self) -> Figures:
        return {
            "running": len(self.held),
            "finished": 7,
            "failed": 2,
            "rss_bytes": 1000,
            "loop_lag_ms": 3,
            "renewal_ms": 0,
        }

    def loop_turned_at(self) -> float:
        return time.monotonic() if self.turns else self.turned_at

    def extend(self, until: float) -> None:
        self.right_until = until

    def renewed(self, asked_for: Sequence[int], renewal: Renewal) -> None:
        self.renewals.append((list(asked_for), renewal))

    def wished(self, wishes: queue.Wishes) -> None:
        self.wishes.update(wishes.cancel)

    def fence(self, why: str, *, blameless: bool = False) -> None:
        self.blameless = blameless
        self.fenced_at, self.why = time.monotonic(), why
        self.ended.set()


@contextmanager
def beating(worker: int, body: Body, lease: timedelta) -> Iterator[Heart]:
    heart = Heart(worker, lease, body)
    heart.start()
    try:
        yield heart
    finally:
        heart.stop()


def leased(worker: int, *execution_ids: int, lease: timedelta = LEASE) -> None:
    enqueue(*(entry(one) for one in execution_ids))
    with connect("test") as connection:
        assert len(queue.claim(connection, worker, 100, lease).leases) == len(execution_ids)


def test_a_heart_renews_what_is_held_and_tells_what_is_lost() -> None:
    worker = new_worker()
    leased(worker, 1, 2, lease=SHORT)
    expire_leases(2)
    body = Body(held=[1, 2])
    began = timezone.now()
    with beating(worker, body, SHORT):
        wait_until(lambda: len(body.renewals) >= 3, seconds=10, what="the third renewal")
    asked, renewal = body.renewals[-1]
    assert asked == [1, 2]
    assert renewal.held == {1}
    expires = QueueEntry.objects.get(pk=1).lease_expires_at
    assert expires is not None
    assert expires > began + SHORT, "it went on beyond the lease that it was claimed with"
    assert body.fenced_at is None
    row = Worker.objects.get(pk=worker)
    assert row.last_beat_at >= began
    assert (row.running, row.finished, row.failed, row.loop_lag_ms) == (2, 7, 2, 3)


def test_the_right_to_act_ends_before_the_lease_does() -> None:
    worker = new_worker()
    leased(worker, 1, lease=SHORT)
    body = Body(held=[1])
    with beating(worker, body, SHORT):
        wait_until(lambda: body.renewals, seconds=10)
        left = body.right_until - time.monotonic()
    expires = QueueEntry.objects.get(pk=1).lease_expires_at
    assert expires is not None
    assert left < (expires - timezone.now()).total_seconds() - 0.3


def test_a_wish_to_cancel_is_brought_without_waiting_for_the_next_renewal() -> None:
    worker = new_worker()
    leased(worker, 1)
    body = Body(held=[1])
    with beating(worker, body, LEASE) as heart:
        wait_until(lambda: body.renewals, seconds=10)
        assert queue.ask_to_cancel(1, "user:a: enough") == 1
        asked = time.monotonic()
        heart.look()
        wait_until(lambda: body.wishes, seconds=5)
    assert body.wishes == {1: "user:a: enough"}
    assert time.monotonic() - asked < 1.0
    assert len(body.renewals) == 1


def test_a_heart_that_cannot_renew_ends_the_worker_before_its_leases_end() -> None:
    worker = new_worker()
    leased(worker, 1, lease=SHORT)
    body = Body(held=[1])
    with beating(worker, body, SHORT):
        wait_until(lambda: body.renewals, seconds=10)
        with connect("test") as killer, connect("test") as other, other.transaction():
            # The renewal waits for these rows, as it would for a server that does not answer; then it is cut off.
            other.execute("SELECT FROM queueing_queueentry FOR UPDATE")
            deadline = time.monotonic() + 12
            while not body.ended.is_set() and time.monotonic() < deadline:
                killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'opsconductor heart' AND datname = current_database()"
                )
                time.sleep(0.05)
    assert body.fenced_at is not None
    assert "renewed in time" in body.why
    assert body.blameless, "it is the database that could not be reached"
    expires = QueueEntry.objects.get(pk=1).lease_expires_at
    assert expires is not None
    ended_at = timezone.now() - timedelta(seconds=time.monotonic() - body.fenced_at)
    assert ended_at < expires, "commands are killed while nobody else can have the lease"


def test_a_heart_whose_event_loop_stands_still_ends_the_worker() -> None:
    body = Body(turns=False)
    with beating(new_worker(), body, SHORT):
        assert body.ended.wait(10)
    assert "did not turn" in body.why
    assert not body.blameless, "something that it ran stands in the way"


def test_a_process_that_stood_still_puts_no_blame_on_what_it_ran() -> None:
    """As after SIGCONT: the clock is far on, and nothing happened meanwhile."""
    body = Body()
    stood_still = 0.0
    heart = Heart(new_worker(), SHORT, body, clock=lambda: time.monotonic() + stood_still)
    heart.start()
    try:
        wait_until(lambda: body.renewals, seconds=10)
        stood_still = 10.0
        assert body.ended.wait(10)
    finally:
        heart.stop()
    assert "renewed in time" in body.why
    assert body.blameless
    assert body.fenced_at is not None
    assert body.fenced_at - body.turned_at < 3.0


def test_renewals_and_the_ledgers_guard_never_block_each_other() -> None:
    """Both lock many entries; in different orders they would be deadlocked within moments."""
    worker = new_worker()
    ids = list(range(1, 61))
    leased(worker, *ids)
    over = threading.Event()
    faults: list[Exception] = []
    rounds = {"renew": 0, "guard": 0}

    def renew() -> None:
        with connect("test") as connection:
            while not over.is_set():
                queue.renew(connection, worker, ids[::-1], LEASE, Body().figures())
                rounds["renew"] += 1

    def guard() -> None:
        with connect("test") as connection:
            while not over.is_set():
                connection.execute(
                    "SELECT FROM queueing_queueentry WHERE execution_id = ANY (%s) ORDER BY execution_id"
                    " FOR NO KEY UPDATE",
                    (ids,),
                )
                rounds["guard"] += 1

    def run(act: object) -> None:
        assert callable(act)
        try:
            act()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in (renew, guard, renew, guard)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    over.set()
    for thread in threads:
        thread.join(timeout=20)
    assert faults == []
    assert min(rounds.values()) > 5, rounds


@pytest.mark.parametrize("state", ["draining", "lost"])
def test_a_heart_brings_back_what_became_of_its_worker(state: str) -> None:
    worker = new_worker(state=state, stopped_at=timezone.now() if state == "lost" else None)
    body = Body()
    with beating(worker, body, SHORT):
        wait_until(lambda: body.renewals, seconds=10)
    assert body.renewals[0][1].state == ("draining" if state == "draining" else None)
