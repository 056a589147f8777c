"""A benchmark run in which something was lost is a failure, not a figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from benchmarks.children import ChildFailed
from benchmarks.ours.checks import require_all_succeeded
from executions.models import Event, Execution, Step, StepTarget
from executions.states import ExecutionStatus, StepStatus
from queueing.models import EntryState, QueueEntry
from safety.models import Tenant, User

pytestmark = pytest.mark.django_db


def query(statement: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return tuple(cursor.fetchall()[0])


@pytest.fixture
def execution() -> Execution:
    """One that succeeded, with three events."""
    tenant = Tenant.objects.get_or_create(name="default")[0]
    one = Execution.objects.create(
        tenant=tenant,
        actor=User.objects.create_user("somebody"),
        title="no-op",
        status=ExecutionStatus.SUCCEEDED,
        plan_hash="0" * 64,
        action_class="read",
        sla_class="fast",
        approval_level=0,
        priority=5,
        execution_seconds=60,
        step_seconds=10,
        max_attempts=3,
        last_seq=3,
        finished_at=Now(),
    )
    step = Step.objects.create(execution=one, position=1, key="only", tool="noop", status=StepStatus.SUCCEEDED)
    StepTarget.objects.create(execution=one, step=step, position=1, status=StepStatus.SUCCEEDED, attempt=1)
    for seq in (1, 2, 3):
        Event.objects.create(execution=one, seq=seq, kind="execution.remark", actor="somebody")
    return one


def lose_an_event(execution: Execution) -> None:
    Event.objects.filter(execution=execution, seq=2).delete()


def lose_the_last_event(execution: Execution) -> None:
    Event.objects.filter(execution=execution, seq=3).delete()


def fail(execution: Execution) -> None:
    Execution.objects.filter(pk=execution.pk).update(status=ExecutionStatus.FAILED)


def run_it_twice(execution: Execution) -> None:
    StepTarget.objects.filter(execution=execution).update(attempt=2)


def leave_it_in_the_queue(execution: Execution) -> None:
    QueueEntry.objects.create(
        execution_id=execution.pk,
        tenant_id=execution.tenant_id,
        state=EntryState.READY,
        priority=5,
        available_at=Now(),
        place=Now(),
        attempts_left=3,
    )


def test_a_run_without_loss_passes(execution: Execution) -> None:
    require_all_succeeded(query, 1)


@pytest.mark.parametrize(
    ("lose", "complaint"),
    [
        (lose_an_event, "executions with a gap in their events: 1"),
        (lose_the_last_event, "executions with a gap in their events: 1"),
        (fail, "executions that did not succeed: 1"),
        (run_it_twice, "steps and targets that did not succeed at once: 1"),
        (leave_it_in_the_queue, "queue entries and locks that are left: 1"),
        (lambda execution: None, "executions: 1, expected 2"),
    ],
)
def test_a_run_that_lost_something_is_refused(
    execution: Execution, lose: Callable[[Execution], None], complaint: str
) -> None:
    lose(execution)
    with pytest.raises(ChildFailed, match=complaint):
        require_all_succeeded(query, 2 if "expected 2" in complaint else 1)
