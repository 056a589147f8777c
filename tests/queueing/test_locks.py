"""Locks at assets: all or none, readers together, writers alone, first come first served, nobody forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from queueing import queue
from queueing.models import AssetLine, AssetLock
from queueing.queue import Connection
from tests.queueing.lines import (
    LEASE,
    at_once,
    claim_ids,
    enqueue,
    entry,
    expire_leases,
    finish,
    give_back,
    locks_of,
    move_back,
    new_worker,
    several,
    states,
)

pytestmark = [pytest.mark.django_db]

X, Y, Z = 101, 102, 103


def test_a_writer_excludes_writers_and_readers(connection: Connection, worker: int) -> None:
    enqueue(entry(1, X), entry(2, X), entry(3, shared=[X]))
    assert claim_ids(connection, worker) == [1]
    assert states() == {1: "leased", 2: "blocked", 3: "blocked"}
    finish(connection, 1)
    assert claim_ids(connection, worker) == [2]
    finish(connection, 2)
    assert claim_ids(connection, worker) == [3]


def test_readers_share_and_a_writer_waits_for_the_last_of_them(connection: Connection, worker: int) -> None:
    enqueue(entry(1, shared=[X]), entry(2, shared=[X]), entry(3, X))
    assert claim_ids(connection, worker) == [1, 2]
    finish(connection, 1)
    assert claim_ids(connection, worker) == []
    finish(connection, 2)
    assert claim_ids(connection, worker) == [3]


def test_a_writer_is_not_starved_by_a_stream_of_readers(connection: Connection, worker: int) -> None:
    enqueue(entry(1, shared=[X]))
    assert claim_ids(connection, worker) == [1]
    enqueue(entry(2, X))
    for reader in range(3, 13):
        enqueue(entry(reader, shared=[X]))
        assert claim_ids(connection, worker) == [], "a reader that came after the writer waits behind it"
    finish(connection, 1)
    assert claim_ids(connection, worker) == [2]
    finish(connection, 2)
    assert claim_ids(connection, worker) == list(range(3, 13)), "the readers behind it go together"


def test_all_locks_are_had_or_none(connection: Connection, worker: int) -> None:
    enqueue(entry(1, X), entry(2, X, Y, Z))
    assert claim_ids(connection, worker) == [1]
    assert locks_of(2) == {X: "queued", Y: "queued", Z: "queued"}
    assert AssetLock.objects.filter(state="held").count() == 1
    finish(connection, 1)
    assert claim_ids(connection, worker) == [2]
    assert locks_of(2) == {X: "held", Y: "held", Z: "held"}


def test_who_waits_for_one_asset_keeps_its_place_at_the_others(connection: Connection, worker: int) -> None:
    enqueue(entry(1, X), entry(2, X, Y), entry(3, Y))
    assert claim_ids(connection, worker) == [1], "3 is behind 2 at Y"
    finish(connection, 1)
    assert claim_ids(connection, worker) == [2]
    assert states() == {2: "leased", 3: "blocked"}
    finish(connection, 2)
    assert claim_ids(connection, worker) == [3]


def test_entries_of_one_batch_are_judged_against_each_other(connection: Connection, worker: int) -> None:
    queue.enqueue([entry(1, X), entry(2, X, Y), entry(3, Y, Z), entry(4, Z)])
    assert claim_ids(connection, worker) == [1]
    finish(connection, 1)
    assert claim_ids(connection, worker) == [2]
    finish(connection, 2)
    assert claim_ids(connection, worker) == [3]
    finish(connection, 3)
    assert claim_ids(connection, worker) == [4]


def test_an_urgent_entry_goes_before_those_that_wait_already(connection: Connection, worker: int) -> None:
    enqueue(entry(1, X), entry(2, X))
    assert claim_ids(connection, worker) == [1]
    enqueue(entry(3, X, priority=1))
    assert claim_ids(connection, worker) == []
    finish(connection, 1)
    assert claim_ids(connection, worker) == [3]
    assert states()[2] == "blocked"
    finish(connection, 3)
    assert claim_ids(connection, worker) == [2]


def test_who_waits_is_woken_when_the_holder_is_reaped_and_goes_before_it(connection: Connection, worker: int) -> None:
    enqueue(entry(1, X), entry(2, X))
    assert claim_ids(connection, worker) == [1]
    assert claim_ids(connection, worker) == []
    expire_leases(1)
    assert queue.reap(connection) == [1]
    assert states() == {1: "delayed", 2: "ready"}
    assert locks_of(1) == {X: "idle"}
    assert claim_ids(connection, worker) == [2]


def test_who_waits_is_woken_when_the_holder_is_returned(connection: Connection, worker: int) -> None:
    enqueue(entry(1, X), entry(2, X))
    assert claim_ids(connection, worker) == [1]
    assert claim_ids(connection, worker) == []
    give_back(connection, 1, delay=60)
    assert claim_ids(connection, worker) == [2]


def test_who_waits_is_woken_when_the_one_before_it_is_cancelled(connection: Connection, worker: int) -> None:
    enqueue(entry(1, shared=[X]), entry(2, X), entry(3, shared=[X]), entry(4, X))
    assert claim_ids(connection, worker) == [1]
    assert claim_ids(connection, worker) == []
    assert states() == {1: "leased", 2: "blocked", 3: "blocked", 4: "blocked"}
    assert queue.remove([2]) == [2]
    assert claim_ids(connection, worker) == [3], "nothing exclusive stands between the two readers any more"
    assert states() == {1: "leased", 3: "leased", 4: "blocked"}


def test_what_is_delayed_holds_up_nobody_when_it_is_cancelled(connection: Connection, worker: int) -> None:
    enqueue(entry(1, X, not_before=timezone.now() + timedelta(hours=1)), entry(2, X))
    assert queue.remove([1]) == [1]
    assert claim_ids(connection, worker) == [2]


def test_what_is_leased_cannot_be_taken_out_of_the_queue(connection: Connection, worker: int) -> None:
    enqueue(entry(1, X), entry(2, X))
    assert claim_ids(connection, worker) == [1]
    assert queue.remove([1, 2, 99]) == [2]
    assert states() == {1: "leased"}
    assert locks_of(1) == {X: "held"}


def test_fencing_numbers_only_grow_from_holder_to_holder(connection: Connection, worker: int) -> None:
    enqueue(*(entry(number, X) for number in range(1, 6)))
    fences = []
    for number in range(1, 6):
        (lease,) = queue.claim(connection, worker, 10, LEASE).leases
        assert lease.execution_id == number
        assert AssetLock.objects.get(execution_id=number, asset_id=X).fence == lease.token
        fences.append(lease.token)
        if number % 2:
            finish(connection, number)
        else:
            give_back(connection, number, delay=3600)
            assert AssetLock.objects.get(execution_id=number, asset_id=X).fence is None
    assert fences == sorted(set(fences))


@several
def test_a_busy_line_is_not_waited_for_and_its_entry_stays_ready(
    connections: Callable[[], Connection], worker: int
) -> None:
    enqueue(entry(1, X), entry(2, Y))
    other, own = connections(), connections()
    with other.transaction():
        other.execute("SELECT FROM queueing_assetline WHERE asset_id = %s FOR NO KEY UPDATE", (X,))
        claim = queue.claim(own, worker, 10, LEASE)
        assert [lease.execution_id for lease in claim.leases] == [2]
        assert claim.looked == 2
        assert states()[1] == "ready"
    assert claim_ids(own, worker) == [1]


def test_a_claim_that_only_parks_says_that_it_looked(connection: Connection, worker: int) -> None:
    enqueue(entry(1, X), *(entry(number, X) for number in range(2, 12)), entry(12, Y))
    assert claim_ids(connection, worker, 1) == [1]
    claim = queue.claim(connection, worker, 10, LEASE)
    assert (claim.looked, claim.leases) == (10, ())
    assert claim_ids(connection, worker, 10) == [12], "work behind a parked batch is reached"


@several
def test_one_asset_is_granted_once_to_claimers_at_the_same_moment(connections: Callable[[], Connection]) -> None:
    claimers = [(connections(), new_worker()) for _ in range(4)]
    for number in range(1, 41):
        enqueue(entry(number, X, Y), entry(number + 1000, Y))
        move_back(1, number)
        won: list[int] = []
        while not won:  # each may have found a line busy
            won = [
                one for answer in at_once(*(lambda c=c, w=w: claim_ids(c, w) for c, w in claimers)) for one in answer
            ]
        assert won == [number]
        finish(claimers[0][0], number)
        assert claim_ids(*claimers[0]) == [number + 1000]
        finish(claimers[0][0], number + 1000)
    assert states() == {}
    assert AssetLock.objects.count() == 0
    assert AssetLine.objects.count() == 2


@several
@pytest.mark.parametrize("way_out", ["finish", "return", "remove"])
def test_a_waiter_that_is_being_parked_this_moment_is_not_forgotten(
    connections: Callable[[], Connection], worker: int, way_out: str
) -> None:
    """The claim that parks it has not committed when the one before it goes: without the line's lock neither sees."""
    enqueue(entry(1, X, Y), entry(2, X, Y))
    own, other = connections(), connections()
    if way_out == "remove":
        enqueue(entry(3, Z))
        move_back(1, 3)
        assert claim_ids(own, worker, 1) == [3]
        AssetLock.objects.filter(execution_id=1, asset_id=Y).update(asset_id=Z)
        assert claim_ids(own, worker, 1) == [], "1 waits for Z, and stands before 2 at X"
    else:
        assert claim_ids(own, worker, 1) == [1]
    leave: dict[str, Callable[[], object]] = {
        "finish": lambda: finish(other, 1),
        "return": lambda: give_back(other, 1, delay=60),
        "remove": lambda: other.execute("SELECT queue_remove(ARRAY[1]::bigint[])"),
    }
    leaving = threading.Thread(target=leave[way_out])
    with own.transaction():
        assert claim_ids(own, worker) == []
        leaving.start()
        leaving.join(timeout=0.4)
    leaving.join(timeout=20)
    assert not leaving.is_alive()
    assert states()[2] == "ready"
    assert claim_ids(own, worker) == [2]


@several
def test_a_cancel_and_the_release_before_it_do_not_wait_for_each_other(
    connections: Callable[[], Connection], worker: int
) -> None:
    """The release has the line and is about to wake the entry: a cancel that had the entry first would deadlock."""
    enqueue(entry(1, X), entry(2, X), entry(3, X))
    own, other = connections(), connections()
    assert claim_ids(own, worker, 1) == [1]
    assert claim_ids(own, worker) == []
    faults: list[BaseException] = []

    def cancel() -> None:
        try:
            other.execute("SELECT queue_remove(ARRAY[2]::bigint[])")
        except BaseException as error:
            faults.append(error)

    cancelling = threading.Thread(target=cancel)
    with own.transaction():
        own.execute("SELECT FROM queueing_queueentry WHERE execution_id = 1 FOR NO KEY UPDATE")
        own.execute("SELECT FROM queueing_assetline WHERE asset_id = %s FOR NO KEY UPDATE", (X,))
        cancelling.start()
        cancelling.join(timeout=0.4)
        own.execute("SELECT queue_release(ARRAY[1]::bigint[])")
    cancelling.join(timeout=20)
    assert faults == []
    assert states() == {3: "ready"}
