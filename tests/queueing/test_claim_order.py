"""Who is next: priority as a head start, times to wait for, one worker for each entry, and nothing while draining."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from queueing import control, queue
from queueing.models import AssetLock, QueueEntry, Worker
from queueing.queue import Connection
from tests.queueing.lines import (
    LEASE,
    at_once,
    claim_ids,
    claim_one,
    enqueue,
    entry,
    locks_of,
    move_back,
    new_worker,
    several,
    states,
)

pytestmark = [pytest.mark.django_db]


def test_priority_1_goes_first_and_10_last_and_equals_in_the_order_they_came(
    connection: Connection, worker: int
) -> None:
    enqueue(*(entry(number, priority=priority) for number, priority in enumerate([10, 5, 1, 7, 5, 1], 1)))
    assert claim_ids(connection, worker) == [3, 6, 2, 5, 4, 1]


def test_an_entry_that_has_waited_nine_levels_worth_of_ageing_passes_the_most_urgent_one(
    connection: Connection, worker: int
) -> None:
    nine_levels = 9 * settings.QUEUE_AGEING.total_seconds()
    enqueue(entry(1, priority=10), entry(2, priority=10), entry(3, priority=1))
    move_back(nine_levels + 5, 1)
    move_back(nine_levels - 5, 2)
    assert claim_ids(connection, worker) == [1, 3, 2]


def test_a_small_claim_takes_the_first_and_leaves_the_others_in_order(connection: Connection, worker: int) -> None:
    enqueue(*(entry(number, priority=10 - number) for number in range(1, 8)))
    assert [claim_ids(connection, worker, 3), claim_ids(connection, worker, 3)] == [[7, 6, 5], [4, 3, 2]]


def test_an_entry_with_a_time_is_not_claimed_before_it_and_comes_in_at_the_place_of_its_time(
    connection: Connection, worker: int
) -> None:
    due = timezone.now() + timedelta(hours=1)
    enqueue(entry(1, 7, not_before=due), entry(2, 7))
    assert states() == {1: "delayed", 2: "ready"}
    assert locks_of(1) == {7: "idle"}, "what is delayed is not in line, so it keeps nobody waiting"
    assert queue.promote(connection) == 0
    assert claim_ids(connection, worker) == [2]

    move_back(3601, 1)
    AssetLock.objects.filter(execution_id=1).update(place=due)  # as it is after an earlier attempt: out of date
    assert queue.promote(connection) == 1
    assert locks_of(1) == {7: "queued"}
    promoted = QueueEntry.objects.get(pk=1)
    assert promoted.place == promoted.available_at + 4 * settings.QUEUE_AGEING
    assert AssetLock.objects.get(execution_id=1).place == promoted.place
    assert states()[1] == "ready"
    assert claim_ids(connection, worker) == [], "2 holds the asset"
    assert states()[1] == "blocked"


def test_a_time_in_the_past_is_no_head_start(connection: Connection, worker: int) -> None:
    enqueue(entry(1), entry(2, not_before=timezone.now() - timedelta(hours=1)))
    assert claim_ids(connection, worker) == [1, 2]


def test_only_what_is_due_is_promoted_up_to_the_limit(connection: Connection) -> None:
    due = timezone.now() + timedelta(hours=1)
    enqueue(*(entry(number, not_before=due) for number in range(1, 6)))
    move_back(3700, 1, 2, 3)
    assert queue.promote(connection, limit=2) == 2
    assert queue.promote(connection, limit=2) == 1
    assert queue.promote(connection, limit=2) == 0
    assert sorted(states().items()) == [(1, "ready"), (2, "ready"), (3, "ready"), (4, "delayed"), (5, "delayed")]


@several
def test_each_entry_goes_to_exactly_one_of_many_claimers(connections: Callable[[], Connection]) -> None:
    queue.enqueue([entry(number) for number in range(1, 301)])
    claimers = [(connections(), new_worker()) for _ in range(6)]

    def claim_all(connection: Connection, worker: int) -> list[queue.Lease]:
        leases: list[queue.Lease] = []
        while (claim := queue.claim(connection, worker, 7, LEASE)).looked:
            leases += claim.leases
        return leases

    taken = at_once(*(lambda c=c, w=w: claim_all(c, w) for c, w in claimers))
    leases = [lease for one in taken for lease in one]
    assert sorted(lease.execution_id for lease in leases) == list(range(1, 301))
    assert len({lease.token for lease in leases}) == 300
    for (_, worker), own in zip(claimers, taken, strict=True):
        held = QueueEntry.objects.filter(worker_id=worker).values_list("execution_id", "token")
        assert dict(held) == {lease.execution_id: lease.token for lease in own}


def test_a_draining_queue_hands_out_nothing_until_it_is_resumed(connection: Connection, worker: int) -> None:
    enqueue(entry(1))
    assert control.drain(by="user:op", reason="maintenance") is True
    assert control.drain(by="user:op") is False, "it is no change"
    assert queue.claim(connection, worker, 10, LEASE) == queue.Claim(0, ())
    assert states() == {1: "ready"}
    assert control.resume(by="user:op") is True
    assert claim_ids(connection, worker) == [1]


@pytest.mark.parametrize("fields", [{"draining": True}, {"state": "stopping"}, {"state": "stopped"}, {"state": "lost"}])
def test_a_worker_that_is_not_active_is_given_nothing(
    connection: Connection, worker: int, fields: dict[str, Any]
) -> None:
    enqueue(entry(1))
    Worker.objects.filter(pk=worker).update(**fields)
    assert claim_ids(connection, worker) == []
    assert claim_ids(connection, worker + 1000) == [], "nor is one that is not registered"
    assert claim_ids(connection, new_worker()) == [1]


def test_a_claim_counts_the_attempt_and_names_its_worker(connection: Connection, worker: int) -> None:
    enqueue(entry(1, max_attempts=2))
    lease = claim_one(connection, worker)
    assert (lease.attempt, lease.attempts_left) == (1, 1)
    row = QueueEntry.objects.get(pk=1)
    assert (row.token, row.worker_id, row.attempt) == (lease.token, worker, 1)
    assert row.lease_expires_at is not None
    assert row.leased_at is not None
    assert row.lease_expires_at - row.leased_at == LEASE
