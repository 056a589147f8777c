"""The pool as operators steer it: numbers shared out over clusters, drains, and who is silent."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connections as django_connections
from django.db.models import F
from django.utils import timezone

from queueing import control, fleet, pool, queue
from queueing.models import Cluster, Pool, QueueControl, QueueEntry, ScalingDecision, Worker
from queueing.pool import PoolRefused, Scaled
from queueing.queue import Connection
from tests.queueing.lines import LEASE, at_once, claim_ids, enqueue, entry, new_worker, several

pytestmark = [pytest.mark.django_db]


def cluster(name: str, *, room: int = 8, processes: int = 2, host: str = "", **fields: Any) -> Cluster:
    return Cluster.objects.create(
        name=name, host=host or name, pid=1, version="0", processes=processes, initial_processes=processes,
        max_processes=room, **fields,
    )  # fmt: skip


def beat(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Let every live cluster beat, as its broker does; return the share that each takes."""
    shares = {}
    for name in Cluster.objects.filter(stopped_at=None).values_list("name", flat=True):
        monkeypatch.setenv(fleet.CLUSTER_VARIABLE, name)
        shares[name] = fleet.beat(connection)
    return shares


def refused(call: Callable[[], object]) -> PoolRefused:
    with pytest.raises(PoolRefused) as caught:
        call()
    assert caught.value.how_to_fix
    return caught.value


