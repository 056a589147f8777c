"""One decision on many DLQ entries: who works at it, how fast, what each entry came to, and what a crash leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from executions.dead_letter_queries import Selection
from executions.models import Event, ExecutionPlan
from executions.services import Refused, cancel_batch, carry_out, start_batch, work_at_batches
from executions.services.dead_letter_batches import DEFAULT_PACE, SMALL, visible_batches
from executions.services.dead_letters import AT_ONCE
from queueing.models import DeadLetter, DeadLetterBatch, DeadLetterBatchItem, QueueEntry
from safety.accounts import set_roles
from safety.models import User
from tests.executions.services.parked import execution_of, park
from tests.executions.services.requests import assert_told_in_order, make_user, status_of, together
from tests.installations import PROJECT
from tests.queueing.lines import several

pytestmark = [pytest.mark.django_db]


def begin(by: User, verb: str = "requeue", selection: Selection | None = None, **options: object) -> DeadLetterBatch:
    batch = start_batch(selection or Selection(), verb=verb, by=by, reason="mended", **options)  # type: ignore[arg-type]
    assert batch is not None
    return batch


def later(batch: DeadLetterBatch, seconds: float) -> None:
    """Let so much time pass for the pace of a batch."""
    DeadLetterBatch.objects.filter(pk=batch.pk).update(paced_until=batch.paced_until - timedelta(seconds=seconds))


def outcomes(batch: DeadLetterBatch) -> dict[int, str]:
    return dict(DeadLetterBatchItem.objects.filter(batch=batch).values_list("entry_id", "outcome"))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        call()
    return refused.value.code


def test_a_batch_has_what_its_filter_selected_at_its_start_and_nothing_that_came_later(alice: User) -> None:
    first, other = park(alice, 3), park(alice, 2, reason="attempts_exhausted")
    batch = begin(alice, selection=Selection(reason="engine_error"))
    came_later = park(alice, 2)
    assert (batch.matched, batch.state, batch.by, batch.filter) == (
        3,
        "running",
        "user:alice",
        {"reason": "engine_error"},
    )
    assert carry_out(batch, seconds=10)
    assert outcomes(batch) == dict.fromkeys(first, "requeued")
    assert (batch.state, batch.counts, batch.done) == ("done", {"requeued": 3}, 3)
    assert batch.ended_at is not None
    still_open = set(DeadLetter.objects.filter(state="open").values_list("pk", flat=True))
    assert still_open == {*other, *came_later}
    requeued = Event.objects.filter(kind="execution.requeued")
    assert {(e.actor, e.reason, (e.data or {})["batch"]) for e in requeued} == {("user:alice", "mended", batch.pk)}
    assert_told_in_order()


def test_every_condition_of_a_filter_counts(alice: User) -> None:
    old = park(alice, 2, error="The engine failed: KeyError: 'old'", hours_old=50)
    new = park(alice, 2, error="It could not be loaded: x")
    apart = park(alice, 1, reason="attempts_exhausted", error="Each of its 3 attempts")
    group = DeadLetter.objects.get(pk=new[0]).fingerprint
    ages = [DeadLetter.objects.get(pk=pk).created_at for pk in (old[0], new[0])]
    middle = ages[0] + (ages[1] - ages[0]) / 2
    for selection, chosen in (
        (Selection(), [*old, *new, *apart]),
        (Selection(ids=tuple(old[:1])), old[:1]),
        (Selection(execution_ids=(execution_of(new[1]),)), new[1:]),
        (Selection(reason="attempts_exhausted"), apart),
        (Selection(fingerprint=group), new),
        (Selection(q="KEYERROR"), old),
        (Selection(created_before=middle), old),
        (Selection(created_after=middle), [*new, *apart]),
        (Selection(up_to=new[0]), [*old, new[0]]),
        (Selection(reason="engine_error", q="loaded", up_to=new[0]), new[:1]),
        (Selection(ids=()), []),
    ):
        found = selection.open_entries(alice).order_by("pk").values_list("pk", flat=True)
        assert list(found) == sorted(chosen), selection


def test_each_entry_has_its_own_outcome(alice: User) -> None:
    good, unknown = park(alice, 2), park(alice, 2, step_status="unknown", reason="outcome_unknown")
    batch = begin(alice)
    moved_on = good[0]
    with transaction.atomic():
        DeadLetter.objects.filter(pk=moved_on).update(state="resolved", closed_at=Now())
    assert carry_out(batch, seconds=10)
    assert outcomes(batch) == {
        moved_on: "moved_on", good[1]: "requeued", **dict.fromkeys(unknown, "unknown_outcome")
    }  # fmt: skip
    assert batch.counts == {"moved_on": 1, "requeued": 1, "unknown_outcome": 2}
    again = begin(alice, start_from="failed_step", selection=Selection(ids=tuple(unknown)))
    assert carry_out(again, seconds=10)
    assert again.counts == {"requeued": 2}


def test_one_that_cannot_be_decided_on_keeps_no_other_from_it(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    letters = park(alice, 5)
    broken = letters[2]
    ExecutionPlan.objects.filter(pk=execution_of(broken)).update(document={"steps": "none"})
    batch = begin(alice)
    assert carry_out(batch, seconds=10)
    assert outcomes(batch) == {letter: "failed" if letter == broken else "requeued" for letter in letters}
    assert DeadLetter.objects.get(pk=broken).state == "open"
    assert status_of(execution_of(broken)) == "needs_attention"
    assert f"DLQ entry {broken}" in caplog.text


def test_the_rights_that_count_are_those_at_the_time_of_the_decision(alice: User) -> None:
    olga = make_user("olga", "operator")
    park(alice, AT_ONCE + 20)
    batch = begin(olga, per_second=1000)
    later(batch, 5)
    assert work_at_batches() == AT_ONCE
    set_roles(olga, [])
    batch.refresh_from_db()
    later(batch, 5)
    assert work_at_batches() == 20
    batch.refresh_from_db()
    assert batch.counts == {"requeued": AT_ONCE, "forbidden": 20}
    assert batch.state == "done"


def test_more_than_a_few_are_for_operators_and_nothing_is_left_of_a_refusal(alice: User) -> None:
    park(alice, SMALL + 1)
    vera = make_user("vera", "viewer")
    assert refusal(lambda: begin(vera)) == "forbidden"
    assert refusal(lambda: begin(alice, per_second=0)) == "invalid_input"
    assert refusal(lambda: begin(alice, per_second=1001)) == "invalid_input"
    assert refusal(lambda: begin(alice, verb="discard", start_from="failed_step")) == "invalid_input"
    blank = partial(start_batch, Selection(), verb="requeue", by=alice, reason=" ", start_from="failed_step")
    assert refusal(blank) == "invalid_input"
    assert not DeadLetterBatch.objects.exists()
    assert not DeadLetterBatchItem.objects.exists()
    assert start_batch(Selection(q="nothing like it"), verb="requeue", by=alice, reason="") is None
    assert not DeadLetterBatch.objects.exists()


def test_tenants_stay_apart(alice: User) -> None:
    eve = make_user("eve", "admin", tenant="other")
    letters = park(alice, 2)
    assert start_batch(Selection(), verb="discard", by=eve, reason="mine") is None
    assert start_batch(Selection(ids=tuple(letters)), verb="discard", by=eve, reason="mine") is None
    batch = begin(alice)
    assert refusal(lambda: cancel_batch(batch.pk, by=eve)) == "not_found"
    assert not visible_batches(eve).exists()
    assert set(visible_batches(make_user("vera", "viewer"))) == {batch}
    assert not visible_batches(make_user("nora")).exists()


# --- pace


def test_many_are_paced_and_few_are_not(alice: User) -> None:
    park(alice, SMALL)
    assert begin(alice).per_second is None
    park(alice, 1)
    assert begin(alice).per_second == DEFAULT_PACE
    assert begin(alice, per_second=7).per_second == 7


def test_a_batch_keeps_its_pace_however_often_somebody_looks(alice: User) -> None:
    park(alice, 300)
    batch = begin(alice, per_second=50)
    DeadLetterBatch.objects.update(paced_until=Now())
    began = time.monotonic()
    done = sum(work_at_batches() or 0 for _ in range(20))
    assert done <= 50 * (time.monotonic() - began) + 1, "twenty looks are no more than one"
    for _ in range(3):
        batch.refresh_from_db()
        later(batch, 1)
        assert 50 <= (work_at_batches() or 0) <= 60
    batch.refresh_from_db()
    later(batch, 3600)
    assert work_at_batches() == AT_ONCE
    assert work_at_batches() in (0, 1, 2, None), "an hour that nobody worked at it is not made up for"


def test_batches_take_turns(alice: User) -> None:
    a, b = park(alice, 250), park(alice, 250, reason="attempts_exhausted")
    first, second = (begin(alice, selection=Selection(ids=tuple(ids)), per_second=1000) for ids in (a, b))
    for batch in (first, second):
        later(batch, 5)
    assert [work_at_batches(), work_at_batches()] == [AT_ONCE, AT_ONCE]
    assert {batch.done for batch in DeadLetterBatch.objects.all()} == {AT_ONCE}


# --- cancel


def test_a_cancelled_batch_leaves_what_waits_where_it_is(alice: User) -> None:
    letters = park(alice, AT_ONCE + 30)
    batch = begin(alice, per_second=1000)
    later(batch, 5)
    assert work_at_batches() == AT_ONCE
    bob, olga = make_user("bob", "requester"), make_user("olga", "operator")
    assert refusal(lambda: cancel_batch(batch.pk, by=bob)) == "forbidden"
    cancelled = cancel_batch(batch.pk, by=olga)
    assert (cancelled.state, cancelled.ended_by, cancelled.done) == ("cancelled", "user:olga", AT_ONCE)
    assert refusal(lambda: cancel_batch(batch.pk, by=olga)) == "batch_ended"
    assert refusal(lambda: cancel_batch(batch.pk + 1, by=olga)) == "not_found"
    later(batch, 5)
    assert work_at_batches() is None
    assert Counter(outcomes(batch).values()) == {"requeued": AT_ONCE, "waiting": 30}
    assert DeadLetter.objects.filter(pk__in=letters, state="open").count() == 30


# --- several at once, and crashes


@several
def test_any_number_of_processes_work_at_a_batch_and_no_entry_is_done_twice(alice: User) -> None:
    letters = park(alice, 600)
    batch = begin(alice, per_second=1000)
    DeadLetterBatch.objects.update(per_second=None)
    seen: list[int] = []

    def helper() -> None:
        while DeadLetterBatch.objects.get(pk=batch.pk).state == "running":
            seen.append(work_at_batches() or 0)

    answers = together(*[helper] * 4)
    assert answers == [None] * 4, answers
    assert sum(seen) == 600
    assert outcomes(batch) == dict.fromkeys(letters, "requeued")
    assert QueueEntry.objects.count() == 600
    assert Event.objects.filter(kind="execution.requeued").count() == 600
    assert_told_in_order()


@several
def test_two_batches_with_the_same_entries_decide_on_each_once(alice: User) -> None:
    letters = park(alice, 300)
    requeue, discard = begin(alice, per_second=1000), begin(alice, "discard", per_second=1000)
    DeadLetterBatch.objects.update(per_second=None)
    answers = together(partial(carry_out, requeue, seconds=30), partial(carry_out, discard, seconds=30))
    assert answers == [True, True], answers
    first, second = outcomes(requeue), outcomes(discard)
    for letter in letters:
        assert sorted((first[letter], second[letter])) in (["moved_on", "requeued"], ["discarded", "moved_on"]), letter
        assert DeadLetter.objects.get(pk=letter).state == ({first[letter], second[letter]} - {"moved_on"}).pop()
    assert QueueEntry.objects.count() == Counter(first.values())["requeued"]
    assert_told_in_order()


@several
def test_an_entry_that_somebody_has_in_hand_is_left_for_later(alice: User) -> None:
    letters = park(alice, 3)
    batch = begin(alice)
    held, let_go = threading.Event(), threading.Event()

    def decide_slowly() -> None:
        with transaction.atomic():
            DeadLetter.objects.select_for_update().get(pk=letters[1])
            held.set()
            let_go.wait(20)
        connection.close()

    somebody = threading.Thread(target=decide_slowly)
    somebody.start()
    assert held.wait(10)
    try:
        assert work_at_batches() == 2
        assert outcomes(batch)[letters[1]] == "waiting"
        assert work_at_batches() == 0, "the batch is not over"
    finally:
        let_go.set()
        somebody.join(10)
    assert carry_out(batch, seconds=10)
    assert outcomes(batch)[letters[1]] == "requeued"


KILLED = """
import os, signal, sys
import django
django.setup()
from executions.services import dead_letter_batches as batches
real = batches.WRITE_ITEMS
from django.db.backends.utils import CursorWrapper
execute = CursorWrapper.execute
slices = 0
def dying(self, sql, params=None):
    global slices
    answer = execute(self, sql, params)
    if sql == real:
        slices += 1
        if slices == 2:
            os.kill(os.getpid(), signal.SIGKILL)  # everything of the slice is written, nothing is committed
    return answer
