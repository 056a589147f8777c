"""Batches of the DLQ beside real workers: they carry them out, and go on with everything else meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from executions.dead_letter_queries import Selection
from executions.models import Event, Execution
from executions.services import carry_out, start_batch
from queueing.models import DeadLetter, DeadLetterBatch, DeadLetterBatchItem
from safety.models import User
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended
from tests.executions.services.parked import execution_of, park
from tests.executions.services.requests import make_asset
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]
MANY = 10_000
ASSETS = 20


def test_10_000_are_requeued_by_a_filter_while_workers_run_on(workers: Workers, begin: Begin, requester: User) -> None:
    """Each entry once; what is submitted meanwhile is begun and ended as ever; the workers do the batch's work."""
    for number in range(ASSETS):
        make_asset(f"m{number}", "development")
        park(requester, MANY // ASSETS, f"m{number}", reason="engine_error", step_status="succeeded")
    other = park(requester, 5, reason="attempts_exhausted")
    workers.start(LEASE_SECONDS="10")
    batch = start_batch(
        Selection(reason="engine_error"), verb="requeue", by=requester, reason="mended", per_second=1000
    )
    assert batch is not None
    assert batch.matched == MANY
    waits = []
    while not carry_out(batch, seconds=1):  # one more that works at it, beside the workers
        began = time.monotonic()
        assert ended(begin({"id": "look", "tool": "noop"}, priority=1)).status == "succeeded"
        waits.append(time.monotonic() - began)
    assert batch.counts == {"requeued": MANY}
    assert DeadLetterBatchItem.objects.filter(batch=batch, outcome="requeued").count() == MANY
    ids = set(DeadLetterBatchItem.objects.filter(batch=batch).values_list("execution_id", flat=True))
    requeued = list(Event.objects.filter(kind="execution.requeued").values_list("execution_id", flat=True))
    assert len(requeued) == MANY
    assert set(requeued) == ids
    assert set(DeadLetter.objects.filter(state="open").values_list("pk", flat=True)) == set(other)
    assert waits
    assert max(waits) < 20, waits
    wait_until(
        lambda: not Execution.objects.filter(pk__in=ids).exclude(status="succeeded").exists(),
        seconds=90, what="the end of what was requeued",
    )  # fmt: skip
    assert_nothing_left_behind()


def test_workers_carry_a_batch_out_by_themselves_and_run_what_it_gives_them(workers: Workers, requester: User) -> None:
    letters = park(requester, 60)
    unknown = park(requester, 3, step_status="unknown", reason="outcome_unknown")
    batch = start_batch(Selection(), verb="requeue", by=requester, reason="mended", per_second=40)
    assert batch is not None
    workers.start()
    wait_until(lambda: DeadLetterBatch.objects.get(pk=batch.pk).state == "done", what="the end of the batch")
    batch.refresh_from_db()
    assert batch.counts == {"requeued": 60, "unknown_outcome": 3}
    assert batch.ended_at is not None
    assert (batch.ended_at - batch.created_at).total_seconds() > 1, "63 entries at 40 a second"
    for letter in letters:
        assert ended(execution_of(letter)).status == "succeeded"
    assert set(DeadLetter.objects.filter(state="open").values_list("pk", flat=True)) == set(unknown)
    assert_nothing_left_behind()


def test_a_killed_worker_leaves_no_batch_behind(workers: Workers, requester: User) -> None:
    park(requester, 120)
    batch = start_batch(Selection(), verb="requeue", by=requester, reason="mended", per_second=20)
    assert batch is not None
    workers.start()
    wait_until(lambda: DeadLetterBatch.objects.get(pk=batch.pk).done > 10, what="the batch's beginning")
    assert workers.kill_one()
    wait_until(lambda: DeadLetterBatch.objects.get(pk=batch.pk).state == "done", what="the end of the batch")
    assert DeadLetterBatch.objects.get(pk=batch.pk).counts == {"requeued": 120}
    assert Event.objects.filter(kind="execution.requeued").count() == 120
