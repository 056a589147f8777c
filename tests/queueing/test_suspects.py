"""What a worker has died of is run apart from others: in small company, and on its last attempt alone."""

from __future__ import annotations

import pytest

from queueing import control, queue
from queueing.queue import Connection, Suspects
from tests.queueing.lines import LEASE, claim_ids, enqueue, entry, new_worker

pytestmark = [pytest.mark.django_db]


def suspects(connection: Connection, worker: int, which: Suspects, limit: int = 10) -> list[int]:
    return [lease.execution_id for lease in queue.claim(connection, worker, limit, LEASE, which).leases]


def test_no_worker_claims_a_suspect_beside_others(connection: Connection, worker: int) -> None:
    enqueue({**entry(1), "losses": 1}, entry(2))
    assert claim_ids(connection, worker) == [2]
    assert queue.claim(connection, worker, 10, LEASE) == queue.Claim(0, ()), "nor does it look at it again and again"


def test_one_on_its_last_attempt_is_not_claimed_into_company(connection: Connection, worker: int) -> None:
    enqueue({**entry(2, max_attempts=2), "losses": 1}, {**entry(1, max_attempts=1), "losses": 2}, entry(3))
    assert suspects(connection, worker, Suspects.SPARE) == [2]
    assert suspects(connection, worker, Suspects.ANY) == [1]
    assert suspects(connection, worker, Suspects.ANY) == [], "and those of which no worker died are not its business"


def test_suspects_obey_labels_and_drains(connection: Connection, worker: int) -> None:
    enqueue({**entry(1), "losses": 1, "pool": "heavy"})
    assert suspects(connection, new_worker(pools=["light"]), Suspects.ANY) == []
    control.pause_pool("heavy", by="user:op")
    assert suspects(connection, worker, Suspects.ANY) == []
    control.resume_pool("heavy", by="user:op")
    control.drain(by="user:op")
    assert suspects(connection, worker, Suspects.ANY) == []
    control.resume(by="user:op")
    assert suspects(connection, worker, Suspects.ANY) == [1]


def test_one_on_its_last_attempt_is_not_passed_by_those_behind_it(connection: Connection, worker: int) -> None:
    enqueue({**entry(1, max_attempts=3), "losses": 1}, {**entry(2, max_attempts=1), "losses": 2})
    enqueue({**entry(3, max_attempts=3), "losses": 1})
    assert suspects(connection, worker, Suspects.SPARE) == [1], "3 waits until 2 has run alone"
    assert suspects(connection, worker, Suspects.ANY, limit=1) == [2]
    assert suspects(connection, worker, Suspects.SPARE) == [3]
