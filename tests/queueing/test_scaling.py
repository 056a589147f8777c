"""Autoscaling: what is decided from which load, never outside the limits, never to and fro; and that it is written."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from queueing import control, fleet, pool, scaling
from queueing.models import Cluster, QueueEntry, ScalingDecision
from queueing.queue import Connection
from queueing.scaling import COUNTED, WAIT_TARGET, Limits, Load, Scaling, decide
from tests.queueing.lines import enqueue, entry, new_worker

FEW = Limits(1, 8)


def load(processes: int = 2, depth: int = 0, waited: float = 0.0, running: int = 0, slots: int | None = None) -> Load:
    return Load(processes, depth, waited, running, processes * 10 if slots is None else slots)


@pytest.mark.parametrize(
    ("given_load", "limits", "quiet", "after", "says"),
    [
        (load(2), FEW, False, 2, ""),
        (load(2), FEW, True, 1, "Nothing waits, and 0 of 20 slots are in use."),
        (load(2, running=6), FEW, True, 2, ""),  # more than half of the ten slots that would be left
        (load(2, running=5), FEW, True, 1, "5 of 20 slots"),
        (load(1), FEW, True, 1, ""),
        (load(2), Limits(2, 8), True, 2, ""),
        (load(2, depth=40), FEW, False, 2, ""),
        (load(2, depth=41), FEW, False, 3, "41 entries wait, more than 2 for each of 20 slots."),
        (load(2, depth=1, waited=10.0), FEW, False, 2, ""),
        (load(2, depth=1, waited=10.4), FEW, False, 3, "1 entry waits, the oldest for 10 s; none should for more than"),
        (load(6, depth=9, waited=11), FEW, False, 8, "9 entries wait"),
        (load(6, depth=9, waited=11), Limits(1, 20), False, 9, "9 entries wait"),  # half as many again
        (load(8, depth=9, waited=11), FEW, False, 8, ""),
        (load(8, depth=9, waited=11), FEW, True, 8, ""),
        (load(2, depth=COUNTED), FEW, False, 3, f"{COUNTED} entries or more wait"),
        (load(2, depth=1, slots=0), FEW, False, 3, "more than 2 for each of 0 slots"),  # no worker is there yet
        (load(0), Limits(2, 8), False, 2, "The minimum is 2."),
        (load(9, depth=500), FEW, False, 8, "The maximum is 8."),
        (load(1, depth=500), Limits(3, 3), False, 3, "The minimum is 3."),
    ],
)
def test_a_load_leads_to_a_number_with_a_reason(
    given_load: Load, limits: Limits, quiet: bool, after: int, says: str
) -> None:
    number, reason = decide(given_load, limits, quiet=quiet)
    assert number == after
    assert says in reason
    assert bool(reason) == (number != given_load.processes), "a change has a reason, and a reason is a change"


counts = st.integers(0, 20)


@given(
    st.builds(
        Load,
        processes=counts,
        depth=st.integers(0, COUNTED),
        waiting_seconds=st.floats(0, 1e6),
        running=st.integers(0, 10_000),
        slots=st.integers(0, 10_000),
    ),
    st.tuples(st.integers(1, 20), st.integers(0, 20)).map(lambda pair: Limits(pair[0], pair[0] + pair[1])),
    st.booleans(),
)
def test_whatever_the_load_the_limits_are_kept(any_load: Load, limits: Limits, quiet: bool) -> None:
    after, reason = decide(any_load, limits, quiet=quiet)
    if reason:
        assert limits.minimum <= after <= limits.maximum
    else:
        assert after == any_load.processes
        assert limits.minimum <= after <= limits.maximum


@given(
    processes=st.integers(1, 20),
    depth=st.integers(0, 200),
    waited=st.floats(0, 100),
    running=st.integers(0, 200),
    per_worker=st.integers(1, 50),
    limits=st.tuples(st.integers(1, 20), st.integers(0, 20)).map(lambda pair: Limits(pair[0], pair[0] + pair[1])),
)
def test_a_load_that_stays_leads_to_a_number_that_stays(
    processes: int, depth: int, waited: float, running: int, per_worker: int, limits: Limits
) -> None:
    """The same load looked at again and again moves the number in one direction, and then no more."""
    numbers = [processes]
    for _ in range(60):
        now = numbers[-1]
        slots = now * per_worker
        busy = min(running, slots)
        quiet = depth == 0
        after, reason = decide(Load(now, depth, waited if depth else 0.0, busy, slots), limits, quiet=quiet)
        if not reason:
            break
        numbers.append(after)
    else:
        pytest.fail(f"it never came to rest: {numbers}")
    inside = [number for number in numbers if limits.minimum <= number <= limits.maximum]
    steps = [later - earlier for earlier, later in pairwise(inside)]
    assert not (any(step > 0 for step in steps) and any(step < 0 for step in steps)), numbers


@given(st.integers(2, 20), st.integers(1, 50), st.integers(0, 1000))
def test_a_step_down_is_not_undone_by_what_it_brings_about(processes: int, per_worker: int, running: int) -> None:
    """What runs still fits into half of what is left: nothing comes to wait that would lead to a step up."""
    after, reason = decide(
        Load(processes, 0, 0.0, min(running, processes * per_worker), processes * per_worker), FEW_OR_MANY, quiet=True
    )
    if reason:
        assert min(running, processes * per_worker) <= after * per_worker
        again, _ = decide(Load(after, 0, 0.0, running, after * per_worker), FEW_OR_MANY, quiet=False)
        assert again == after


FEW_OR_MANY = Limits(1, 20)


# -- with a cluster in the database -----------------------------------------------------------------------------------


@pytest.fixture
def ours(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv(fleet.CLUSTER_VARIABLE, "ours")
    fleet.open_cluster(connection)
    Cluster.objects.filter(name="ours").update(processes=2)
    new_worker(cluster="ours", slots=10)
    new_worker(cluster="ours", slots=10)
    return Cluster.objects.get(name="ours")


class Clock:
    """Looks as often as it is told that time has passed."""

    def __init__(self, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.connection = connection
        monkeypatch.setattr(scaling, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.scaling = Scaling(_stepped_at=self.now, _busy_at=self.now)

    def look_after(self, seconds: float) -> None:
        self.now += seconds
        self.scaling.look(self.connection)


@pytest.fixture
def clock(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(connection, monkeypatch)


def processes() -> int:
    return Cluster.objects.values_list("processes", flat=True).get(name="ours")


def waiting_for(seconds: float, **labels: Any) -> None:
    number = (QueueEntry.objects.count() or 0) + 1
    enqueue({**entry(number), **labels})
    QueueEntry.objects.filter(pk=number).update(ready_at=timezone.now() - timedelta(seconds=seconds))


LONG = WAIT_TARGET.total_seconds() + 5
STEP = settings.LEASE.total_seconds() / 3


@pytest.mark.django_db
def test_a_decision_is_carried_out_and_written_with_what_it_was_made_from(ours: Cluster, clock: Clock) -> None:
    pool.autoscale("on", minimum=1, maximum=4, by="user:op")
    waiting_for(LONG)
    clock.look_after(STEP + 1)
    decision = ScalingDecision.objects.latest("pk")
    assert (decision.before, decision.after, decision.by, decision.applied) == (2, 3, "autoscale", True)
    assert (decision.depth, decision.running, decision.slots) == (1, 0, 20)
    assert LONG <= decision.waiting_seconds < LONG + 5
    assert decision.reason.startswith("1 entry waits, the oldest for 1")
    assert processes() == 3
    clock.look_after(2)
    assert processes() == 3, "a new worker has time to show what it changes"
    clock.look_after(STEP)
    clock.look_after(STEP + 1)
    assert processes() == 4
    clock.look_after(10 * STEP)
    assert processes() == 4, "the maximum"


@pytest.mark.django_db
def test_a_dry_run_says_once_what_it_would_do_and_changes_nothing(ours: Cluster, clock: Clock) -> None:
    pool.autoscale("dry_run", minimum=1, maximum=4, by="user:op")
    ScalingDecision.objects.all().delete()
    waiting_for(LONG)
    for _ in range(5):
        clock.look_after(STEP + 1)
    (decision,) = ScalingDecision.objects.all()
    assert (decision.before, decision.after, decision.applied) == (2, 3, False)
    assert processes() == 2


@pytest.mark.django_db
def test_going_down_waits_for_two_leases_without_a_queue_and_goes_by_one(ours: Cluster, clock: Clock) -> None:
    Cluster.objects.update(processes=4)
    pool.autoscale("on", minimum=2, maximum=8, by="user:op")
    waiting_for(1)
    clock.look_after(STEP + 1)
    QueueEntry.objects.all().delete()
    seen = [processes()]
    for _ in range(30):
        clock.look_after(STEP / 2)
        seen.append(processes())
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {4, 3, 2}
    assert seen.count(4) >= 12, "two leases are twelve looks"


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["drained", "paused", "others", "off"])
def test_what_more_workers_would_not_help_with_is_no_reason_for_more(
    ours: Cluster, clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pool.autoscale("off" if kind == "off" else "on", minimum=1, maximum=4, by="user:op")
    if kind == "others":
        Cluster.objects.update(pools=["mine"])
    waiting_for(LONG)
    if kind == "drained":
        control.drain(by="user:op")
    if kind == "paused":
        control.pause_pool("default", by="user:op")
    clock.look_after(STEP + 1)
    assert processes() == 2


@pytest.mark.django_db
def test_a_number_that_somebody_set_meanwhile_stands(
    ours: Cluster, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision was made from two processes: when there are to be five by then, it is void and is not written."""
    pool.autoscale("on", minimum=1, maximum=8, by="user:op")
    ScalingDecision.objects.all().delete()
    waiting_for(LONG)
    write = Scaling._write

    def after_somebody_else(*args: Any, **fields: Any) -> None:
        Cluster.objects.update(processes=5)
        write(*args, **fields)

    monkeypatch.setattr(Scaling, "_write", after_somebody_else)
    clock.look_after(STEP + 1)
    assert processes() == 5
    assert not ScalingDecision.objects.exists()


@pytest.mark.django_db
def test_a_minimum_beyond_what_a_host_has_room_for_is_what_it_has_room_for(
    ours: Cluster, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "WORKER_MAX_PROCESSES", 3)
    pool.autoscale("on", minimum=6, maximum=8, by="user:op")
    for _ in range(6):
        clock.look_after(STEP + 1)
    assert processes() == 3
    assert ScalingDecision.objects.filter(by="autoscale").count() == 1, "and no to and fro"


@pytest.mark.django_db
def test_a_drained_host_does_not_grow(ours: Cluster, clock: Clock) -> None:
    pool.autoscale("on", minimum=1, maximum=4, by="user:op")
    pool.drain_workers(by="user:op", host=ours.host)
    waiting_for(LONG)
    clock.look_after(STEP + 1)
    assert processes() == 2
    pool.undrain_workers(by="user:op", host=ours.host)
    clock.look_after(STEP + 1)
    assert processes() == 3
