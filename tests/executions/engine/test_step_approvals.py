"""Steps that need an approval of their own, with real workers: the machines are let go while people think."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from executions.models import Asset, AssetGroup, Event, Execution, PendingApproval, StepTarget
from executions.services import approve, cancel, reject, retry, withdraw_approval
from executions.services.decisions import expire_overdue
from queueing.connections import connect
from queueing.models import AssetLock, QueueEntry
from safety.models import TimeoutPolicy, User
from tests.executions.engine.conftest import (
    FINAL,
    Workers,
    assert_nothing_left_behind,
    ended,
    kinds,
    shell,
    status_of,
    step_statuses,
)
from tests.executions.services.requests import make_user
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


@pytest.fixture
def people(transactional_db: None) -> list[User]:
    Asset.objects.filter(name="localhost").update(environment="staging")
    return [make_user(f"approver{number}", "approver") for number in range(3)]


def remove(key: str, path: Path, **fields: Any) -> dict[str, Any]:
    """A step whose tool cannot be undone."""
    inputs = {"action": "delete", "path": str(path)}
    return {"id": key, "tool": "file_manager", "inputs": inputs, "targets": ["localhost"], **fields}


def approved(execution_id: int, people: list[User]) -> None:
    """Give both approvals of the plan."""
    assert approve(execution_id, by=people[0]) == "pending_approval"
    assert approve(execution_id, by=people[1]) == "queued"


def waits(execution_id: int, *steps: str) -> None:
    wait_until(
        lambda: list(PendingApproval.objects.filter(pk=execution_id).values_list("steps", flat=True)) == [list(steps)],
        what=f"the wait for the approval of {steps}",
    )
    assert status_of(execution_id) == "pending_approval"


def test_a_step_that_cannot_be_undone_waits_for_one_more_approval(
    workers: Workers, begin: Begin, people: list[User], tmp_path: Path
) -> None:
    log, data = tmp_path / "log", tmp_path / "data"
    data.write_text("precious")
    one = begin(shell("backup", f"echo backup >> {log}"), remove("wipe", data), shell("after", f"echo after >> {log}"))
    assert Execution.objects.get(pk=one).approval_level == 3
    approved(one, people)
    workers.start(WORKER_PROCESSES="1")
    waits(one, "wipe")

    execution = Execution.objects.get(pk=one)
    assert execution.status_reason == "Step 'wipe' (file_manager) on localhost waits for approval."
    assert step_statuses(one) == {"backup": "succeeded", "wipe": "pending", "after": "pending"}
    assert data.exists()
    assert not QueueEntry.objects.filter(pk=one).exists()
    assert not AssetLock.objects.filter(execution_id=one).exists(), "no machine is held while people think"
    waiting = Event.objects.get(execution_id=one, kind="execution.waiting_for_approval")
    assert waiting.data == {"from": "running", "to": "pending_approval", "steps": ["wipe"]}
    policy = TimeoutPolicy.objects.get(sla_class=execution.sla_class, action_class=execution.action_class)
    assert execution.approval_expires_at == waiting.at + timedelta(seconds=policy.approval_seconds)

    assert approve(one, by=people[2], comment="the backup is there") == "queued"
    assert ended(one).status == "succeeded"
    assert not data.exists()
    assert log.read_text() == "backup\nafter\n", "what had finished did not run again"
    assert kinds(one).count("execution.waiting_for_approval") == 1
    given = Event.objects.filter(execution_id=one, kind="approval.given").order_by("seq").last()
    assert given is not None
    assert given.data == {"given": 1, "needed": 1, "step": "wipe", "plan_hash": execution.plan_hash}
    assert_nothing_left_behind()
    assert not PendingApproval.objects.exists()


def test_an_approval_counts_for_its_step_alone(
    workers: Workers, begin: Begin, people: list[User], tmp_path: Path
) -> None:
    one = begin(remove("first", tmp_path / "first"), remove("second", tmp_path / "second", on_failure="stop"))
    (tmp_path / "first").write_text("x")
    (tmp_path / "second").write_text("x")
    approved(one, people)
    workers.start(WORKER_PROCESSES="1")
    waits(one, "first")
    approve(one, by=people[0], step="first")
    waits(one, "second")
    assert step_statuses(one) == {"first": "succeeded", "second": "pending"}
    approve(one, by=people[0])
    assert ended(one).status == "succeeded"
    assert_nothing_left_behind()


def test_steps_that_may_begin_do_so_and_those_that_wait_wait_together(
    workers: Workers, begin: Begin, people: list[User], tmp_path: Path
) -> None:
    steps = [
        remove("a", tmp_path / "a", depends_on=[]),
        remove("b", tmp_path / "b", depends_on=[]),
        shell("free", "true", depends_on=[], targets=["localhost"]),
        shell("last", "true", depends_on=["a", "b", "free"]),
    ]
    for name in "ab":
        (tmp_path / name).write_text("x")
    one = begin(*steps)
    approved(one, people)
    workers.start(WORKER_PROCESSES="1")
    waits(one, "a", "b")
    assert step_statuses(one)["free"] == "succeeded"
    assert approve(one, by=people[0], step="b") == "pending_approval"
    assert approve(one, by=people[0], step="a") == "queued"
    assert ended(one).status == "succeeded"


def test_time_for_thinking_does_not_count_against_the_limit(
    workers: Workers, begin: Begin, people: list[User], tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("x")
    one = begin({"id": "first", "tool": "wait", "inputs": {"seconds": 1}}, remove("wipe", tmp_path / "data"))
    approved(one, people)
    workers.start(WORKER_PROCESSES="1")
    waits(one, "wipe")
    before = Execution.objects.get(pk=one)
    assert before.started_at is not None
    assert before.deadline_at is not None
    left = before.deadline_at - PendingApproval.objects.get(pk=one).asked_at
    assert timedelta(0) < left < timedelta(seconds=before.execution_seconds), "the first step took a second of it"
    # An hour later: far beyond what the plan may take.
    hour = timedelta(hours=1)
    Execution.objects.filter(pk=one).update(started_at=F("started_at") - hour, deadline_at=F("deadline_at") - hour)
    PendingApproval.objects.filter(pk=one).update(asked_at=F("asked_at") - hour)
    attempts = PendingApproval.objects.get(pk=one)
    approve(one, by=people[2])
    execution = ended(one)
    assert execution.status == "succeeded"
    # Not run out, and not full again: the limit moved on by the wait (and by the moment in the queue).
    assert execution.deadline_at is not None
    assert before.deadline_at <= execution.deadline_at
    assert attempts.attempt == 1
    assert attempts.attempts_left == execution.max_attempts, "waiting for people uses up no attempt"


def test_a_rejected_or_forgotten_step_ends_it_and_says_what_was_done(
    workers: Workers, begin: Begin, people: list[User], tmp_path: Path, requester: User
) -> None:
    data = tmp_path / "data"
    data.write_text("x")
    ids = [begin(shell("backup", f"echo {n}"), remove("wipe", data)) for n in range(3)]
    for one in ids:
        approved(one, people)
    workers.start(WORKER_PROCESSES="1")
    for one in ids:
        waits(one, "wipe")
    rejected, forgotten, unwanted = ids
    assert reject(rejected, by=people[2], comment="not today") == "rejected"
    Execution.objects.filter(pk=forgotten).update(approval_expires_at=timezone.now() - timedelta(seconds=1))
    expire_overdue()
    assert cancel(unwanted, by=requester, reason="no more") == "cancelled"
    done = "Done before, and not undone: 'backup' succeeded."
    said = {one: (row.status, row.status_reason) for one in ids for row in [Execution.objects.get(pk=one)]}
    assert said == {
        rejected: ("rejected", f"step 'wipe' was rejected: not today. {done}"),
        forgotten: ("expired", f"Nobody approved step 'wipe' in time. {done}"),
        unwanted: ("cancelled", "no more"),
    }
    for one in ids:
        assert step_statuses(one) == {"backup": "succeeded", "wipe": "skipped"}
    assert data.exists()
    assert_nothing_left_behind()
    assert not PendingApproval.objects.exists()
    # A retry is a new execution: it needs all its approvals again.
    again = retry(rejected, by=requester)
    assert (again.status, again.approval_level) == ("pending_approval", 3)
    approved(again.execution_id, people)
    waits(again.execution_id, "wipe")
    assert step_statuses(again.execution_id) == {"wipe": "pending"}


def test_killed_workers_neither_lose_a_wait_nor_run_what_nobody_approved(
    workers: Workers, begin: Begin, people: list[User], tmp_path: Path
) -> None:
    """Workers are killed all the while that ten executions come to their wait, and again after it."""
    ids = []
    for number in range(10):
        (tmp_path / f"data-{number}").write_text("x")
        Asset.objects.create(tenant=people[0].tenant, name=f"host-{number}", connection="local", environment="staging")
        here = {"targets": [f"host-{number}"]}
        ids.append(
            begin(
                shell("before", f"echo run >> {tmp_path}/before-{number}", idempotent=True, **here),
                remove("wipe", tmp_path / f"data-{number}", idempotent=True, **here),
            )
        )
        approved(ids[-1], people)
    workers.start()
    for _ in range(3):
        before = Execution.objects.filter(pk__in=ids, status="pending_approval").count()
        wait_until(
            partial(more_wait_than, before, ids),
            what="some progress",
        )
        workers.kill_one()
    wait_until(
        lambda: PendingApproval.objects.filter(steps=["wipe"]).count() == len(ids), seconds=60, what="all the waits"
    )
    assert len(list(tmp_path.glob("data-*"))) == len(ids)
    assert not QueueEntry.objects.exists()
    for number, one in enumerate(ids):
        approve(one, by=people[2])
        if number % 4 == 0:
            workers.kill_one()
    wait_until(
        lambda: not Execution.objects.filter(pk__in=ids).exclude(status__in=FINAL).exists(), seconds=60, what="the ends"
    )
    assert set(Execution.objects.filter(pk__in=ids).values_list("status", flat=True)) == {"succeeded"}
    assert not list(tmp_path.glob("data-*"))
    assert_nothing_left_behind()


def test_what_became_void_since_its_approval_runs_nothing(
    workers: Workers, begin: Begin, people: list[User], tmp_path: Path, requester: User
) -> None:
    """Looked at when a worker takes it: machines, approvers, and, where nobody approved, that machines are in use."""
    tenant = requester.tenant
    hosts = {
        name: Asset.objects.create(tenant=tenant, name=name, connection="local", environment="production")
        for name in ("moved", "fine", "left", "retired", "joined")
    }
    free = {
        name: Asset.objects.create(tenant=tenant, name=name, connection="local", environment="development")
        for name in ("off", "renamed")
    }
    group = AssetGroup.objects.create(tenant=tenant, name="web")
    group.assets.add(hosts["joined"])
    targets = {name: "group:web" if name == "joined" else name for name in (*hosts, *free)}
    ids = {name: begin(shell("a", f"touch {tmp_path / name}", targets=[target])) for name, target in targets.items()}
    for name in hosts:
        approve(ids[name], by=people[1 if name == "left" else 0])

    Asset.objects.filter(name="moved").update(hostname="elsewhere.example")
    Asset.objects.filter(name__in=["retired", "off"]).update(is_active=False)
    Asset.objects.filter(name="renamed").update(name="other")
    User.objects.filter(pk=people[1].pk).update(is_active=False)
    group.assets.add(hosts["fine"])
    workers.start(WORKER_PROCESSES="1")

    told = {name: ended(one) for name, one in ids.items()}
    assert {name: (row.status, row.error_code) for name, row in told.items()} == {
        "fine": ("succeeded", ""),
        "renamed": ("succeeded", ""),  # nobody approved it; it is the machine that the requester saw
        "moved": ("cancelled", "targets_changed"),
        "retired": ("cancelled", "targets_changed"),
        "joined": ("cancelled", "targets_changed"),
        "left": ("cancelled", "approval_withdrawn"),
        "off": ("failed", "targets_changed"),
    }
    void = "Its approval is void, because its machines have changed: "
    assert told["moved"].status_reason == f"{void}moved was changed: hostname was empty, is elsewhere.example."
    assert told["joined"].status_reason == f"{void}The group web has fine now, which the plan would not touch."
    assert told["off"].status_reason == "off was taken out of use, so it was not run."
    assert "0 of 1 approvals stand" in told["left"].status_reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine", "renamed"]
    assert step_statuses(ids["moved"]) == {"a": "skipped"}
    assert_nothing_left_behind()


def more_wait_than(before: int, ids: list[int]) -> bool:
    return Execution.objects.filter(pk__in=ids, status="pending_approval").count() > min(before, 9)


def test_a_withdrawn_approval_stops_what_runs(
    workers: Workers, begin: Begin, people: list[User], tmp_path: Path
) -> None:
    started = tmp_path / "started"
    Asset.objects.filter(name="localhost").update(environment="production")
    running = begin(shell("long", f"touch {started}; sleep 60"))
    assert approve(running, by=people[0]) == "queued"
    workers.start(WORKER_PROCESSES="1")
    wait_until(started.exists, what="the start of the command")
    assert withdraw_approval(running, by=people[0], reason="wrong window") == "cancelling"
    execution = ended(running)
    assert (execution.status, execution.error_code) == ("cancelled", "approval_withdrawn")
    target = StepTarget.objects.get(execution_id=running)
    assert (target.status, target.error_code, target.stop_confirmed) == ("cancelled", "approval_withdrawn", True)
    assert "approval.withdrawn" in kinds(running)
    assert_nothing_left_behind()


def test_a_withdrawal_just_before_it_comes_to_wait_ends_it_as_withdrawn(
    workers: Workers, begin: Begin, people: list[User], tmp_path: Path
) -> None:
    """The worker finds that it is to be stopped when it lets go of it, before it hears whose wish that is."""
    started, go, data = tmp_path / "started", tmp_path / "go", tmp_path / "data"
    data.write_text("precious")
    one = begin(shell("before", f"touch {started}; until [ -e {go} ]; do sleep 0.05; done"), remove("wipe", data))
    approved(one, people)
    workers.start(WORKER_PROCESSES="1", LEASE_SECONDS="30")
    wait_until(started.exists, what="the start of the first step")
    with connect("test") as other, transaction.atomic():
        assert withdraw_approval(one, by=people[0], reason="wrong window") == "cancelling"
        go.touch()
        wait_until(
            lambda: other.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").fetchone() == (True,),
            what="the worker's writing of what became of the first step",
        )
        # The notice is lost, as it may be: the worker hears of the wish when it listens again.
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'opsconductor listener' AND datname = current_database()"
        )
    execution = ended(one)
    assert (execution.status, execution.error_code) == ("cancelled", "approval_withdrawn")
    assert step_statuses(one) == {"before": "succeeded", "wipe": "skipped"}
    assert data.exists()
    assert_nothing_left_behind()