def test_a_number_is_shared_out_as_each_cluster_works_it_out_for_itself(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Doors tell beforehand, and write down, what the clusters then do: both by the same rule."""
    chosen = random.Random(7)
    for _ in range(60):
        Cluster.objects.all().delete()
        rooms = [chosen.randint(1, 9) for _ in range(chosen.randint(1, 6))]
        for number, room in enumerate(rooms):
            cluster(f"c{number}", room=room, started_at=timezone.now() - timedelta(minutes=60 - number))
        wanted = chosen.randint(1, sum(rooms))
        QueueControl.objects.update(processes=wanted)
        shares = list(beat(connection, monkeypatch).values())
        assert sum(shares) == wanted
        assert shares == pool.share_out(wanted, rooms), (wanted, rooms)
        assert max(shares) - min(shares) <= 1 or any(
            share == room for share, room in zip(shares, rooms, strict=True)
        ), "evenly, where there is room"


def test_scaling_says_what_it_changes_and_writes_it_down(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster("a", room=3)
    cluster("b", processes=1)
    QueueControl.objects.update(autoscale="on")
    assert pool.scale(6, by="user:op", dry_run=True) == Scaled(before=3, after=6, clusters=2)
    control = QueueControl.objects.get()
    assert (control.processes, control.autoscale, ScalingDecision.objects.count()) == (None, "on", 0)
    assert pool.scale(6, by="user:op", reason="Patch night.") == Scaled(before=3, after=6, clusters=2)
    assert QueueControl.objects.get().autoscale == "off", "a number by hand ends autoscaling"
    told = [(d.host, d.before, d.after, d.by, d.reason) for d in ScalingDecision.objects.order_by("host")]
    why = "Scaled to 6 in all. Patch night."
    assert told == [("a", 2, 3, "user:op", why), ("b", 1, 3, "user:op", why)]
    assert pool.scale(4, by="user:op").before == 6, "what was asked for last counts, before any cluster has looked"
    assert beat(connection, monkeypatch) == {"a": 2, "b": 2}


def test_a_number_that_cannot_be_is_refused_with_a_way_out_and_changes_nothing(db: None) -> None:
    assert refused(lambda: pool.scale(2, by="x")).code == "no_cluster"
    cluster("a", room=3)
    cluster("gone", room=50, last_beat_at=timezone.now() - settings.LEASE - timedelta(seconds=1))
    cluster("stopped", room=50, stopped_at=timezone.now())
    too_many = refused(lambda: pool.scale(4, by="x"))
    assert too_many.code == "too_many_processes"
    assert "room for 3" in str(too_many)
    for few in (0, -1):
        assert refused(partial(pool.scale, few, by="x")).code == "too_few_processes"
    for low, high in ((0, 4), (3, 2), (-1, -1), (1, 257)):
        assert refused(partial(pool.autoscale, "on", minimum=low, maximum=high, by="x")).code == "bad_limits"
    control = QueueControl.objects.get()
    assert (control.processes, control.autoscale, control.min_processes, control.max_processes) == (None, "off", 1, 8)
    assert not ScalingDecision.objects.exists()


@several
def test_of_two_who_scale_at_once_one_comes_after_the_other(connections: Callable[[], Connection]) -> None:
    cluster("a", processes=2)
    cluster("b", processes=2)

    def scale(number: int) -> Scaled:
        try:
            return pool.scale(number, by=f"user:{number}")
        finally:
            django_connections.close_all()

    for _ in range(5):
        ScalingDecision.objects.all().delete()
        QueueControl.objects.update(processes=4)
        six, ten = at_once(partial(scale, 6), partial(scale, 10))
        assert (six.before, ten.before) in ((4, 6), (10, 4)), "the later one starts from what the earlier one set"
        last = 10 if ten.before == 6 else 6
        assert QueueControl.objects.get().processes == last
        newest = ScalingDecision.objects.order_by("-pk")[:2]
        assert {decision.after for decision in newest} == {last // 2}, "and is the last in the book"


def test_when_a_cluster_comes_or_goes_the_others_take_their_part(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster("a")
    cluster("b")
    pool.scale(6, by="x")
    assert beat(connection, monkeypatch) == {"a": 3, "b": 3}
    cluster("c")
    assert beat(connection, monkeypatch) == {"a": 2, "b": 2, "c": 2}
    Cluster.objects.filter(name="a").update(stopped_at=timezone.now())
    assert beat(connection, monkeypatch) == {"b": 3, "c": 3}
    Cluster.objects.filter(name="b").update(last_beat_at=timezone.now() - settings.LEASE - timedelta(seconds=1))
    monkeypatch.setenv(fleet.CLUSTER_VARIABLE, "c")
    assert fleet.beat(connection) == 6, "one that is silent for a lease has no part in it"
    assert beat(connection, monkeypatch) == {"b": 3, "c": 3}, "and has it again when it beats"


def test_autoscaling_takes_over_from_the_number_and_a_dry_run_leaves_it(db: None) -> None:
    cluster("a")
    pool.scale(5, by="x")
    pool.autoscale("dry_run", minimum=2, maximum=4, by="user:op", reason="Only to see.")
    control = QueueControl.objects.get()
    assert (control.autoscale, control.processes, control.min_processes, control.max_processes) == ("dry_run", 5, 2, 4)
    assert ScalingDecision.objects.latest("pk").reason == "Autoscaling dry run, between 2 and 4. Only to see."
    pool.autoscale("on", minimum=2, maximum=4, by="user:op")
    assert QueueControl.objects.get().processes is None
    pool.autoscale("off", minimum=2, maximum=4, by="user:op")
    assert QueueControl.objects.get().autoscale == "off"


def test_drained_workers_claim_nothing_and_say_who_drained_them(connection: Connection) -> None:
    first, second = new_worker(host="a"), new_worker(host="b")
    enqueue(entry(1), entry(2))
    assert pool.drain_workers(by="user:op", reason="disk", ids=[first]) == 1
    assert pool.drain_workers(by="user:op", ids=[first]) == 0, "it is no change"
    assert Worker.objects.get(pk=first).note == "Draining, by user:op: disk."
    assert claim_ids(connection, first) == []
    assert claim_ids(connection, second, 1) == [1]
    assert pool.drain_workers(by="user:op") == 1, "the other one"
    assert claim_ids(connection, second) == []
    assert pool.undrain_workers(by="user:op", host="a") == 1
    assert (Worker.objects.get(pk=first).note, Worker.objects.get(pk=second).draining) == ("", True)
    assert claim_ids(connection, first) == [2]
    assert (pool.running_on(ids=[first]), pool.running_on(host="b"), pool.running_on()) == (1, 1, 2)


def test_draining_what_is_not_there_is_refused_and_drains_nobody(db: None) -> None:
    there = new_worker(host="a")
    ended = new_worker(host="b", stopped_at=timezone.now(), state="stopped")
    for verb in (pool.drain_workers, pool.undrain_workers):
        unknown = refused(partial(verb, by="x", ids=[there, ended]))
        assert (unknown.code, str(ended) in str(unknown)) == ("unknown_worker", True)
        assert refused(partial(verb, by="x", host="b")).code == "unknown_host"
    assert not Worker.objects.filter(draining=True).exists()
    assert pool.drain_workers(by="x", ids=[]) == 0, "none is not all"


def test_what_an_ended_worker_left_still_counts_as_running(connection: Connection) -> None:
    worker = new_worker(host="a")
    enqueue(entry(1))
    assert claim_ids(connection, worker) == [1]
    fleet.end(connection, worker, "lost", "It died.")
    assert pool.running_on(host="a") == 1, "until its lease is over its command may still run"


def test_clusters_show_who_is_at_work_and_who_is_silent(db: None) -> None:
    cluster("a", processes=3)
    cluster("b", last_beat_at=timezone.now() - settings.SILENT_AFTER - timedelta(seconds=1))
    cluster("old", stopped_at=timezone.now())
    new_worker(cluster="a", running=4)
    new_worker(cluster="a", draining=True, running=1)
    new_worker(cluster="a", state="stopping", running=2)
    new_worker(cluster="a", isolation=True)
    new_worker(cluster="a", stopped_at=timezone.now(), state="lost")
    first, second = pool.manned_clusters()
    assert (first.cluster.name, first.alive, first.draining, first.stopping) == ("a", 2, 1, 1)
    assert (first.running, first.slots, first.silent) == (7, 20, False)
    assert (second.alive, second.running, second.silent) == (0, 0, True)


def test_a_worker_is_silent_before_its_leases_run_out(db: None) -> None:
    beats, misses = new_worker(), new_worker()
    new_worker(stopped_at=timezone.now(), state="lost", last_beat_at=timezone.now() - timedelta(days=1))
    Worker.objects.filter(pk=misses).update(last_beat_at=F("last_beat_at") - settings.LEASE + timedelta(seconds=1))
    assert [worker.pk for worker in pool.silent_workers()] == [misses]
    assert beats not in [worker.pk for worker in pool.silent_workers()]


def test_to_resume_a_pool_that_was_never_paused_is_no_change_and_leaves_no_trace(db: None) -> None:
    assert control.resume_pool("typing-error", by="x") is False
    assert not Pool.objects.exists()
    assert control.pause_pool("heavy", by="user:op", reason="backup") is True
    assert control.pool_state("heavy") == control.PoolState("heavy", True, "user:op", "backup", 0, known=False)
    assert control.resume_pool("heavy", by="x") is True
    assert control.pool_state("heavy").paused is False


def test_a_pool_is_known_when_a_worker_names_it_or_something_waits_in_it(connection: Connection) -> None:
    new_worker(pools=["named", "other"])
    enqueue({**entry(1), "pool": "used"})
    enqueue({**entry(2), "pool": "running"})
    assert claim_ids(connection, new_worker(pools=["running"])) == [2]
    known = {name: control.pool_state(name).known for name in ("named", "used", "running", "default", "nobody")}
    assert known == {"named": True, "used": True, "running": True, "default": True, "nobody": False}
    assert control.pool_state("running").running == 1


@several
def test_a_pool_paused_while_it_is_claimed_hands_out_nothing_after_the_pause(
    connections: Callable[[], Connection],
) -> None:
    """Whatever the pause and a claim do at once: what was leased was leased before the pause was answered."""
    worker = new_worker()
    claimer, watcher = connections(), connections()

    def pause() -> int:
        try:
            control.pause_pool("default", by="x")
            row = watcher.execute("SELECT count(*) FROM queueing_queueentry WHERE state = 'leased'").fetchone()
            return int(row[0]) if row else 0
        finally:
            django_connections.close_all()

    enqueue(*(entry(number) for number in range(1, 61)))
    for _ in range(10):
        _, at_pause = at_once(lambda: [queue.claim(claimer, worker, 3, LEASE) for _ in range(2)], pause)
        assert queue.claim(claimer, worker, 3, LEASE) == queue.Claim(0, ())
        leased = watcher.execute("SELECT count(*) FROM queueing_queueentry WHERE state = 'leased'").fetchone()
        assert leased is not None
        assert leased[0] - at_pause <= 3, "at most the claim that was under way"
        control.resume_pool("default", by="x")


def test_reasons_of_a_page_are_those_of_each_and_cost_no_more_statements(
    connection: Connection, django_assert_max_num_queries: Any
) -> None:
    worker = new_worker(pools=["default"], regions=["eu-1"])
    enqueue(entry(1, 7, 8), entry(2, 7), entry(3, 7, shared=[8]))
    assert claim_ids(connection, worker, 1) == [1]
    assert claim_ids(connection, worker) == [], "the others wait for it"
    enqueue(*(entry(number) for number in range(4, 30)), {**entry(30), "region": "us"}, {**entry(31), "losses": 1})
    enqueue(entry(32, not_before=timezone.now() + timedelta(hours=1)))
    entries = list(QueueEntry.objects.exclude(state="leased"))
    assert len(entries) == 31
    with django_assert_max_num_queries(6):
        together = control.waiting_of_all(entries)
    assert {kind.kind for kind in together.values()} == {"lock", "worker", "not_served", "apart", "not_before"}
    for one in entries:
        alone = control.waiting_of(one)
        assert abs(alone.seconds - together[one.pk].seconds) < 5
        assert together[one.pk] == replace(alone, seconds=together[one.pk].seconds)
    assert together[2].position == 1
    assert together[29].position == 26
    short = control.waiting_of_all(entries, most=5)
    assert (short[29].position, short[29].beyond, short[6].beyond) == (6, True, False)


def test_what_stands_still_is_said_in_sentences(connection: Connection) -> None:
    new_worker(pools=["default", "heavy"], regions=["eu-1"])
    enqueue(*({**entry(number), "region": "eu-2"} for number in range(1, 15)))
    enqueue({**entry(20), "pool": "gpu"}, {**entry(21), "pool": "gpu", "region": "us"}, {**entry(22), "pool": "heavy"})
    enqueue(entry(23))
    control.pause_pool("heavy", by="user:op")
    assert control.line_sentences(control.lines()) == [
        "No worker serves region eu-2: 14 executions wait.",
        "No worker serves pool gpu: 1 execution waits.",
        "No worker serves pool gpu in region us: 1 execution waits.",
        "The pool heavy is paused: 1 execution waits.",
    ]
    said = control.line_sentences(control.lines(), "user:op: upgrade")
    assert said[0] == "The queue is draining (user:op: upgrade): 1 execution waits in pool default."
    assert len(said) == 5


def test_what_a_drained_host_starts_drains_as_well(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise scaling up, or what is run apart, would begin work on a host that is about to be taken away."""
    cluster("a", host="ops-1", processes=3)
    cluster("b", host="ops-2", processes=3)

    def started(name: str, *, isolation: bool = False) -> bool:
        monkeypatch.setenv(fleet.CLUSTER_VARIABLE, name)
        monkeypatch.setattr(socket, "gethostname", lambda: {"a": "ops-1", "b": "ops-2"}[name])
        registration = fleet.register(connection, 10, [], isolation=isolation)
        assert registration is not None
        return Worker.objects.values_list("draining", flat=True).get(pk=registration.worker_id)

    assert not started("a")
    pool.drain_workers(by="user:op", host="ops-1")
    assert started("a")
    assert started("a", isolation=True)
    assert not started("b")
    assert pool.undrain_workers(by="user:op", host="ops-1") == 3
    assert not started("a")
    pool.drain_workers(by="user:op")
    assert started("b")
    assert [(one.cluster.host, one.draining, one.as_dict()["drained"]) for one in pool.manned_clusters()] == [
        ("ops-1", 3, True), ("ops-2", 2, True)
    ]  # fmt: skip


@several
def test_a_worker_that_registers_while_its_host_is_drained_drains(
    connections: Callable[[], Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fleet.CLUSTER_VARIABLE, "a")
    opened = [connections() for _ in range(4)]

    def drain() -> None:
        try:
            pool.drain_workers(by="user:op", host=socket.gethostname())
        finally:
            django_connections.close_all()

    for _ in range(10):
        Worker.objects.all().delete()
        Cluster.objects.all().delete()
        cluster("a", processes=4, host=socket.gethostname())
        answers = at_once(drain, *(partial(fleet.register, one, 10, [], isolation=False) for one in opened))
        assert not [answer for answer in answers if isinstance(answer, Exception)]
        assert Worker.objects.filter(draining=True).count() == 4
