"""Deciding on DLQ entries: from where an execution goes on, with what it comes back, and who decided when two did."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from executions.dead_letter_queries import Selection, attempts_of, preview, summary, visible_entries
from executions.models import Event, OutputChunk, Step, StepTarget
from executions.services import Refused, cancel, discard_dead_letters, requeue_dead_letters, resolve
from executions.states import RERUN_MOVES, RERUN_STEPS, STEP_MOVES, StepStatus
from queueing.models import Attempt, DeadLetter, QueueEntry
from safety.models import User
from tests.executions.services.parked import execution_of, park
from tests.executions.services.requests import (
    FakeWorker,
    ask,
    ask_new,
    assert_told_in_order,
    change,
    kinds,
    make_asset,
    make_user,
    status_of,
    steps_of,
    together,
)
from tests.queueing.lines import several

pytestmark = [pytest.mark.django_db]

S = StepStatus


def letter_of(execution_id: int) -> int:
    return DeadLetter.objects.values_list("pk", flat=True).get(execution_id=execution_id, state="open")


@pytest.fixture
def torn(alice: User, worker: FakeWorker) -> int:
    """Step a succeeded, b is unknown on web2 and failed on web3, c failed and lets go on, d has not begun."""
    for name in ("web1", "web2", "web3", "web4"):
        make_asset(name, "development")
    one = ask(
        alice,
        change("1"),
        change("2", "web1", "web2", "web3", "web4", key="b"),
        change("3", key="c", on_failure="continue"),
        change("4", key="d", depends_on=["b"]),
    ).execution_id
    assert worker.lose_track(worker.claim()[one], "b")
    targets = StepTarget.objects.filter(execution_id=one)
    for key, status in (("a", "succeeded"), ("c", "failed")):
        Step.objects.filter(execution_id=one, key=key).update(status=status, error="x")
        targets.filter(step__key=key).update(status=status, error="x")
    for name, status in (("web1", "succeeded"), ("web3", "failed"), ("web4", "skipped")):
        targets.filter(name=name).update(status=status, error="x", attempt=2)
    return one


def targets_of(execution_id: int) -> dict[str, str]:
    rows = StepTarget.objects.filter(execution_id=execution_id).order_by("step__position", "position")
    return {f"{key} {name}": status for key, name, status in rows.values_list("step__key", "name", "status")}


@several
def test_from_the_failed_step_runs_again_what_failed_or_is_unknown_where_it_did_not_succeed(
    torn: int, alice: User
) -> None:
    letter = letter_of(torn)
    assert requeue_dead_letters([letter], by=alice) == {letter: "unknown_outcome"}, "as it is: a person has to look"
    assert requeue_dead_letters([letter], by=alice, reason="idempotent", start_from="failed_step") == {
        letter: "requeued"
    }
    assert steps_of(torn) == {"a": "succeeded", "b": "pending", "c": "pending", "d": "pending"}
    assert targets_of(torn) == {
        "a localhost": "succeeded", "b web1": "succeeded", "b web2": "pending", "b web3": "pending",
        "b web4": "pending", "c localhost": "pending", "d localhost": "pending",
    }  # fmt: skip
    again = StepTarget.objects.get(execution_id=torn, name="web3")
    assert (again.error, again.attempt, again.finished_at) == ("", 2, None), "attempts are counted on"
    events = Event.objects.filter(execution_id=torn, actor="user:alice", kind__endswith=".pending").order_by("seq")
    told = [(e.kind, (e.data or {}).get("target"), (e.data or {})["from"], e.reason) for e in events]
    assert told == [
        ("target.pending", "web2", "unknown", "idempotent"),
        ("target.pending", "web3", "failed", "idempotent"),
        ("target.pending", "web4", "skipped", "idempotent"),
        ("step.pending", None, "unknown", "idempotent"),
        ("step.pending", "localhost", "failed", "idempotent"),
    ]
    requeued = Event.objects.get(execution_id=torn, kind="execution.requeued")
    assert (requeued.data or {})["start_from"] == "failed_step"
    assert QueueEntry.objects.get(pk=torn).state == "ready"
    assert_told_in_order(torn)


def test_running_again_wants_a_reason(alice: User) -> None:
    (letter,) = park(alice)
    with pytest.raises(Refused) as refused:
        requeue_dead_letters([letter], by=alice, reason=" ", start_from="failed_step")
    assert refused.value.code == "invalid_input"
    assert DeadLetter.objects.get(pk=letter).state == "open"


@several
def test_what_was_left_in_flight_by_a_fault_of_the_engine_is_run_again_only_from_the_failed_step(
    alice: User, worker: FakeWorker
) -> None:
    as_it_is, again = park(alice, 2, step_status="running")
    requeue_dead_letters([as_it_is], by=alice)
    requeue_dead_letters([again], by=alice, reason="looked", start_from="failed_step")
    assert set(steps_of(execution_of(as_it_is)).values()) == {"running"}, "its next worker settles it"
    assert set(steps_of(execution_of(again)).values()) == {"pending"}


def test_the_moves_of_running_again_are_a_table_of_their_own_that_no_success_is_in() -> None:
    assert not RERUN_MOVES.keys() & STEP_MOVES.keys(), "the engine makes none of them"
    assert {new for _, new in RERUN_MOVES} == {S.PENDING}
    may = {old for old, new in (*RERUN_MOVES, *STEP_MOVES) if new == S.PENDING}
    assert may >= RERUN_STEPS
    assert S.SUCCEEDED not in may | RERUN_STEPS


@several
def test_what_used_up_its_attempts_comes_back_apart_from_others(alice: User, worker: FakeWorker) -> None:
    make_asset("m1", "development")
    (suspect,) = park(alice, 1, "m1", reason="attempts_exhausted")
    (other,) = park(alice, reason="engine_error")
    requeue_dead_letters([suspect, other], by=alice)
    losses = dict(QueueEntry.objects.values_list("execution_id", "losses"))
    assert losses == {execution_of(suspect): 1, execution_of(other): 0}
    assert list(worker.claim()) == [execution_of(other)], "ordinary workers leave it alone"


@several
def test_it_comes_back_with_the_locks_pool_and_region_of_its_plan_and_at_once(alice: User, worker: FakeWorker) -> None:
    make_asset("db1", "development")
    one = ask(alice, change("x", "db1"), {"id": "l", "tool": "noop", "targets": ["localhost"]}).execution_id
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE executions_executionplan SET document = document || '{\"pool\": \"db\", \"region\": \"eu\"}'"
            " WHERE execution_id = %s", [one]
        )  # fmt: skip
        cursor.execute("SELECT asset_id, exclusive FROM queueing_assetlock WHERE execution_id = %s", [one])
        locks = set(cursor.fetchall())
        lease = worker.claim()[one]
        assert worker.give_up(lease)
        cursor.execute("UPDATE executions_execution SET not_before = now() + interval '1 day' WHERE id = %s", [one])
        requeue_dead_letters([letter_of(one)], by=alice)
        cursor.execute("SELECT asset_id, exclusive FROM queueing_assetlock WHERE execution_id = %s", [one])
        assert set(cursor.fetchall()) == locks
        assert len(locks) == 2
    entry = QueueEntry.objects.get(pk=one)
    assert (entry.pool, entry.region, entry.state) == ("db", "eu", "ready")


@several
def test_two_operators_with_overlapping_choices_decide_each_entry_once(alice: User) -> None:
    """Both lock entries in the order of their numbers, whatever the order they were named in: nobody waits for ever."""
    for _ in range(4):
        letters = park(alice, 60)
        calls = [
            partial(requeue_dead_letters, letters[:50], by=alice),
            partial(requeue_dead_letters, letters[10:][::-1], by=alice),
            partial(discard_dead_letters, letters[5:55], by=alice, reason="enough"),
        ]
        answers = together(*calls)
        assert not [answer for answer in answers if isinstance(answer, BaseException)], answers
        for letter in letters:
            told = [answer[letter] for answer in answers if letter in answer]
            assert sum(outcome in ("requeued", "discarded") for outcome in told) == 1
            done = next(outcome for outcome in told if outcome != "moved_on")
            assert DeadLetter.objects.get(pk=letter).state == done
            assert status_of(execution_of(letter)) == ("queued" if done == "requeued" else "failed")
    assert_told_in_order()


@several
def test_whoever_decides_takes_the_entry_before_its_execution(alice: User, worker: FakeWorker) -> None:
    """Resolve, cancel, requeue and discard at once: one of them counts, and the database finds no deadlock."""
    for number in range(6):
        one = ask(alice, change(f"x{number}")).execution_id
        assert worker.lose_track(worker.claim()[one], "a")
        letter = letter_of(one)
        answers = together(
            partial(resolve, one, by=alice, step="a", outcome="run_again", reason="seen"),
            partial(cancel, one, by=alice, reason="no"),
            partial(requeue_dead_letters, [letter], by=alice, reason="again", start_from="failed_step"),
            partial(discard_dead_letters, [letter], by=alice, reason="enough"),
        )
        faults = [a for a in answers if isinstance(a, BaseException) and not isinstance(a, Refused)]
        assert not faults, faults
        assert DeadLetter.objects.get(pk=letter).state != "open"
        assert sum(kind in ("execution.requeued", "execution.failed") for kind in kinds(one)) <= 1
        assert_told_in_order(one)


def test_a_decision_on_many_costs_the_same_number_of_statements_as_on_one(alice: User) -> None:
    make_asset("m1", "development")
    few, many = park(alice, 2, "m1"), park(alice, 80, "m1")
    counts = []
    for letters in (few, many):
        with CaptureQueriesContext(connection) as told:
            requeue_dead_letters(letters, by=alice)
        counts.append(len(told))
    assert counts[0] == counts[1] <= 18


def test_only_those_who_may_decide_and_only_in_their_tenant(alice: User) -> None:
    (letter,) = park(alice)
    eve, bob, olga = (
        make_user("eve", "admin", tenant="other"), make_user("bob", "requester"), make_user("olga", "operator")
    )  # fmt: skip
    viewer = make_user("vera", "viewer")
    for somebody, outcome in ((eve, "moved_on"), (bob, "forbidden"), (viewer, "forbidden")):
        assert requeue_dead_letters([letter], by=somebody) == {letter: outcome}
        assert discard_dead_letters([letter], by=somebody, reason="x") == {letter: outcome}
    assert requeue_dead_letters([letter], by=olga) == {letter: "requeued"}


# --- reading


def test_entries_are_seen_by_those_who_see_the_execution(alice: User) -> None:
    letters = set(park(alice, 2))
    nobody = make_user("nora")
    assert set(visible_entries(make_user("vera", "viewer")).values_list("pk", flat=True)) == letters
    assert not visible_entries(nobody).exists()
    assert not visible_entries(make_user("eve", "admin", tenant="other")).exists()


def test_a_summary_counts_by_reason_and_by_what_errors_have_in_common(alice: User) -> None:
    park(alice, 3, error="The engine failed: KeyError: 'a'", hours_old=30)
    newest = park(alice, 2, error="The engine failed: KeyError: 'b'")[-1]
    park(alice, 4, reason="attempts_exhausted", error="Each of its 3 attempts ended with the loss of its worker.")
    discard_dead_letters(park(alice, 1), by=alice, reason="closed ones do not count")
    told = summary(alice.tenant_id)
    assert (told.total, told.capped, told.new_today) == (9, False, 6)
    assert told.by_reason == {
        "outcome_unknown": 0, "rollback_failed": 0, "attempts_exhausted": 4, "engine_error": 5,
    }  # fmt: skip
    assert [(group.count, group.pattern) for group in told.groups] == [
        (5, "The engine failed: KeyError: <name>"),
        (4, "Each of its <n> attempts ended with the loss of its worker."),
    ]
    assert (told.groups[0].newest, told.groups[0].execution_id) == (newest, execution_of(newest))
    assert told.oldest_at is not None
    assert told.oldest_at == DeadLetter.objects.order_by("created_at")[0].created_at
    empty = summary(make_user("eve", "admin", tenant="other").tenant_id)
    assert (empty.total, empty.groups, empty.oldest_at) == (0, [], None)


def test_a_summary_of_very_many_says_that_there_are_more(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executions.dead_letter_queries.COUNTED", 5)
    park(alice, 9)
    park(alice, 2, reason="attempts_exhausted")
    told = summary(alice.tenant_id)
    assert (told.total, told.capped) == (7, True)
    assert told.by_reason["attempts_exhausted"] == 2


@several
def test_a_preview_says_what_would_be_met_and_writes_nothing(alice: User, worker: FakeWorker) -> None:
    for name in ("m1", "m2", "m3"):
        make_asset(name, "development")
    held = ask_new(alice, "m1", "m2")
    assert held in worker.claim()
    park(alice, 3, "m1")
    park(alice, 2, "m2", step_status="unknown", reason="outcome_unknown")
    park(alice, 1, "m3")
    before = list(DeadLetter.objects.order_by("pk").values())
    met = preview(Selection(), by=alice)
    assert (met.matched, met.looked_at, met.unknown, met.forbidden, met.locked_assets) == (6, 6, 2, 0, 2)
    assert met.up_to == max(DeadLetter.objects.values_list("pk", flat=True))
    assert preview(Selection(reason="engine_error"), by=alice).matched == 4
    assert preview(Selection(q="nothing like it"), by=alice).up_to is None
    assert preview(Selection(), by=make_user("vera", "viewer")).forbidden == 6
    assert list(DeadLetter.objects.order_by("pk").values()) == before
    assert status_of(held) == "queued"


# --- attempts


@several
def test_every_attempt_is_kept_with_its_output_also_after_a_requeue(alice: User, worker: FakeWorker) -> None:
    """Numbers begin anew with a requeue: the second attempt number 1 must not be taken for the first."""
    one = ask(alice, change("x")).execution_id
    target = StepTarget.objects.get(execution_id=one)
    for round_ in ("first", "second"):
        lease = worker.claim()[one]
        assert worker.commit(
            lease,
            execution={"status": "running", "from": ["queued"], "start": True},
            event={"kind": "execution.running", "data": {"fence": lease.token, "to": "running"}},
        )
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE executions_execution SET last_seq = last_seq + 60 WHERE id = %s RETURNING last_seq", [one]
            )
            (last,) = cursor.fetchone()
        OutputChunk.objects.bulk_create(
            OutputChunk(
                execution_id=one, seq=last - 59 + number, step_target=target, stream="stdout",
                text=f"{round_} line {number}\n",
            )
            for number in range(60)
        )  # fmt: skip
        assert worker.give_up(lease)
        requeue_dead_letters([letter_of(one)], by=alice)
    stories = attempts_of(one)
    assert [(story.attempt.number, story.attempt.end) for story in stories] == [(1, "dead"), (1, "dead")]
    assert stories[0].output.splitlines()[-1] == "first line 59"
    assert stories[1].output.splitlines()[-1] == "second line 59"
    assert "second" not in stories[0].output
    assert "first" not in stories[1].output
    assert all(story.cut for story in stories)
    assert Attempt.objects.filter(execution_id=one).count() == 2
