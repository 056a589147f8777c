"""Cancelling, from every state, and in the very moment in which something else happens."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from executions.models import Event, Execution
from executions.services import Refused, cancel, cancel_many
from executions.states import FINAL_EXECUTION
from queueing import queue
from queueing.models import AssetLock, DeadLetter, QueueEntry
from safety.models import IdempotencyKey, User
from tests.executions.services.requests import (
    FakeWorker,
    ask,
    ask_new,
    assert_out_of_the_queue,
    assert_told_in_order,
    change,
    kinds,
    make_asset,
    make_user,
    status_of,
    steps_of,
    together,
)
from tests.queueing.lines import expire_leases, give_back, several

pytestmark = [pytest.mark.django_db]


def test_what_waits_is_cancelled_at_once_and_lets_the_next_one_on(alice: User) -> None:
    first, behind = ask_new(alice), ask_new(alice)
    QueueEntry.objects.filter(pk=behind).update(state="blocked")
    assert cancel(first, by=alice, reason="wrong machine") == "cancelled"
    execution = Execution.objects.get(pk=first)
    assert (execution.status, execution.status_reason) == ("cancelled", "wrong machine")
    assert execution.finished_at is not None
    assert steps_of(first) == {"a": "skipped"}
    assert kinds(first) == ["execution.submitted", "step.skipped", "execution.cancelled"]
    assert_out_of_the_queue(first)
    assert QueueEntry.objects.get(pk=behind).state == "ready"
    assert IdempotencyKey.objects.get(execution_id=first).blocks_until < timezone.now()
    assert_told_in_order(first)


def test_every_skipped_target_of_a_fan_out_is_told(alice: User) -> None:
    make_asset("m1", "development")
    make_asset("m2", "development")
    one = ask(alice, change("x", "m1", "m2"), change("y", key="b"), {"id": "c", "tool": "noop"}).execution_id
    cancel(one, by=alice, reason="")
    events = Event.objects.filter(execution_id=one).order_by("seq")
    told: list[tuple[str, str, dict[str, Any]]] = [(e.kind, e.actor, e.data or {}) for e in events]
    assert [(kind, data["step"]) for kind, _, data in told[1:-1]] == [
        ("target.skipped", "a"), ("target.skipped", "a"), ("step.skipped", "a"), ("step.skipped", "b"),
        ("step.skipped", "c"),
    ]  # fmt: skip
    assert [data.get("target") for _, _, data in told[1:-1]] == ["m1", "m2", None, "localhost", ""]
    assert {actor for _, actor, _ in told} == {"user:alice"}
    assert_told_in_order(one)


@pytest.mark.parametrize("state", ["delayed", "blocked", "ready"])
def test_every_kind_of_waiting_can_be_cancelled(alice: User, state: str) -> None:
    one = ask_new(alice)
    QueueEntry.objects.filter(pk=one).update(state=state)
    assert cancel(one, by=alice, reason="") == "cancelled"
    assert_out_of_the_queue(one)


def test_what_waits_for_approval_is_cancelled_at_once(alice: User) -> None:
    make_asset("prod1")
    one = ask_new(alice, "prod1")
    assert cancel(one, by=alice, reason="") == "cancelled"
    assert steps_of(one) == {"a": "skipped"}
    assert_told_in_order(one)


@several
def test_what_is_leased_is_asked_to_stop_once(alice: User, worker: FakeWorker) -> None:
    one = ask_new(alice)
    lease = worker.claim()[one]
    assert cancel(one, by=alice, reason="stop it") == "cancelling", "claimed, and not begun yet"
    assert QueueEntry.objects.get(pk=one).cancel_reason == "user:alice: stop it"
    assert cancel(one, by=make_user("op", "operator"), reason="me too") == "cancelling"
    assert kinds(one) == ["execution.submitted", "execution.cancelling"]
    assert queue.wishes(worker.connection, worker.id).cancel == {one: "user:alice: stop it"}
    assert worker.start(lease)
    assert status_of(one) == "cancelling", "the start that was under way does not undo it"
    assert worker.finish(lease, "cancelled", steps="skipped")
    with pytest.raises(Refused) as refused:
        cancel(one, by=alice, reason="")
    assert (refused.value.code, refused.value.status) == ("already_final", 409)
    assert_told_in_order(one)


@several
def test_what_lost_its_worker_can_be_cancelled_while_it_waits_for_the_next(alice: User, worker: FakeWorker) -> None:
    one = ask_new(alice)
    worker.start(worker.claim()[one])
    expire_leases(one)
    assert queue.reap(worker.connection) == [one]
    assert QueueEntry.objects.get(pk=one).state == "delayed"
    began = time.monotonic()
    assert cancel(one, by=alice, reason="") == "cancelling"
    assert time.monotonic() - began < 1
    assert queue.promote(worker.connection) == 1, "its backoff is over: whoever claims it has only to end it"
    assert one in worker.claim()
    assert_told_in_order(one)


@several
def test_what_was_handed_back_is_cancelled_at_once(alice: User, worker: FakeWorker) -> None:
    one = ask_new(alice)
    worker.claim()
    give_back(worker.connection, one)
    assert cancel(one, by=alice, reason="") == "cancelled"
    assert_out_of_the_queue(one)


@several
def test_what_needs_a_person_is_cancelled_with_its_dlq_entry_and_its_remaining_steps(
    alice: User, worker: FakeWorker
) -> None:
    one = ask(alice, change("x"), change("y", key="b")).execution_id
    assert worker.lose_track(worker.claim()[one], "a")
    assert status_of(one) == "needs_attention"
    assert cancel(one, by=alice, reason="gave up") == "cancelled"
    letter = DeadLetter.objects.get(execution_id=one)
    assert (letter.state, letter.closed_by, letter.close_reason) == ("discarded", "user:alice", "gave up")
    assert steps_of(one) == {"a": "unknown", "b": "skipped"}
    assert_told_in_order(one)


def test_who_may_not_cancel_changes_nothing(alice: User) -> None:
    one = ask_new(alice)
    with pytest.raises(Refused) as refused:
        cancel(one, by=make_user("bob", "requester"), reason="")
    assert refused.value.code == "forbidden"
    with pytest.raises(Refused) as refused:
        cancel(one, by=make_user("eve", "admin", tenant="other"), reason="")
    assert refused.value.code == "not_found"
    assert status_of(one) == "queued"
    assert cancel(one, by=make_user("op", "operator"), reason="") == "cancelled"


def test_each_of_many_has_its_own_answer(alice: User) -> None:
    ids = [ask_new(alice) for _ in range(3)]
    cancel(ids[1], by=alice, reason="")
    assert cancel_many([*ids, 99_999], by=alice, reason="all") == {
        ids[0]: "cancelled", ids[1]: "already_final", ids[2]: "cancelled", 99_999: "not_found",
    }  # fmt: skip


# --- races


@several
def test_a_cancel_and_a_finish_at_once_leave_one_end(alice: User, worker: FakeWorker) -> None:
    ends: set[str] = set()
    for _ in range(25):
        one = ask_new(alice)
        lease = worker.claim()[one]
        worker.start(lease)

        def finish(lease: queue.Lease = lease) -> bool:
            time.sleep(random.uniform(0, 0.004))
            return worker.finish(lease, "succeeded", steps="succeeded")

        def stop(one: int = one) -> str:
            time.sleep(random.uniform(0, 0.004))
            return cancel(one, by=alice, reason="")

        answer, finished = together(stop, finish)
        assert finished is True, finished
        assert status_of(one) == "succeeded", "what had been done was done"
        assert answer == "cancelling" or (isinstance(answer, Refused) and answer.code == "already_final"), answer
        ends.add(str(answer)[:10])
        finals = [kind for kind in kinds(one) if kind.removeprefix("execution.") in FINAL_EXECUTION]
        assert finals == ["execution.succeeded"]
        assert ("execution.cancelling" in kinds(one)) is (answer == "cancelling")
        assert_told_in_order(one)
    assert not QueueEntry.objects.exists()
    assert not AssetLock.objects.exists()


@several
def test_a_cancel_and_a_claim_at_once_leave_it_cancelled_or_asked_for(alice: User, worker: FakeWorker) -> None:
    for _ in range(25):
        one = ask_new(alice)

        def claim() -> bool:
            time.sleep(random.uniform(0, 0.003))
            return bool(worker.claim())

        def stop(one: int = one) -> str:
            time.sleep(random.uniform(0, 0.003))
            return cancel(one, by=alice, reason="")

        answer, claimed = together(stop, claim)
        assert (answer, claimed) in [("cancelled", False), ("cancelling", True)], (answer, claimed)
        assert status_of(one) == answer
        if claimed:
            entry = QueueEntry.objects.get(pk=one)
            assert (entry.state, entry.cancel_reason) == ("leased", "user:alice")
            QueueEntry.objects.all().delete()
            AssetLock.objects.all().delete()
        else:
            assert_out_of_the_queue(one)
        assert_told_in_order(one)


@several
def test_a_cancel_that_looked_before_the_start_and_asks_after_it_is_written_all_the_same(
    alice: User, worker: FakeWorker
) -> None:
    one = ask_new(alice)
    lease = worker.claim()[one]
    with ThreadPoolExecutor(1) as pool:
        with worker.connection.transaction():
            worker.connection.execute("SELECT FROM queueing_queueentry FOR UPDATE")
            cancelling = pool.submit(lambda: together(lambda: cancel(one, by=alice, reason="now"))[0])
            time.sleep(0.4)  # it has read that it is queued, and waits to leave its wish
            assert worker.start(lease)
        assert cancelling.result(timeout=20) == "cancelling"
    assert status_of(one) == "cancelling"
    assert kinds(one) == ["execution.submitted", "execution.running", "execution.cancelling"]
    assert_told_in_order(one)


@several
def test_many_cancels_at_once_are_one(alice: User) -> None:
    one = ask_new(alice)
    answers = together(*[lambda: cancel(one, by=alice, reason="now")] * 8)
    assert answers.count("cancelled") == 1
    assert [a.code for a in answers if isinstance(a, Refused)] == ["already_final"] * 7
    assert kinds(one).count("execution.cancelled") == 1
    assert_told_in_order(one)


def test_a_time_to_wait_for_does_not_keep_it_from_being_cancelled(alice: User) -> None:
    one = ask_new(alice, not_before=timezone.now() + timedelta(days=1))
    assert cancel(one, by=alice, reason="") == "cancelled"
    assert_out_of_the_queue(one)
