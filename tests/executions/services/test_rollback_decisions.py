"""What people decide about executions that are, or are to be, rolled back."""

from __future__ import annotations

import pytest
from django.db import connection

from executions.models import Execution, Step, StepTarget
from executions.services import Refused, cancel, requeue_dead_letters, resolve
from executions.services.entries import entries_of
from executions.services.policy import risk_of
from executions.states import ANSWER_MOVES, RERUN_MOVES, STEP_MOVES
from queueing.models import AssetLock, DeadLetter, QueueEntry, RequeueFrom
from safety.models import User
from tests.executions.services.requests import (
    FakeWorker,
    ask,
    assert_told_in_order,
    change,
    kinds,
    make_asset,
    status_of,
    steps_of,
)
from tests.queueing.lines import several

pytestmark = [pytest.mark.django_db]

UNDO = {"tool": "shell", "inputs": {"command": "undo"}}


@pytest.fixture
def dead(alice: User, worker: FakeWorker) -> int:
    """An execution whose step failed, and whose rollback did, too, on one of two machines."""
    for name in ("web-1", "web-2"):
        make_asset(name, environment="development")
    one = ask(alice, change("x", "web-1", "web-2", rollback=UNDO)).execution_id
    assert worker.give_up(worker.claim()[one])
    Step.objects.filter(execution_id=one).update(status="failed")
    StepTarget.objects.filter(execution_id=one).update(status="failed", attempt=1)
    step = Step.objects.create(
        execution_id=one, position=2, key="a", tool="shell", kind="rollback", status="failed", error_code="exit_code"
    )
    for position, status in ((1, "succeeded"), (2, "failed")):
        StepTarget.objects.create(
            execution_id=one, step=step, position=position, name=f"web-{position}", status=status, attempt=1
        )
    DeadLetter.objects.filter(execution_id=one).update(reason="rollback_failed")
    return one


def targets_of(execution_id: int, kind: str) -> list[str]:
    rows = StepTarget.objects.filter(execution_id=execution_id, step__kind=kind).order_by("position")
    return list(rows.values_list("status", flat=True))


@several
def test_tried_again_is_the_rollback_and_never_what_was_being_undone(dead: int, alice: User) -> None:
    entry = DeadLetter.objects.get(execution_id=dead).pk
    assert requeue_dead_letters([entry], by=alice, reason="x") == {entry: "unknown_outcome"}
    outcome = requeue_dead_letters([entry], by=alice, reason="the disk is back", start_from=RequeueFrom.FAILED_STEP)
    assert outcome == {entry: "requeued"}
    assert list(Step.objects.filter(execution_id=dead).order_by("position").values_list("kind", "status")) == [
        ("step", "failed"), ("rollback", "pending")
    ]  # fmt: skip
    assert (targets_of(dead, "step"), targets_of(dead, "rollback")) == (["failed"] * 2, ["succeeded", "pending"])
    assert_told_in_order(dead)


@several
@pytest.mark.parametrize(
    ("outcome", "step", "target", "code"),
    [
        ("succeeded", "succeeded", "succeeded", ""),
        ("failed", "failed", "failed", "not_undone"),
        ("run_again", "pending", "pending", ""),
    ],
)
def test_a_person_says_what_becomes_of_a_rollback_that_failed(
    dead: int, alice: User, outcome: str, step: str, target: str, code: str
) -> None:
    assert resolve(dead, by=alice, step="a", outcome=outcome, reason="I looked") == "queued"
    rollback = Step.objects.get(execution_id=dead, kind="rollback")
    assert (rollback.status, rollback.error_code) == (step, code)
    assert targets_of(dead, "rollback") == ["succeeded", target]
    assert targets_of(dead, "step") == ["failed", "failed"]
    assert not rollback.waits_for_answer
    assert ("rollback.let_stand" in kinds(dead)) is (outcome == "failed")
    assert_told_in_order(dead)
    with pytest.raises(Refused) as refused:
        resolve(dead, by=alice, step="a", outcome=outcome, reason="I looked")
    assert refused.value.code == "not_waiting"


def test_the_moves_of_an_answer_are_a_table_of_their_own_that_the_engine_makes_none_of() -> None:
    assert not ANSWER_MOVES.keys() & (STEP_MOVES.keys() | RERUN_MOVES.keys())
    assert {new for _, new in ANSWER_MOVES} == {"succeeded"}


@several
@pytest.mark.parametrize("waits_for", ["approval", "worker"])
def test_what_has_run_and_waits_is_undone_when_it_is_cancelled(alice: User, worker: FakeWorker, waits_for: str) -> None:
    """And what has done nothing that says how it is undone ends at once."""
    one = ask(alice, change("x", rollback=UNDO), change("y", key="b")).execution_id
    other = ask(alice, change("z"), change("w", key="b", rollback=UNDO)).execution_id
    for execution_id in (one, other):
        StepTarget.objects.filter(execution_id=execution_id, step__key="a").update(status="succeeded", attempt=1)
    if waits_for == "approval":
        AssetLock.objects.filter(execution_id__in=[one, other]).delete()
        QueueEntry.objects.filter(pk__in=[one, other]).delete()
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO executions_pendingapproval (execution_id, asked_at, attempt, attempts_left, losses)"
                " SELECT unnest(%s), statement_timestamp(), 2, 1, 0",
                [[one, other]],
            )
        Execution.objects.filter(pk__in=[one, other]).update(status="pending_approval")
    assert cancel(other, by=alice, reason="not any more") == "cancelled"
    assert cancel(one, by=alice, reason="not any more") == "cancelling"
    assert cancel(one, by=alice, reason="again") == "cancelling"
    assert status_of(one) == "cancelling"
    lease = worker.claim()[one]
    if waits_for == "approval":
        assert (lease.attempt, lease.attempts_left) == (3, 0), "it comes back with the attempts that it had"
    assert steps_of(one) == {"a": "pending", "b": "pending"}
    assert_told_in_order(one, other)


def test_what_only_reads_but_is_undone_by_a_change_has_its_machine_alone_after_an_approval(alice: User) -> None:
    make_asset("web-1", environment="development")
    reads = {"id": "a", "tool": "info_display", "inputs": {"kind": "disk"}, "targets": ["web-1"], "rollback": UNDO}
    one = ask(alice, reads).execution_id
    [entry] = entries_of([one])
    assert [lock["exclusive"] for lock in entry["locks"]] == [True]
    document = Execution.objects.get(pk=one).plan.document
    assert risk_of(document, "modify").changing_steps == 1
    del document["steps"][0]["rollback"]["action_class"]  # as a release before this one stored it
    assert risk_of(document, "modify").changing_steps == 1