CursorWrapper.execute = dying
while True:
    batches.work_at_batches()
"""


@several
def test_a_batch_whose_process_is_killed_in_the_middle_goes_on_with_nothing_lost_and_nothing_twice(
    alice: User, process_environment: dict[str, str]
) -> None:
    letters = park(alice, 3 * AT_ONCE)
    batch = begin(alice, per_second=1000)
    DeadLetterBatch.objects.update(per_second=None)
    environment = {**process_environment, "DJANGO_SETTINGS_MODULE": "opsconductor.settings"}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, cwd=PROJECT, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    batch.refresh_from_db()
    assert (batch.state, batch.counts) == ("running", {"requeued": AT_ONCE})
    assert Counter(outcomes(batch).values()) == {"requeued": AT_ONCE, "waiting": 2 * AT_ONCE}
    assert carry_out(batch, seconds=30)
    assert outcomes(batch) == dict.fromkeys(letters, "requeued")
    assert Event.objects.filter(kind="execution.requeued").count() == 3 * AT_ONCE
    assert QueueEntry.objects.count() == 3 * AT_ONCE
    assert_told_in_order()


def test_what_became_of_an_entry_goes_with_it_when_retention_removes_it(alice: User) -> None:
    letters = park(alice, 2)
    batch = begin(alice)
    carry_out(batch, seconds=10)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM queueing_deadletter WHERE id = %s", [letters[0]])
    assert list(outcomes(batch)) == letters[1:]
    assert DeadLetterBatch.objects.get(pk=batch.pk).counts == {"requeued": 2}, "the record of the decision stays"
