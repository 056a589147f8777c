"""Submitting: one execution for one request, however often and by however many at once; all of it or nothing."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import Error, connection, transaction
from django.utils import timezone

from executions.models import Event, Execution, ExecutionPlan, Step, StepTarget
from executions.services import Accepted, Refused, Submission, submit, submit_many
from queueing import control
from queueing.models import AssetLock, QueueEntry
from safety.models import IdempotencyKey, User
from tests.executions.services.requests import (
    FakeWorker,
    ask,
    assert_told_in_order,
    change,
    look,
    make_asset,
    make_user,
    plan,
    together,
)
from tests.queueing.lines import several

pytestmark = [pytest.mark.django_db]


def code_of(answer: object) -> str:
    assert isinstance(answer, Refused), answer
    return answer.code


def test_what_is_accepted_is_all_there(alice: User) -> None:
    make_asset("web1", "development")
    make_asset("web2", "development")
    steps = [change("one", "web1", "web2"), {"id": "b", "tool": "noop"}]
    accepted = ask(alice, *steps, priority=2, reason="why", tags=["t"], trace_id="trace")
    assert (accepted.status, accepted.replay, accepted.approval_level) == ("queued", False, 0)
    execution = Execution.objects.get(pk=accepted.execution_id)
    assert (execution.priority, execution.reason, execution.tags, execution.trace_id) == (2, "why", ["t"], "trace")
    assert (execution.actor, execution.tenant) == (alice, alice.tenant)
    assert [s["id"] for s in execution.plan.document["steps"]] == ["a", "b"]
    targets = StepTarget.objects.filter(execution=execution).order_by("step__position", "position")
    assert list(targets.values_list("step__key", "position", "name", "status")) == [
        ("a", 1, "web1", "pending"), ("a", 2, "web2", "pending"), ("b", 1, "", "pending"),
    ]  # fmt: skip
    entry = QueueEntry.objects.get(pk=execution.pk)
    assert (entry.state, entry.priority, entry.attempts_left) == ("ready", 2, execution.max_attempts)
    assert list(AssetLock.objects.values_list("exclusive", "state")) == [(True, "queued")] * 2
    event = Event.objects.get(execution=execution)
    assert (event.seq, event.kind, event.actor, event.reason) == (1, "execution.submitted", "user:alice", "why")
    assert_told_in_order(execution.pk)


@several
def test_fifty_equal_requests_at_once_are_one_execution(alice: User) -> None:
    submission = Submission(plan(change("once")), idempotency_key="click")
    answers = together(*[lambda: submit(submission, by=alice)] * 50)
    faults = [answer for answer in answers if not isinstance(answer, Accepted)]
    assert faults == []
    assert len({answer.execution_id for answer in answers}) == 1
    assert sum(not answer.replay for answer in answers) == 1
    assert Execution.objects.count() == Event.objects.count() == QueueEntry.objects.count() == 1
    assert Step.objects.count() == StepTarget.objects.count() == ExecutionPlan.objects.count() == 1


def test_the_same_change_asked_for_twice_is_one_execution_and_a_look_is_not(alice: User) -> None:
    assert ask(alice, change("x")).execution_id == ask(alice, change("x", key="other-id")).execution_id
    assert ask(alice, change("x")).replay is True
    assert ask(alice, look()).execution_id != ask(alice, look()).execution_id
    assert ask(alice, look(), idempotency_key="k").execution_id == ask(alice, look(), idempotency_key="k").execution_id


def test_different_people_and_different_changes_are_different_executions(alice: User) -> None:
    bob = make_user("bob", "admin")
    asked = [ask(alice, change("x")), ask(bob, change("x")), ask(alice, change("y"))]
    asked += [ask(alice, change("x"), idempotency_key="k"), ask(bob, change("x"), idempotency_key="k")]
    assert len({one.execution_id for one in asked}) == 5
    assert not any(one.replay for one in asked)


def test_a_key_that_was_used_for_another_plan_is_refused(alice: User) -> None:
    first = ask(alice, change("x"), idempotency_key="k")
    with pytest.raises(Refused) as refused:
        ask(alice, change("y"), idempotency_key="k")
    assert (refused.value.code, refused.value.status) == ("idempotency_key_reused", 422)
    assert Execution.objects.count() == 1
    assert ask(alice, change("x"), idempotency_key="k").execution_id == first.execution_id


def test_after_its_window_a_key_is_free(alice: User) -> None:
    first = ask(alice, change("x"), idempotency_key="k")
    key = IdempotencyKey.objects.get()
    assert timedelta(hours=23) < key.blocks_until - timezone.now() <= timedelta(hours=24)
    IdempotencyKey.objects.update(blocks_until=timezone.now() - timedelta(seconds=1))
    second = ask(alice, change("y"), idempotency_key="k")
    assert second.replay is False
    assert second.execution_id != first.execution_id
    assert IdempotencyKey.objects.get().execution_id == second.execution_id


@several
@pytest.mark.parametrize(("status", "again"), [("succeeded", False), ("failed", True)])
def test_what_failed_can_be_asked_for_again(alice: User, worker: FakeWorker, status: str, again: bool) -> None:
    first = ask(alice, change("x"))
    lease = worker.claim()[first.execution_id]
    assert ask(alice, change("x")).replay is True, "it is claimed"
    worker.start(lease)
    assert ask(alice, change("x")).replay is True, "it runs"
    assert worker.finish(lease, status)
    second = ask(alice, change("x"))
    assert second.replay is not again
    assert (second.execution_id != first.execution_id) is again


@several
def test_of_many_who_repeat_what_failed_one_makes_the_new_execution(alice: User, worker: FakeWorker) -> None:
    first = ask(alice, change("x"))
    lease = worker.claim()[first.execution_id]
    worker.start(lease)
    worker.finish(lease, "failed")
    answers = together(*[lambda: ask(alice, change("x"))] * 12)
    assert {answer.execution_id for answer in answers} == {Execution.objects.exclude(pk=first.execution_id).get().pk}


# --- batches


def test_each_of_a_batch_has_its_own_answer_in_order(alice: User) -> None:
    first = ask(alice, change("known"))
    batch = [
        Submission(plan(change("one"))),
        Submission(plan()),
        Submission(plan(change("known"))),
        Submission(plan(change("one"))),
        Submission(plan(change("two")), idempotency_key="k"),
        Submission(plan(change("three")), idempotency_key="k"),
        Submission(plan(change("four")), priority=11),
        Submission(plan(look())),
        Submission(plan(look())),
        Submission(plan(change("nul")), reason="a\0b"),
        Submission(plan(change("half")), tags=["\ud800"]),
    ]
    answers = submit_many(batch, by=alice)
    assert len(answers) == len(batch)
    new = [answer.execution_id if isinstance(answer, Accepted) else answer.code for answer in answers]
    assert [code_of(answers[number]) for number in (1, 5, 6, 9, 10)] == [
        "invalid_plan", "idempotency_key_reused", "invalid_input", "invalid_input", "invalid_input",
    ]  # fmt: skip
    assert new[2] == first.execution_id
    assert new[0] == new[3]
    assert len({new[number] for number in (0, 2, 4, 7, 8)}) == 5
    replays = [answer.replay for answer in answers if isinstance(answer, Accepted)]
    assert replays == [False, True, True, False, False, False]
    assert Execution.objects.count() == 5
    assert_told_in_order()


@several
def test_batches_with_the_same_keys_in_another_order_do_not_block_each_other(alice: User) -> None:
    for _ in range(3):
        Execution.objects.all().delete()
        IdempotencyKey.objects.all().delete()
        numbers = list(range(60))
        batches = [random.sample(numbers, 60) for _ in range(4)]

        def send(batch: list[int]) -> dict[int, Any]:
            answers = submit_many([Submission(plan(change(f"n{n}")), idempotency_key=f"k{n}") for n in batch], by=alice)
            return {n: a.execution_id for n, a in zip(batch, answers, strict=True) if isinstance(a, Accepted)}

        answers = together(*[partial(send, batch) for batch in batches])
        assert all(isinstance(answer, dict) for answer in answers), answers
        assert all(answer == answers[0] for answer in answers)
        assert Execution.objects.count() == 60


# --- all or nothing


def test_nothing_is_half_there_when_the_transaction_fails(alice: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE queueing_assetlock ADD CONSTRAINT for_this_test CHECK (NOT exclusive)")
    with pytest.raises(Error), transaction.atomic():
        submit_many([Submission(plan(look())), Submission(plan(change("x")), idempotency_key="k")], by=alice)
    for model in (Execution, ExecutionPlan, Step, StepTarget, Event, QueueEntry, AssetLock, IdempotencyKey):
        assert model.objects.count() == 0, model
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE queueing_assetlock DROP CONSTRAINT for_this_test")
    assert ask(alice, change("x"), idempotency_key="k").replay is False


def test_a_draining_queue_takes_nothing_in(alice: User) -> None:
    control.drain(by="user:op")
    with pytest.raises(Refused) as refused:
        ask(alice, look())
    assert (refused.value.code, refused.value.status, refused.value.retry_after) == ("draining", 503, 30)
    assert Execution.objects.count() == 0


def test_what_must_be_approved_is_not_in_the_queue_yet(alice: User) -> None:
    make_asset("prod1")
    accepted = ask(alice, change("x", "prod1"))
    assert (accepted.status, accepted.approval_level) == ("pending_approval", 2)
    assert QueueEntry.objects.count() == AssetLock.objects.count() == 0
    execution = Execution.objects.get()
    assert execution.approval_expires_at is not None
    assert execution.approval_expires_at > timezone.now()


def test_a_time_to_wait_for_delays_the_entry(alice: User) -> None:
    due = timezone.now() + timedelta(hours=2)
    execution_id = ask(alice, change("x"), not_before=due).execution_id
    entry = QueueEntry.objects.get(pk=execution_id)
    assert (entry.state, entry.available_at) == ("delayed", due)
