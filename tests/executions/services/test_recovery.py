"""After trouble: retry as a new execution, say what became of a step, requeue, discard; each at most once."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from executions.models import Event, Execution, Step, StepTarget
from executions.services import Refused, discard_dead_letters, requeue_dead_letters, resolve, retry
from queueing.models import DeadLetter, QueueEntry
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
from tests.installations import wait_until
from tests.queueing.lines import several

pytestmark = [pytest.mark.django_db]


def refusal(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Refused) as refused:
        call(*args, **kwargs)
    return refused.value.code


def ended(execution_id: int, status: str, **steps: str) -> int:
    """Let an execution have ended, with these steps like this."""
    QueueEntry.objects.filter(pk=execution_id).delete()
    execution = Execution.objects.get(pk=execution_id)
    Execution.objects.filter(pk=execution_id).update(status=status, finished_at=execution.created_at)
    for key, step_status in steps.items():
        Step.objects.filter(execution=execution, key=key).update(status=step_status)
        StepTarget.objects.filter(execution=execution, step__key=key).update(status=step_status)
    return execution_id


# --- retry


def test_a_retry_goes_on_from_the_step_that_failed(alice: User) -> None:
    steps = [change("one"), change("two", key="b", depends_on=["a"]), change("three", key="c", depends_on=["b"])]
    old = ended(
        ask(alice, *steps, priority=3, tags=["t"]).execution_id, "failed", a="succeeded", b="failed", c="skipped"
    )
    accepted = retry(old, by=alice, reason="again")
    new = Execution.objects.get(pk=accepted.execution_id)
    assert (new.parent_id, new.priority, new.tags, new.reason) == (old, 3, ["t"], "again")
    planned = new.plan.document["steps"]
    assert [(step["id"], step["depends_on"]) for step in planned] == [("b", []), ("c", ["b"])]
    assert steps_of(new.pk) == {"b": "pending", "c": "pending"}
    assert steps_of(old) == {"a": "succeeded", "b": "failed", "c": "skipped"}, "history stays"


def test_a_retry_from_the_start_runs_everything(alice: User) -> None:
    old = ended(ask(alice, change("one"), change("two", key="b")).execution_id, "failed", a="succeeded", b="failed")
    new = Execution.objects.get(pk=retry(old, by=alice, from_start=True).execution_id)
    assert steps_of(new.pk) == {"a": "pending", "b": "pending"}
    assert new.plan_hash == Execution.objects.get(pk=old).plan_hash, "it is the same plan"


def test_steps_that_were_independent_are_independent_when_they_are_retried(alice: User) -> None:
    first, others = change("one"), [change(key, key=key, depends_on=["a"]) for key in ("b", "c")]
    old = ended(ask(alice, first, *others).execution_id, "failed", a="succeeded", b="failed", c="failed")
    new = Execution.objects.get(pk=retry(old, by=alice).execution_id)
    assert [(step["id"], step["depends_on"]) for step in new.plan.document["steps"]] == [("b", []), ("c", [])]
    again = Execution.objects.get(pk=retry(ended(new.pk, "failed", b="failed"), by=alice, from_start=True).execution_id)
    assert again.plan_hash == new.plan_hash


def test_a_retry_runs_only_on_the_targets_that_failed(alice: User) -> None:
    for name in ("m1", "m2", "m3"):
        make_asset(name, "development")
    old = ended(ask(alice, change("x", "m1", "m2", "m3")).execution_id, "failed", a="failed")
    StepTarget.objects.filter(execution_id=old, name="m2").update(status="succeeded")
    new = retry(old, by=alice).execution_id
    assert list(StepTarget.objects.filter(execution_id=new).values_list("name", flat=True)) == ["m1", "m3"]


def mixed(alice: User, *steps: dict[str, Any], status: str = "failed") -> int:
    """An ended execution of steps a and b on m1 to m5: a succeeded on m1, failed on m2, could not reach m3, ran out of
    time on m4 and left m5 alone; b did not begin."""
    for number in range(1, 6):
        make_asset(f"m{number}", "development")
    old = ended(ask(alice, *steps).execution_id, status, a=status, b="skipped")
    for name, came_to, code in (
        ("m1", "succeeded", ""), ("m2", "failed", "exit_code"), ("m3", "failed", "unreachable"),
        ("m4", "timed_out", "timed_out"), ("m5", "skipped", ""),
    ):  # fmt: skip
        StepTarget.objects.filter(execution_id=old, step__key="a", name=name).update(status=came_to, error_code=code)
    return old


MACHINES = ("m1", "m2", "m3", "m4", "m5")


def hosts_of(execution_id: int) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for key, name in (
        StepTarget.objects.filter(execution_id=execution_id).order_by("id").values_list("step__key", "name")
    ):
        found.setdefault(key, []).append(name)
    return {key: " ".join(names) for key, names in found.items()}


def test_a_retry_can_be_of_the_unreachable_of_the_failed_or_of_named_hosts(alice: User) -> None:
    old = mixed(alice, change("x", *MACHINES), change("y", *MACHINES, key="b", depends_on=["a"]))
    assert hosts_of(retry(old, by=alice).execution_id) == {"a": "m2 m3 m4 m5", "b": "m1 m2 m3 m4 m5"}
    away = retry(old, by=alice, only="unreachable").execution_id
    assert hosts_of(away) == {"a": "m3", "b": "m3"}
    assert hosts_of(retry(old, by=alice, only="failed").execution_id) == {"a": "m2 m4", "b": "m2 m4"}
    named = retry(old, by=alice, hosts=["m5", "m2"]).execution_id
    assert hosts_of(named) == {"a": "m2 m5", "b": "m2 m5"}
    assert hosts_of(retry(old, by=alice, hosts=["m4", "m3"], only="failed").execution_id) == {"a": "m4", "b": "m4"}
    again = retry(old, by=alice, hosts=["m2", "m5"])
    assert (again.execution_id, again.replay) == (named, True), "the same hosts in another order are the same request"
    assert Execution.objects.filter(parent_id=old).count() == 5


def test_a_retry_on_chosen_hosts_says_why_it_cannot_be(alice: User) -> None:
    takes = change("{{ steps.a.stdout }}", *MACHINES, key="b", depends_on=["a"])
    old = mixed(alice, change("x", *MACHINES), takes)
    assert refusal(retry, old, by=alice) == "output_not_repeated", "m1's output is not printed again"
    assert hosts_of(retry(old, by=alice, hosts=["m2"]).execution_id) == {"a": "m2", "b": "m2"}
    assert refusal(retry, old, by=alice, hosts=["m2", "nobody"]) == "invalid_input"
    assert refusal(retry, old, by=alice, only="some") == "invalid_input"
    assert refusal(retry, old, by=alice, only="failed", from_start=True) == "invalid_input"
    assert refusal(retry, old, by=alice, hosts=["m2"], only="unreachable") == "nothing_to_retry"


def test_a_retry_on_chosen_hosts_never_runs_a_step_without_the_one_that_it_waits_for(alice: User) -> None:
    """b would run on m5 without a, which has failed, and is on other machines."""
    steps = [change("x", "m1", "m2"), change("y", "m5", key="b", depends_on=["a"])]
    assert refusal(retry, mixed(alice, *steps), by=alice, hosts=["m5"]) == "step_left_out"


def test_a_retry_of_a_partial_success_takes_the_targets_that_failed(alice: User) -> None:
    steps = [change("x", *MACHINES, fan_out={"max_failures": 4, "waves": [1, "rest"]}), change("y", "m1", key="b")]
    old = mixed(alice, *steps, status="succeeded")
    ended(old, "partial", b="succeeded")
    new = retry(old, by=alice).execution_id
    assert hosts_of(new) == {"a": "m2 m3 m4 m5"}
    assert Step.objects.get(execution_id=new).waves == [1, 3]


def test_a_retry_does_again_what_was_undone_where_it_was_undone(alice: User) -> None:
    for name in ("m1", "m2"):
        make_asset(name, "development")
    steps = [change("x", "m1", "m2"), change("y", "m1", "m2", key="b", depends_on=["a"])]
    old = ended(ask(alice, *steps).execution_id, "failed", a="succeeded", b="failed")
    undo = Step.objects.create(execution_id=old, position=3, key="a", tool="shell", kind="rollback", status="succeeded")
    there = StepTarget.objects.get(execution_id=old, step__key="a", step__kind="step", name="m1").asset_id
    StepTarget.objects.create(
        execution_id=old, step=undo, position=1, asset_id=there, name="m1", status="succeeded", attempt=1
    )
    assert hosts_of(retry(old, by=alice).execution_id) == {"a": "m1", "b": "m1 m2"}


def test_a_retry_needs_an_end_something_to_do_and_the_right_to_see_it(alice: User) -> None:
    running = ask_new(alice)
    assert refusal(retry, running, by=alice) == "not_final"
    done = ended(ask_new(alice), "succeeded", a="succeeded")
    assert refusal(retry, done, by=alice) == "nothing_to_retry"
    assert retry(done, by=alice, from_start=True).replay is False
    assert refusal(retry, done, by=make_user("eve", "admin", tenant="other")) == "not_found"
    assert refusal(retry, done, by=make_user("bob", "requester"), from_start=True) == "forbidden"


def test_a_retry_that_would_take_a_done_steps_output_is_refused_with_the_way_out(alice: User) -> None:
    one = ask(alice, change("x"), change("{{ steps.a.stdout }}", key="b")).execution_id
    old = ended(one, "failed", a="succeeded", b="failed")
    with pytest.raises(Refused, match="takes the output of 'a'") as refusal:
        retry(old, by=alice)
    assert refusal.value.code == "output_not_repeated"
    assert retry(old, by=alice, from_start=True).status == "queued"


def test_a_double_click_is_one_retry(alice: User) -> None:
    old = ended(ask_new(alice), "failed", a="failed")
    first, second = retry(old, by=alice), retry(old, by=alice)
    assert (second.execution_id, second.replay) == (first.execution_id, True)


def test_a_retry_is_approved_anew(alice: User) -> None:
    make_asset("prod1")
    old = ended(ask_new(alice, "prod1"), "failed", a="failed")
    assert retry(old, by=alice).status == "pending_approval"


# --- resolve


@pytest.fixture
def unknown(alice: User, worker: FakeWorker) -> int:
    """Step a succeeded nowhere known: its worker died. Step b has not begun."""
    one = ask(alice, change("x"), change("y", key="b")).execution_id
    assert worker.lose_track(worker.claim()[one], "a")
    return one


@several
@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        ("succeeded", "succeeded", "Resolved: I looked"),
        ("failed", "failed", "Resolved: I looked"),
        ("run_again", "pending", ""),
    ],
)
def test_a_person_says_what_became_of_a_step_and_it_goes_on(
    unknown: int, alice: User, outcome: str, status: str, error: str
) -> None:
    assert resolve(unknown, by=alice, step="a", outcome=outcome, reason="I looked") == "queued"
    assert steps_of(unknown) == {"a": status, "b": "pending"}
    step = Step.objects.get(execution_id=unknown, key="a")
    assert (step.error, step.finished_at is None) == (error, outcome == "run_again")
    assert StepTarget.objects.get(step=step).status == status
    event = Event.objects.get(execution_id=unknown, kind=f"step.{status}")
    assert (event.actor, event.reason) == ("user:alice", "I looked")
    assert (event.data or {})["target"] == "localhost"
    letter = DeadLetter.objects.get(execution_id=unknown)
    assert (letter.state, letter.closed_by) == ("resolved", "user:alice")
    entry = QueueEntry.objects.get(pk=unknown)
    assert (entry.state, entry.attempt) == ("ready", 0)
    assert kinds(unknown)[-1] == "execution.requeued"
    assert_told_in_order(unknown)


@several
@pytest.mark.parametrize("other", ["pending", "failed"])
def test_a_step_is_not_all_well_because_its_unknown_targets_are(alice: User, worker: FakeWorker, other: str) -> None:
    make_asset("web1", environment="development")
    make_asset("web2", environment="development")
    one = ask(alice, change("x", targets=["web1", "web2"])).execution_id
    assert worker.lose_track(worker.claim()[one], "a")
    StepTarget.objects.filter(execution_id=one, name="web2").update(status=other)
    assert resolve(one, by=alice, step="a", outcome="succeeded", reason="I looked at web1") == "queued"
    assert steps_of(one) == {"a": "pending"}, "the engine goes on with it and judges it by all of its targets"
    assert dict(StepTarget.objects.filter(execution_id=one).values_list("name", "status")) == {
        "web1": "succeeded",
        "web2": other,
    }


@several
def test_what_changes_while_somebody_answers_is_not_answered(unknown: int, alice: User) -> None:
    """Whoever changes a target in this moment takes no lock on its execution."""
    said: list[str] = []

    def answer() -> None:
        try:
            said.append(refusal(resolve, unknown, by=alice, step="a", outcome="succeeded", reason="I looked"))
        finally:
            connection.close()

    thread = threading.Thread(target=answer)
    with transaction.atomic():
        StepTarget.objects.filter(execution_id=unknown, step__key="a").update(status="failed")
        thread.start()
        wait_until(somebody_waits, what="the answer's wait for the target")
    thread.join(20)
    assert said == ["not_waiting"]
    assert status_of(unknown) == "needs_attention"
    assert steps_of(unknown)["a"] == "unknown"
    assert StepTarget.objects.get(execution_id=unknown, step__key="a").status == "failed"


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchall()[0][0])


@several
def test_it_waits_until_every_unknown_step_is_answered(alice: User, worker: FakeWorker) -> None:
    make_asset("m1", "development")
    make_asset("m2", "development")
    one = ask(alice, change("x", "m1", "m2"), change("y", key="b")).execution_id
    assert worker.lose_track(worker.claim()[one], "a", "b")
    assert resolve(one, by=alice, step="a", outcome="succeeded", reason="seen") == "needs_attention"
    assert kinds(one)[-3:] == ["target.succeeded", "target.succeeded", "step.succeeded"]
    assert not QueueEntry.objects.filter(pk=one).exists()
    assert refusal(resolve, one, by=alice, step="a", outcome="failed", reason="no") == "not_waiting"
    assert resolve(one, by=alice, step="b", outcome="failed", reason="seen") == "queued"
    assert_told_in_order(one)


@several
def test_an_answer_needs_a_known_word_a_reason_and_somebody_who_may(unknown: int, alice: User) -> None:
    answer = {"step": "a", "outcome": "failed", "reason": "seen"}
    assert refusal(resolve, unknown, by=alice, **{**answer, "outcome": "fine"}) == "invalid_input"
    assert refusal(resolve, unknown, by=alice, **{**answer, "reason": "  "}) == "invalid_input"
    assert refusal(resolve, unknown, by=alice, **{**answer, "step": "b"}) == "not_waiting"
    assert refusal(resolve, unknown, by=alice, **{**answer, "step": "zzz"}) == "not_waiting"
    assert refusal(resolve, unknown, by=make_user("bob", "requester"), **answer) == "forbidden"
    assert refusal(resolve, unknown, by=make_user("eve", "admin", tenant="other"), **answer) == "not_found"
    assert refusal(resolve, ask_new(alice), by=alice, **answer) == "not_waiting"
    assert status_of(unknown) == "needs_attention"


@several
def test_of_two_answers_at_once_one_counts(unknown: int, alice: User) -> None:
    answers = together(
        lambda: resolve(unknown, by=alice, step="a", outcome="succeeded", reason="one"),
        lambda: resolve(unknown, by=alice, step="a", outcome="run_again", reason="two"),
        lambda: discard_dead_letters([DeadLetter.objects.get().pk], by=alice, reason="three"),
    )
    assert not [a for a in answers if isinstance(a, BaseException) and not isinstance(a, Refused)], answers
    letter = DeadLetter.objects.get()
    discarded = answers[2] == {letter.pk: "discarded"}
    assert answers.count("queued") + discarded == 1
    assert letter.state == ("discarded" if discarded else "resolved")
    assert status_of(unknown) == ("failed" if discarded else "queued")
    assert QueueEntry.objects.count() == (0 if discarded else 1)
    assert_told_in_order(unknown)


@several
def test_the_last_of_two_answers_at_once_sends_it_on(alice: User, worker: FakeWorker) -> None:
    for number in range(4):
        one = ask(alice, change(f"x{number}"), change("y", key="b")).execution_id
        assert worker.lose_track(worker.claim()[one], "a", "b")
        answer = partial(resolve, one, by=alice, outcome="succeeded", reason="seen")
        assert sorted(together(partial(answer, step="a"), partial(answer, step="b"))) == ["needs_attention", "queued"]
        assert DeadLetter.objects.get(execution_id=one).state == "resolved"
        lease = worker.claim()[one]
        assert worker.start(lease)
        assert worker.finish(lease, "failed")
        assert_told_in_order(one)


# --- the DLQ


@pytest.fixture
def dead(alice: User, worker: FakeWorker) -> int:
    """The DLQ entry of an execution on which the engine failed."""
    one = ask(alice, change("x"), change("y", key="b")).execution_id
    assert worker.give_up(worker.claim()[one])
    return DeadLetter.objects.get(execution_id=one).pk


@several
def test_a_requeued_execution_starts_anew_with_all_its_attempts(dead: int, alice: User, worker: FakeWorker) -> None:
    assert requeue_dead_letters([dead], by=alice, reason="mended") == {dead: "requeued"}
    letter = DeadLetter.objects.get(pk=dead)
    assert (letter.state, letter.close_reason) == ("requeued", "mended")
    execution = Execution.objects.get(pk=letter.execution_id)
    assert (execution.status, execution.error_code, execution.deadline_at) == ("queued", "", None)
    (lease,) = worker.claim().values()
    assert (lease.attempt, lease.attempts_left) == (1, execution.max_attempts - 1)
    assert worker.give_up(lease), "it can come back"
    assert DeadLetter.objects.filter(execution_id=execution.pk, state="open").count() == 1
    assert requeue_dead_letters([dead], by=alice) == {dead: "moved_on"}, "that entry is closed"
    assert_told_in_order(execution.pk)


@several
def test_an_entry_is_requeued_or_discarded_once_however_many_try(dead: int, alice: User) -> None:
    calls = [lambda: requeue_dead_letters([dead], by=alice)] * 4
    calls += [lambda: discard_dead_letters([dead], by=alice, reason="enough")] * 4
    answers = [answer[dead] for answer in together(*calls)]
    assert sorted(answers)[1:] == ["moved_on"] * 7 or sorted(answers)[:7] == ["moved_on"] * 7, answers
    done = "requeued" if "requeued" in answers else "discarded"
    letter = DeadLetter.objects.get(pk=dead)
    assert letter.state == done
    assert QueueEntry.objects.count() == (1 if done == "requeued" else 0)
    assert status_of(letter.execution_id) == ("queued" if done == "requeued" else "failed")
    assert_told_in_order(letter.execution_id)


@several
def test_what_is_discarded_has_failed_and_may_be_asked_for_again(dead: int, alice: User) -> None:
    one = DeadLetter.objects.get(pk=dead).execution_id
    assert discard_dead_letters([dead, 9999], by=alice, reason="no use") == {dead: "discarded", 9999: "moved_on"}
    execution = Execution.objects.get(pk=one)
    assert (execution.status, execution.status_reason) == ("failed", "no use")
    assert steps_of(one) == {"a": "skipped", "b": "skipped"}
    assert ask(alice, change("x"), change("y", key="b")).replay is False
    assert not IdempotencyKey.objects.filter(execution_id=one).exists()
    assert_out_of_the_queue(one)
    assert_told_in_order(one)


@several
def test_an_unknown_outcome_is_not_requeued_and_strangers_change_nothing(unknown: int, alice: User) -> None:
    letter = DeadLetter.objects.get(execution_id=unknown).pk
    assert requeue_dead_letters([letter], by=alice) == {letter: "unknown_outcome"}
    bob, eve = make_user("bob", "requester"), make_user("eve", "admin", tenant="other")
    for verb in (requeue_dead_letters, discard_dead_letters):
        assert verb([letter], by=bob, reason="x") == {letter: "forbidden"}
        assert verb([letter], by=eve, reason="x") == {letter: "moved_on"}
    assert DeadLetter.objects.get(pk=letter).state == "open"
    assert status_of(unknown) == "needs_attention"
