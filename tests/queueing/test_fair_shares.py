"""Tenants share the workers: one with a long queue does not keep another's single entry waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from queueing import queue
from queueing.models import QueueEntry
from queueing.queue import Connection
from tests.queueing.lines import LEASE, at_once, claim_ids, enqueue, entry, finish, new_worker, several

pytestmark = [pytest.mark.django_db]


def of(tenant: int, execution_id: int, **more: Any) -> dict[str, Any]:
    return {**entry(execution_id, **more), "tenant_id": tenant}


def claimed_by_tenant(connection: Connection, worker: int, limit: int) -> Counter[int]:
    ids = claim_ids(connection, worker, limit)
    return Counter(QueueEntry.objects.filter(pk__in=ids).values_list("tenant_id", flat=True))


def test_a_single_entry_of_another_tenant_passes_a_long_queue(connection: Connection, worker: int) -> None:
    connection.execute(
        "INSERT INTO queueing_queueentry (execution_id, tenant_id, state, priority, available_at, place, attempts_left)"
        " SELECT n, 1, 'ready', 1, now() - interval '1 day', now() - interval '1 day', 3"
        " FROM generate_series(1, 100000) n"
    )
    connection.execute("ANALYZE queueing_queueentry")
    assert claimed_by_tenant(connection, worker, 50) == {1: 50}
    enqueue(of(2, 200_000, priority=10))
    assert claim_ids(connection, worker, 1) == [200_000], "it has nothing running, the other has fifty"
    assert claimed_by_tenant(connection, worker, 50) == {1: 50}, "what a tenant does not use the others have"


def test_tenants_are_filled_up_to_the_same_level(connection: Connection, worker: int) -> None:
    enqueue(*(of(1, number) for number in range(1, 31)))
    assert claimed_by_tenant(connection, worker, 6) == {1: 6}
    enqueue(*(of(2, number) for number in range(101, 131)), *(of(3, number) for number in range(201, 203)))
    # 1 has 6 leases already. Two go to 3, which has no more; 2 is filled up first, then 1 and 2 in turn.
    assert claimed_by_tenant(connection, worker, 8) == {2: 6, 3: 2}
    assert claimed_by_tenant(connection, worker, 10) == {1: 5, 2: 5}


def test_one_slot_at_a_time_goes_to_whoever_has_least(connection: Connection, worker: int) -> None:
    enqueue(*(of(1, number) for number in range(1, 9)), *(of(2, number) for number in range(11, 19)))
    got = [claimed_by_tenant(connection, worker, 1).popitem()[0] for _ in range(6)]
    assert Counter(got) == {1: 3, 2: 3}
    finish(connection, *QueueEntry.objects.filter(state="leased", tenant_id=2).values_list("pk", flat=True))
    assert claimed_by_tenant(connection, worker, 2) == {2: 2}


def test_within_a_tenant_the_first_by_place_goes_first(connection: Connection, worker: int) -> None:
    enqueue(of(1, 1, priority=9), of(2, 2), of(1, 3, priority=2), of(2, 4, priority=1))
    assert claim_ids(connection, worker, 2) == [4, 3]
    assert sorted(claim_ids(connection, worker, 2)) == [1, 2]


@several
def test_many_claimers_and_tenants_leave_nothing_behind_and_take_nothing_twice(
    connections: Callable[[], Connection],
) -> None:
    queue.enqueue([of(number % 7 + 1, number) for number in range(1, 601)])
    claimers = [(connections(), new_worker()) for _ in range(6)]

    def claim_all(connection: Connection, worker: int) -> list[int]:
        ids: list[int] = []
        while (claim := queue.claim(connection, worker, 9, LEASE)).looked:
            ids += [lease.execution_id for lease in claim.leases]
        return ids

    taken = at_once(*(lambda c=c, w=w: claim_all(c, w) for c, w in claimers))
    assert sorted(number for ids in taken for number in ids) == list(range(1, 601))


def test_what_runs_in_another_pool_does_not_count_against_a_tenant(connection: Connection, worker: int) -> None:
    heavy = new_worker(pools=["heavy"])
    enqueue(*({**of(1, number), "pool": "heavy"} for number in range(1, 11)))
    assert claimed_by_tenant(connection, heavy, 10) == {1: 10}
    enqueue(*(of(2, number) for number in range(100, 130)), of(1, 200))
    assert claimed_by_tenant(connection, worker, 4) == {2: 3, 1: 1}


def test_many_pools_get_a_tenant_no_more_than_one_does(connection: Connection, worker: int) -> None:
    enqueue(*({**of(1, number), "pool": f"pool-{number}"} for number in range(1, 21)))
    enqueue(*(of(2, number) for number in range(101, 121)))
    assert claimed_by_tenant(connection, worker, 10) == {1: 5, 2: 5}
    assert claimed_by_tenant(connection, worker, 4) == {1: 2, 2: 2}


def test_workers_of_one_slot_share_fairly_too(connection: Connection) -> None:
    enqueue(*(of(1, number) for number in range(1, 9)), *(of(2, number) for number in range(11, 13)))
    got = [claimed_by_tenant(connection, new_worker(), 1).popitem()[0] for _ in range(4)]
    assert Counter(got) == {1: 2, 2: 2}
