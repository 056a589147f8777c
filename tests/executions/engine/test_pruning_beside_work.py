"""Retention while workers run: what is old goes, what runs is not disturbed, and django-q2 does it by itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import Schedule

from executions.models import Execution
from executions.retention import NAME, TASK
from safety.models import User
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, shell
from tests.executions.old_rows import old_execution, said
from tests.installations import MANAGE, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(150)]


def test_what_runs_beside_it_loses_nothing(
    workers: Workers, requester: User, begin: Callable[..., int], process_environment: dict[str, str]
) -> None:
    old = [old_execution(requester, 100, chunks=20) for _ in range(60)]
    oldest = [execution.pk for execution in old[:30]]
    Execution.objects.filter(pk__in=oldest).update(
        created_at=timezone.now() - timedelta(days=800), finished_at=timezone.now() - timedelta(days=800)
    )
    workers.start()
    # Batches without a pause: as much of it as there can be while the others run.
    process = subprocess.Popen(
        [sys.executable, MANAGE, "prune", "--yes", "--batch", "3", "--pause", "0"],
        env=process_environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    running = [begin(shell("a", f"seq {n} {n + 50}"), shell("b", "echo done")) for n in range(40)]
    beside = process.poll() is None
    statuses = {ended(number).status for number in running}
    assert process.wait(timeout=60) == 0
    assert beside, "it had ended before anything ran"
    assert statuses == {"succeeded"}
    assert sum(map(said, old)) == 0
    assert not Execution.objects.filter(pk__in=oldest).exists()
    Execution.objects.filter(events_pruned_at__isnull=False).update(last_seq=0)  # they have no series any more
    assert_nothing_left_behind()


def test_django_q2_prunes_by_itself_when_it_is_time(workers: Workers, requester: User) -> None:
    execution = old_execution(requester, 100)
    schedule = Schedule.objects.create(
        name=NAME, func=TASK, schedule_type=Schedule.DAILY, next_run=timezone.now() - timedelta(minutes=1)
    )
    workers.start()
    wait_until(lambda: said(execution) == 0, seconds=90, what="the daily prune")
    schedule.refresh_from_db()
    assert schedule.next_run > timezone.now() + timedelta(hours=20)
