"""Leases: renewed by name, taken away when they ran out, given back; and every claim counted."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.utils import timezone

from queueing import fleet, queue
from queueing.models import Attempt, QueueEntry, Worker
from queueing.queue import Connection
from tests.queueing.lines import (
    LEASE,
    claim_ids,
    claim_one,
    enqueue,
    entry,
    expire_leases,
    finish,
    give_back,
    move_back,
    new_worker,
    states,
)

pytestmark = [pytest.mark.django_db]


def renew(connection: Connection, worker: int, *execution_ids: int, **counters: int) -> queue.Renewal:
    figures: queue.Figures = {
        "running": counters.get("running", 0),
        "finished": counters.get("finished", 0),
        "failed": counters.get("failed", 0),
        "rss_bytes": counters.get("rss_bytes", 0),
        "loop_lag_ms": 4,
        "renewal_ms": 5,
    }
    return queue.renew(connection, worker, execution_ids, LEASE, figures)


def end_of_lease(execution_id: int) -> float:
    """Seconds from now."""
    end = QueueEntry.objects.values_list("lease_expires_at", flat=True).get(pk=execution_id)
    assert end is not None
    return (end - timezone.now()).total_seconds()


def test_only_the_leases_that_are_named_are_renewed(connection: Connection, worker: int) -> None:
    enqueue(entry(1), entry(2), entry(3))
    assert claim_ids(connection, worker) == [1, 2, 3]
    QueueEntry.objects.update(lease_expires_at=timezone.now() + timedelta(seconds=5))
    assert renew(connection, worker, 1, 3).held == {1, 3}
    assert end_of_lease(1) > 25
    assert end_of_lease(2) < 6, "a lease that its worker does not know of runs out"


def test_a_lease_that_ran_out_or_is_another_workers_is_not_renewed(connection: Connection, worker: int) -> None:
    enqueue(entry(1), entry(2))
    assert claim_ids(connection, worker, 1) == [1]
    other = new_worker()
    assert claim_ids(connection, other) == [2]
    expire_leases(1)
    assert renew(connection, worker, 1, 2, 77).held == frozenset()
    assert end_of_lease(1) < 0
    assert renew(connection, other, 2).held == {2}


def test_a_worker_that_lost_an_entry_and_has_it_again_holds_it_under_a_new_token(
    connection: Connection, worker: int
) -> None:
    enqueue(entry(1))
    first = claim_one(connection, worker)
    expire_leases(1)
    assert queue.reap(connection) == [1]
    assert renew(connection, worker, 1).held == frozenset()
    move_back(3600, 1)
    assert queue.promote(connection) == 1
    second = claim_one(connection, worker)
    assert second.token > first.token
    assert second.attempt == 2


def test_a_renewal_beats_and_brings_back_wishes_and_state(connection: Connection, worker: int) -> None:
    enqueue(entry(1), entry(2))
    claim_ids(connection, worker)
    Worker.objects.filter(pk=worker).update(last_beat_at=timezone.now() - timedelta(hours=1))
    assert queue.ask_to_cancel(1, "user:a: first") == 1
    assert queue.ask_to_cancel(1, "user:b: second") == 0, "the first wish stays"
    renewal = renew(connection, worker, 1, 2, running=2, finished=40, failed=3, rss_bytes=1000)
    assert renewal.cancel == {1: "user:a: first"}
    assert renewal.held == {1, 2}
    assert renewal.state == "active"
    assert queue.wishes(connection, worker).cancel == {1: "user:a: first"}
    row = Worker.objects.get(pk=worker)
    assert (row.running, row.finished, row.failed, row.rss_bytes) == (2, 40, 3, 1000)
    assert (row.loop_lag_ms, row.renewal_ms) == (4, 5)
    assert timezone.now() - row.last_beat_at < timedelta(minutes=1)
    Worker.objects.filter(pk=worker).update(draining=True)
    assert renew(connection, worker, 1).state == "draining"
    assert queue.wishes(connection, worker).state == "draining"
    Worker.objects.filter(pk=worker).update(state="stopping")
    assert renew(connection, worker, 1).state == "stopping", "which draining is part of"
    Worker.objects.filter(pk=worker).update(state="lost", stopped_at=timezone.now())
    assert renew(connection, worker, 1).state is None
    assert queue.wishes(connection, worker) == queue.Wishes({}, None)


def test_nobody_can_be_asked_to_cancel_what_no_worker_has(connection: Connection, worker: int) -> None:
    enqueue(entry(1))
    assert queue.ask_to_cancel(1, "user:a") == 0
    assert queue.ask_to_cancel(99, "user:a") == 0
    assert queue.wishes(connection, worker).cancel == {}


def test_only_leases_that_ran_out_are_taken_away(connection: Connection, worker: int) -> None:
    enqueue(entry(1, 7), entry(2, 8), entry(3, 9))
    claim_ids(connection, worker)
    expire_leases(1, 3)
    assert queue.reap(connection, limit=1) == [1]
    assert queue.reap(connection) == [3]
    assert queue.reap(connection) == []
    assert states() == {1: "delayed", 2: "leased", 3: "delayed"}
    row = QueueEntry.objects.get(pk=1)
    assert (row.token, row.worker_id, row.leased_at, row.lease_expires_at) == (None, None, None, None)


def test_every_claim_is_counted_and_the_backoff_doubles_up_to_a_minute(connection: Connection, worker: int) -> None:
    enqueue(entry(1, max_attempts=2))
    waits: list[float] = []
    for attempt in range(1, 9):
        lease = claim_one(connection, worker)
        assert (lease.attempt, lease.attempts_left) == (attempt, 2 - attempt), "below 0: it must not run again"
        expire_leases(1)
        assert queue.reap(connection) == [1]
        row = QueueEntry.objects.get(pk=1)
        waits.append((row.available_at - timezone.now()).total_seconds())
        assert claim_ids(connection, worker) == [], "it waits for its backoff"
        move_back(3600, 1)
        queue.promote(connection)
    least = [2, 4, 8, 16, 32, 60, 60, 60]
    for wait, low in zip(waits, least, strict=True):
        assert low - 1 < wait <= low * 1.25
    assert all(later > earlier for earlier, later in itertools.pairwise(waits[:6]))


def test_an_entry_that_is_handed_back_keeps_its_attempts_and_its_number_grows(
    connection: Connection, worker: int
) -> None:
    enqueue(entry(1, max_attempts=3))
    assert claim_one(connection, worker).attempts_left == 2
    give_back(connection, 1)
    assert queue.promote(connection) == 1
    lease = claim_one(connection, worker)
    assert (lease.attempt, lease.attempts_left) == (2, 2)
    give_back(connection, 1, attempt=False)
    assert queue.promote(connection) == 1
    lease = claim_one(connection, worker)
    assert (lease.attempt, lease.attempts_left) == (3, 1)


def test_what_comes_back_after_trouble_does_not_go_before_newer_work(connection: Connection, worker: int) -> None:
    enqueue(entry(1))
    claim_ids(connection, worker)
    give_back(connection, 1, delay=0.0, attempt=False)
    enqueue(entry(2))
    QueueEntry.objects.filter(pk=2).update(place=QueueEntry.objects.get(pk=1).place - timedelta(microseconds=1))
    assert queue.promote(connection) == 1
    assert claim_ids(connection, worker) == [2, 1]


def test_a_revoked_lease_is_renewed_for_a_while_and_then_no_more(connection: Connection, worker: int) -> None:
    enqueue(entry(1, 7), entry(2, 7))
    assert claim_ids(connection, worker) == [1]
    assert queue.revoke(1, "user:op: stuck") is True
    assert queue.revoke(2, "user:op: stuck") is False, "it is not leased"
    renewal = renew(connection, worker, 1)
    assert renewal.held == {1}, "its worker has a moment to let go in order"
    assert renewal.cancel == {1: "user:op: stuck"}
    QueueEntry.objects.filter(pk=1).update(revoked_at=timezone.now() - LEASE / 2)
    assert renew(connection, worker, 1).held == frozenset()
    assert claim_ids(connection, new_worker()) == [], "until the lease runs out nobody else has the lock"
    expire_leases(1)
    assert queue.reap(connection) == [1]
    assert claim_ids(connection, new_worker()) == [2]
    move_back(3600, 1)
    queue.promote(connection)
    assert QueueEntry.objects.get(pk=1).revoked_at is None, "or its next lease could not be renewed"


@pytest.mark.parametrize(("blamed", "end", "losses"), [(True, "worker_died", 1), (False, "lease_expired", 0)])
def test_an_attempt_that_ended_with_its_worker_is_kept_as_it_was(
    connection: Connection, worker: int, blamed: bool, end: str, losses: int
) -> None:
    enqueue(entry(1))
    lease = claim_one(connection, worker)
    fleet.strike_off(connection, worker, "Its process ended without a word.", blamed=blamed)
    expire_leases(1)
    assert queue.reap(connection) == [1]
    row = Worker.objects.get(pk=worker)
    kept = Attempt.objects.get()
    assert (kept.execution_id, kept.number, kept.token, kept.worker_id) == (1, 1, lease.token, worker)
    assert (kept.worker, kept.end, kept.error) == (f"host/{row.pid}", end, "Its process ended without a word.")
    assert kept.leased_at < kept.ended_at
    assert QueueEntry.objects.get(pk=1).losses == losses


def test_an_attempt_that_was_handed_back_is_kept_and_one_that_finished_is_not(
    connection: Connection, worker: int
) -> None:
    enqueue(entry(1), entry(2))
    assert claim_ids(connection, worker) == [1, 2]
    give_back(connection, 1)
    finish(connection, 2)
    assert list(Attempt.objects.values_list("execution_id", "number", "end")) == [(1, 1, "handed_back")]
