"""What people write as a reason is kept for ever and shown to many: secrets in it are masked wherever it goes."""

from __future__ import annotations

import pytest
from django.db import connection

from executions.models import StepTarget
from executions.services import Submission, cancel, discard_dead_letters, resolve, submit
from queueing.models import DeadLetter
from safety.models import User
from tests.executions.live.rows import make_execution, make_user, move_target

pytestmark = pytest.mark.django_db
REASON = "rotated, the new one is password=hunter2"


def everything_written() -> str:
    texts = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            texts += [row[0] for row in cursor.fetchall()]
    return "\n".join(texts)


@pytest.fixture
def chief() -> User:
    return make_user("chief", is_staff=True, is_superuser=True)


def assert_masked() -> None:
    written = everything_written()
    assert "password=[masked]" in written
    assert "hunter2" not in written


def test_of_a_cancel(chief: User) -> None:
    cancel(make_execution(chief, status="pending_approval").pk, by=chief, reason=REASON)
    assert_masked()


def test_of_a_discard(chief: User) -> None:
    execution = make_execution(chief, status="needs_attention")
    entry = DeadLetter.objects.create(
        execution_id=execution.pk, tenant_id=chief.tenant_id, reason="attempts_exhausted", attempts=3, error="lost"
    )
    assert discard_dead_letters([entry.pk], by=chief, reason=REASON) == {entry.pk: "discarded"}
    assert_masked()


def test_of_an_answer_to_an_unknown_outcome(chief: User) -> None:
    execution = make_execution(chief, status="needs_attention")
    target = StepTarget.objects.filter(execution=execution).select_related("step", "execution")[0]
    move_target(target, "unknown")
    DeadLetter.objects.create(
        execution_id=execution.pk, tenant_id=chief.tenant_id, reason="outcome_unknown", attempts=1, error="lost"
    )
    resolve(execution.pk, step=target.step.key, outcome="failed", by=chief, reason=REASON)
    assert_masked()


def test_of_a_submit(chief: User) -> None:
    plan = {"title": "Now token=abc123", "steps": [{"id": "a", "tool": "noop", "inputs": {}}]}
    submit(Submission(plan, reason=REASON, tags=("token=abc123",)), by=chief)
    with connection.cursor() as cursor:
        cursor.execute("SELECT title || reason || tags::text FROM executions_execution")
        assert cursor.fetchone()[0].count("[masked]") == 3
