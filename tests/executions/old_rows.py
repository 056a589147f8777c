"""Executions that ended a while ago, with all that belongs to one, for the tests of retention."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from executions.models import Approval, Event, Execution, OutputChunk, StepTarget
from queueing.models import Attempt, DeadLetter
from safety.models import IdempotencyKey, User
from tests.executions.live.rows import make_execution, print_out


def old_execution(by: User, days: float, *, status: str = "succeeded", chunks: int = 2, **fields: Any) -> Execution:
    """Make an execution that was submitted, and has ended if its status is final, so many days ago.

    Make the oldest first: numbers grow with time.
    """
    execution = make_execution(by, status=status, **fields)
    target = StepTarget.objects.select_related("execution").filter(execution=execution).first()
    assert target
    print_out(target, [f"line {n}\n" for n in range(chunks)])
    StepTarget.objects.filter(pk=target.pk).update(stdout="the end of it", stdout_bytes=7 * chunks)
    Approval.objects.create(execution=execution, by=by, plan_hash=execution.plan_hash, approved=True)
    IdempotencyKey.objects.create(
        tenant_id=by.tenant_id,
        key=f"of {execution.pk}",
        execution_id=execution.pk,
        request_hash="x",
        blocks_until=timezone.now() + timedelta(hours=1),
    )
    at = timezone.now() - timedelta(days=days)
    Attempt.objects.create(
        execution_id=execution.pk, tenant_id=by.tenant_id, number=1, token=1, worker_id=1, worker="h/1",
        leased_at=at, ended_at=at, end="lease_expired",
    )  # fmt: skip
    Execution.objects.filter(pk=execution.pk).update(created_at=at)
    Execution.objects.filter(pk=execution.pk, finished_at__isnull=False).update(finished_at=at)
    execution.refresh_from_db()
    return execution


def dead_letter(execution: Execution, days: float | None) -> DeadLetter:
    """Give it a DLQ entry: open, or closed so many days ago."""
    closed = {} if days is None else {"state": "resolved", "closed_at": timezone.now() - timedelta(days=days)}
    return DeadLetter.objects.create(
        execution_id=execution.pk, tenant_id=execution.tenant_id, reason="engine_error", attempts=1, **closed
    )


def said(execution: Execution) -> int:
    """How many events and pieces of output it has."""
    rows = [model.objects.filter(execution_id=execution.pk).count() for model in (Event, OutputChunk)]
    return sum(rows)


def whole() -> set[int]:
    """The executions that say nothing of a removal, after making sure that none has lost a part all the same."""
    kept = Execution.objects.filter(events_pruned_at__isnull=True)
    for execution in kept:
        assert said(execution) == execution.last_seq, f"{execution} lacks some of its events"
    return {execution.pk for execution in kept}
