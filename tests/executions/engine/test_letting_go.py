"""Workers that go because they are too many, or at the end of their shift, let the steps that run come to their end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from executions.models import Asset
from queueing import pool
from queueing.models import Attempt, Worker
from safety.models import Tenant
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, kinds, shell, status_of
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


def test_a_shift_that_is_over_stops_no_step_that_runs(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    log = tmp_path / "log"
    workers.start(WORKER_PROCESSES="1", WORKER_SHIFT_SECONDS="1", SHUTDOWN_GRACE_SECONDS="1")
    execution_id = begin(
        shell("long", f"echo begin >> {log}; sleep 5; echo end >> {log}"), shell("after", f"echo after >> {log}")
    )
    wait_until(log.exists, what="the step's start")
    first = Worker.objects.get(running__gt=0) if Worker.objects.filter(running__gt=0).exists() else None
    wait_until(
        lambda: Worker.objects.filter(state="active").exclude(pk=first.pk if first else 0).exists(),
        what="a worker in its place while the step still runs",
    )
    assert "end" not in log.read_text()
    assert ended(execution_id).status == "succeeded"
    assert log.read_text().split() == ["begin", "end", "after"]
    assert [attempt.end for attempt in Attempt.objects.filter(execution_id=execution_id)][:1] == ["handed_back"]
    assert "execution.returned" in kinds(execution_id)
    assert_nothing_left_behind()


def test_a_worker_too_many_ends_when_its_steps_have_ended(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    tenant = Tenant.objects.get(name="default")
    for number in range(4):
        Asset.objects.create(tenant=tenant, name=f"host-{number}", connection="local", environment="development")
    workers.start(WORKER_PROCESSES="4", WORKER_CONCURRENCY="1", SHUTDOWN_GRACE_SECONDS="1")
    go_on = tmp_path / "go-on"
    wait = f"until [ -e {go_on} ]; do sleep .1; done"
    ids = [begin(shell("long", f"echo x >> {tmp_path}/{n}; {wait}", targets=[f"host-{n}"])) for n in range(4)]
    wait_until(lambda: len(list(tmp_path.iterdir())) == 4, what="one on each worker")
    pool.scale(1, by="test")
    wait_until(lambda: Worker.objects.filter(state="stopping").count() == 3, what="three that are told to end")
    assert {status_of(one) for one in ids} == {"running"}
    go_on.touch()
    assert {ended(one).status for one in ids} == {"succeeded"}
    assert all((tmp_path / str(n)).read_text() == "x\n" for n in range(4))
    wait_until(lambda: Worker.objects.filter(stopped_at=None).count() == 1, what="the end of three")
    assert not Worker.objects.exclude(state__in=("active", "stopped")).exists()
    assert_nothing_left_behind()


def test_told_to_stop_meanwhile_it_has_its_grace_and_no_more(workers: Workers, begin: Begin, tmp_path: Path) -> None:
    log = tmp_path / "log"
    workers.start(WORKER_PROCESSES="1", WORKER_SHIFT_SECONDS="1", SHUTDOWN_GRACE_SECONDS="1")
    execution_id = begin(shell("long", f"echo begin >> {log}; sleep 60", idempotent=True))
    wait_until(log.exists, what="the step's start")
    wait_until(lambda: Worker.objects.filter(state="stopping").exists(), what="the end of the shift")
    assert workers.stop(seconds=20) == 0
    assert status_of(execution_id) == "queued"
