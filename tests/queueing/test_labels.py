"""Workers claim what their pools and regions hold; a paused pool hands out nothing."""

from __future__ import annotations

from typing import Any

import pytest

from queueing import control, pool, queue
from queueing.models import Pool, QueueEntry
from queueing.pool import PoolRefused
from queueing.queue import Connection
from tests.queueing.lines import LEASE, claim_ids, enqueue, entry, finish, move_back, new_worker

pytestmark = [pytest.mark.django_db]


def labelled(execution_id: int, pool: str = "default", region: str = "", **more: Any) -> dict[str, Any]:
    return {**entry(execution_id, **more), "pool": pool, "region": region}


def test_a_worker_claims_what_it_serves_and_nothing_else(connection: Connection) -> None:
    enqueue(
        labelled(1, "heavy", "eu-1"), labelled(2, "heavy"), labelled(3, "light", "eu-1"), labelled(4, "heavy", "eu-2")
    )
    assert claim_ids(connection, new_worker(pools=["heavy"], regions=["eu-1"])) == [1, 2], "no region is any region"
    assert claim_ids(connection, new_worker(pools=["light", "other"], regions=["us"])) == []
    assert claim_ids(connection, new_worker(pools=["*"], regions=["eu-2", "eu-3"])) == [4]
    assert claim_ids(connection, new_worker(pools=["light"])) == [3], (
        "a worker that was told nothing serves every region"
    )


def test_an_entry_without_labels_is_in_the_default_pool_and_any_region(connection: Connection) -> None:
    enqueue(entry(1))
    assert claim_ids(connection, new_worker(pools=["heavy"])) == []
    assert claim_ids(connection, new_worker(pools=["default"], regions=["eu-1"])) == [1]


def test_a_paused_pool_hands_out_nothing_and_the_others_go_on(connection: Connection, worker: int) -> None:
    enqueue(labelled(1, "heavy"), labelled(2, "light"), labelled(3, "heavy"))
    assert control.pause_pool("heavy", by="user:op", reason="disk swap") is True
    assert control.pause_pool("heavy", by="user:other") is False, "it is no change"
    assert claim_ids(connection, worker) == [2]
    assert queue.claim(connection, worker, 10, LEASE) == queue.Claim(0, ())
    assert control.resume_pool("heavy", by="user:op") is True
    assert control.resume_pool("heavy", by="user:op") is False
    assert claim_ids(connection, worker) == [1, 3]


@pytest.mark.parametrize("name", ["", "Heavy", "x; DROP TABLE a--", "x" * 64, "a b", "*"])
def test_a_name_that_no_pool_can_have_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(PoolRefused, match="is not the name of a pool") as refused:
        control.pause_pool(name, by="user:op")
    assert refused.value.code == "bad_pool"
    assert not Pool.objects.exists()


def test_of_several_pools_the_one_whose_first_entry_came_first_is_served_first(
    connection: Connection, worker: int
) -> None:
    enqueue(labelled(1, "z"), labelled(2, "a"), labelled(3, "z"), labelled(4, "a", priority=1))
    assert claim_ids(connection, worker, 1) == [4], "its priority is a head start"
    assert claim_ids(connection, worker, 1) == [1]
    assert claim_ids(connection, worker, 1) == [2]
    assert claim_ids(connection, worker) == [3]


def test_the_lines_say_what_waits_for_whom(connection: Connection) -> None:
    new_worker(pools=["heavy"], regions=["eu-1"])
    new_worker(pools=["*"], regions=["eu-2"], draining=True)
    enqueue(
        labelled(1, "heavy", "eu-1"), labelled(2, "heavy", "eu-2"), labelled(3, "heavy", "eu-2"), labelled(4, "light")
    )
    control.pause_pool("light", by="user:op")
    said = [(line.pool, line.region, line.waiting, line.served, line.paused) for line in control.lines()]
    assert said == [
        ("heavy", "eu-1", 1, True, False),
        ("heavy", "eu-2", 2, False, False),  # a draining worker serves nobody
        ("light", "", 1, False, True),
    ]


def test_every_waiting_entry_has_its_reason(connection: Connection) -> None:
    worker = new_worker(pools=["default", "paused"], regions=["eu-1"])
    enqueue(entry(1, 7), entry(2, 7), entry(3, 7))
    assert claim_ids(connection, worker) == [1]
    enqueue(labelled(4, region="us-1"), labelled(5, "paused"), labelled(6), labelled(7), {**entry(8), "losses": 1})
    control.pause_pool("paused", by="user:op", reason="disk swap")

    def said(execution_id: int) -> control.Waiting:
        waiting = control.waiting(execution_id)
        assert waiting is not None
        return waiting

    assert control.waiting(1) is None, "it runs"
    assert (said(2).kind, said(2).asset_id, said(2).other, said(2).position) == ("lock", 7, 1, 1)
    assert (said(3).kind, said(3).other, said(3).position) == ("lock", 1, 2)
    assert (said(4).kind, said(4).region) == ("not_served", "us-1")
    assert (said(5).kind, said(5).by) == ("paused", "user:op: disk swap")
    assert (said(6).kind, said(6).position) == ("worker", 1)
    assert (said(7).kind, said(7).position) == ("worker", 2)
    assert said(8).kind == "apart"
    control.drain(by="user:op", reason="upgrade")
    assert (said(7).kind, said(7).by) == ("draining", "user:op: upgrade")
    control.resume(by="user:op")
    pool.drain_workers(by="user:op")
    assert said(7).kind == "not_served", "its workers are there, and drain"


def test_an_entry_behind_a_waiting_one_names_it(connection: Connection) -> None:
    new_worker(pools=["default"])
    enqueue(labelled(1, "nobody"), entry(2, 7))
    QueueEntry.objects.filter(pk=1).delete()
    enqueue({**labelled(3, "nobody"), "locks": [{"asset_id": 8, "exclusive": True}]}, entry(4, 8))
    waiting = control.waiting(4)
    assert waiting is not None
    assert (waiting.kind, waiting.other, waiting.asset_id, waiting.position) == ("line", 3, 8, 2)


def test_figures_of_a_long_queue_cost_no_more_than_those_of_a_short_one(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO queueing_queueentry (execution_id, tenant_id, state, priority, available_at, place, attempts_left)"
        " SELECT n, 1, CASE WHEN n <= 60000 THEN 'ready' ELSE 'blocked' END, 5, now() - n % 60000 * interval '1 ms',"
        " now(), 3 FROM generate_series(1, 90000) n"
    )
    connection.execute("ANALYZE queueing_queueentry")
    figures = control.queue_figures()
    assert 54_000 < figures["by_state"]["ready"] < 66_000, "about right is near enough"
    assert 27_000 < figures["by_state"]["blocked"] < 33_000
    assert figures["depth"] == sum(figures["by_state"].values())
    assert 59 < figures["waiting_seconds"] < 70
    connection.execute("DELETE FROM queueing_queueentry WHERE execution_id > 5")
    assert control.queue_figures()["depth"] == 5, "and what can be counted is exact"


def test_an_entry_that_waited_for_a_lock_has_not_waited_for_a_worker(connection: Connection, worker: int) -> None:
    enqueue(entry(1, 7), entry(2, 7))
    move_back(3600, 1, 2)
    assert claim_ids(connection, worker) == [1]
    finish(connection, 1)
    (line,) = control.lines()
    assert (line.waiting, line.seconds < 60) == (1, True), "autoscaling would take an hour's wait for a reason to grow"
