"""One table of legal moves: every pair is tried, in Python and in the database, and each legal one once at a time."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
from django.db import IntegrityError, transaction

from executions.models import Event, Execution, Step
from executions.services.records import conclude, move, remark
from executions.states import (
    EXECUTION_MOVES,
    FINAL_EXECUTION,
    FINAL_STEP,
    NOT_BLOCKING,
    STEP_MOVES,
    ExecutionStatus,
    StepStatus,
    sources_of,
)
from safety.models import IdempotencyKey, User
from tests.executions.services.requests import ask_new, assert_told_in_order, make_user, status_of, steps_of, together
from tests.queueing.lines import several

pytestmark = [pytest.mark.django_db]

E = ExecutionStatus
PAIRS = list(itertools.product(E, E))


@pytest.fixture
def alice(db: None) -> User:
    return make_user("alice", "admin")


def in_state(execution_id: int, status: str) -> Execution:
    execution = Execution.objects.get(pk=execution_id)
    end = execution.created_at if status in FINAL_EXECUTION else None
    Execution.objects.filter(pk=execution_id).update(status=status, finished_at=end)
    return execution


def test_every_legal_move_writes_status_and_event_and_every_other_is_refused(alice: User) -> None:
    one = ask_new(alice)
    seq = 1
    for old, new in PAIRS:
        in_state(one, old)
        if (old, new) not in EXECUTION_MOVES:
            with pytest.raises(KeyError):
                move(one, old, new, actor="user:alice")
            with pytest.raises(KeyError):
                conclude(one, old, new, actor="user:alice", reason="")
            assert (status_of(one), Event.objects.count()) == (old, seq)
            continue
        assert move(one, old, new, actor="user:alice", reason="because", data={"more": 1}) is True
        seq += 1
        execution = Execution.objects.get(pk=one)
        assert (execution.status, execution.status_reason, execution.last_seq) == (new, "because", seq)
        assert (execution.finished_at is not None) is (new in FINAL_EXECUTION)
        event = Event.objects.get(execution_id=one, seq=seq)
        assert (event.kind, event.actor, event.reason) == (EXECUTION_MOVES[old, new], "user:alice", "because")
        assert event.data == {"from": old, "to": new, "more": 1}
    assert seq == 1 + len(EXECUTION_MOVES)


def test_a_move_from_a_state_that_it_is_not_in_changes_nothing(alice: User) -> None:
    one = ask_new(alice)
    for old, new in EXECUTION_MOVES:
        in_state(one, E.RUNNING if old != E.RUNNING else E.QUEUED)
        before = status_of(one)
        assert move(one, old, new, actor="system") is False
        if new in FINAL_EXECUTION:
            assert conclude(one, old, new, actor="system", reason="") is False
        assert status_of(one) == before
    assert move(one + 1000, E.QUEUED, E.CANCELLED, actor="system") is False, "nor does one of nothing"
    assert Event.objects.count() == 1
    assert steps_of(one) == {"a": "pending"}


def test_an_end_without_success_frees_the_request(alice: User) -> None:
    for old, new in EXECUTION_MOVES:
        one = ask_new(alice)
        in_state(one, old)
        before = IdempotencyKey.objects.get(execution_id=one).blocks_until
        move(one, old, new, actor="system")
        freed = IdempotencyKey.objects.get(execution_id=one).blocks_until < before
        assert freed is (new in NOT_BLOCKING), new


def test_a_move_that_is_rolled_back_leaves_no_event(alice: User) -> None:
    one = ask_new(alice)
    with transaction.atomic():
        assert move(one, E.QUEUED, E.CANCELLED, actor="system")
        transaction.set_rollback(True)
    assert status_of(one) == "queued"
    assert Event.objects.count() == 1
    assert move(one, E.QUEUED, E.RUNNING, actor="system")
    assert_told_in_order(one)


@several
def test_of_moves_at_once_exactly_one_wins(alice: User) -> None:
    targets = [new for old, new in EXECUTION_MOVES if old == E.RUNNING]
    for _ in range(5):
        one = ask_new(alice)
        in_state(one, E.RUNNING)
        moves = [partial(move, one, E.RUNNING, new, actor=f"test:{new}") for new in targets]
        answers = together(*moves, partial(remark, one, "remark", actor="test"))
        assert sorted(answers[:-1]) == [False] * (len(targets) - 1) + [True]
        assert status_of(one) == targets[answers.index(True)]
        events = Event.objects.filter(execution_id=one).order_by("seq")
        assert [event.seq for event in events] == [1, 2, 3]
        assert {event.kind for event in events} == {
            "execution.submitted", "remark", EXECUTION_MOVES[E.RUNNING, status_of(one)],
        }  # fmt: skip


def test_the_tables_of_moves_are_closed() -> None:
    for old, new in EXECUTION_MOVES:
        assert old not in FINAL_EXECUTION, "what has ended does not move"
        assert old != new
    for old, new in STEP_MOVES:
        assert old not in FINAL_STEP - {StepStatus.UNKNOWN}, "what has ended is never run again"
        assert old != new
    assert FINAL_EXECUTION - {E.SUCCEEDED} == NOT_BLOCKING
    reached: set[str] = {E.PENDING_APPROVAL, E.QUEUED}
    for _ in E:
        reached |= {new for old, new in EXECUTION_MOVES if old in reached}
    assert reached == set(E), "every state can be reached"
    assert set(sources_of(E.SUCCEEDED)) == {E.RUNNING, E.CANCELLING}, "success comes from having run"


def test_the_database_knows_the_states_and_what_final_means(alice: User) -> None:
    one = ask_new(alice)
    execution = Execution.objects.get(pk=one)
    for status in E:
        end = execution.created_at
        wrong = None if status in FINAL_EXECUTION else end
        with pytest.raises(IntegrityError, match="finished_if_and_only_if_final"), transaction.atomic():
            Execution.objects.filter(pk=one).update(status=status, finished_at=wrong)
    with pytest.raises(IntegrityError, match="execution_status_known"), transaction.atomic():
        Execution.objects.filter(pk=one).update(status="fine")
    with pytest.raises(IntegrityError, match="step_status_known"), transaction.atomic():
        Step.objects.update(status="done")
