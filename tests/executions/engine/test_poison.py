"""An execution that kills its worker comes to its end in the DLQ, and those beside it come to theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from executions.models import Asset
from queueing.models import Attempt, DeadLetter, Worker
from queueing.worker import ISOLATION_SLOTS
from safety.models import Tenant
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, shell

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]

KILL_ITS_WORKER = "kill -9 $(ps -o ppid= -p $PPID); sleep 5"


def test_a_poison_execution_is_run_apart_until_its_attempts_are_used_up(
    workers: Workers, begin: Begin, tmp_path: Path
) -> None:
    tenant = Tenant.objects.get(name="default")
    for number in range(12):
        Asset.objects.create(tenant=tenant, name=f"host-{number}", connection="local", environment="development")
    beside = [
        begin(shell("wait", f"echo x >> {tmp_path}/{number}; sleep 2", targets=[f"host-{number}"], idempotent=True))
        for number in range(12)
    ]
    poison = begin(shell("poison", f"sleep 1; {KILL_ITS_WORKER}", idempotent=True, estimated_duration=40))
    workers.start(WORKER_PROCESSES="1")

    execution = ended(poison, seconds=90)
    assert execution.status == "needs_attention"
    letter = DeadLetter.objects.get(execution_id=poison)
    assert (letter.reason, letter.attempts) == ("attempts_exhausted", execution.max_attempts + 1)
    attempts = Attempt.objects.filter(execution_id=poison).order_by("number")
    assert [attempt.end for attempt in attempts] == ["worker_died"] * execution.max_attempts + ["dead"]
    apart = set(Worker.objects.filter(isolation=True).values_list("pk", flat=True))
    assert [attempt.worker_id in apart for attempt in attempts] == [False, True, True, True]

    runs = []
    for number, execution_id in enumerate(beside):
        assert ended(execution_id).status == "succeeded"
        runs.append((tmp_path / str(number)).read_text().count("x"))
    assert max(runs) <= 3, "in the crowd, in company of a few, and then without the poison"
    assert sum(run == 3 for run in runs) < ISOLATION_SLOTS, "few were in its company a second time"
    assert_nothing_left_behind()
