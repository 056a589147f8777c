"""What is old is removed, and nothing else is."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.utils import timezone
from django.utils.module_loading import import_string
from guardian.models import GroupObjectPermission, UserObjectPermission
from guardian.shortcuts import assign_perm

from executions import retention
from executions.models import Approval, Event, Execution, ExecutionPlan, OutputChunk, Step, StepTarget
from executions.retention import Pace, count_due, prune
from queueing.models import Cluster, DeadLetter, DeadLetterBatch, DeadLetterBatchItem, ScalingDecision, Worker
from safety.accounts import set_roles
from safety.models import IdempotencyKey, Session, User
from tests.executions.live.rows import make_user, say
from tests.executions.old_rows import dead_letter, old_execution, said, whole

pytestmark = pytest.mark.django_db

QUICK = Pace(rows=2000, pause_seconds=0)


@pytest.fixture
def user() -> User:
    user = make_user()
    set_roles(user, ["admin"])
    return user


def rows_of(execution_id: int) -> int:
    """Every row, of any table, that names an execution."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.columns WHERE column_name = 'execution_id'"
            " AND table_schema = current_schema()"
        )
        tables = [table for (table,) in cursor.fetchall()]
        assert "executions_event" in tables
        found = 0
        for table in tables:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE execution_id = %s", [execution_id])
            found += cursor.fetchone()[0]
    return found


def test_events_and_output_go_once_their_execution_ended_long_ago(user: User) -> None:
    old, young = old_execution(user, 91), old_execution(user, 89)
    removed = prune(QUICK)
    assert (said(old), said(young)) == (0, young.last_seq)
    assert removed == {"pieces of output": 2, "events": 1}
    old.refresh_from_db()
    assert old.events_pruned_at is not None
    assert old.removal_notice == f"Events and output were removed on {old.events_pruned_at:%Y-%m-%d} by retention."
    assert not StepTarget.objects.filter(execution=old).exclude(stdout="").exists()
    assert StepTarget.objects.filter(execution=young, stdout="the end of it").exists()
    assert ExecutionPlan.objects.filter(pk=old.pk).exists()
    assert Step.objects.filter(execution=old).count() == 2
    assert prune(QUICK) == {}


@pytest.mark.parametrize("status", ["pending_approval", "queued", "running", "cancelling", "needs_attention"])
def test_what_has_not_ended_keeps_everything_however_old_it_is(user: User, status: str) -> None:
    execution = old_execution(user, 5000, status=status)
    before = rows_of(execution.pk)
    assert prune(QUICK) == {}
    assert rows_of(execution.pk) == before
    assert whole() == {execution.pk}


def test_what_has_an_open_dlq_entry_keeps_everything(user: User) -> None:
    execution = old_execution(user, 5000)
    entry = dead_letter(execution, None)
    assert prune(QUICK) == {}
    assert whole() == {execution.pk}
    DeadLetter.objects.filter(pk=entry.pk).update(state="discarded", closed_at=timezone.now() - timedelta(days=800))
    assert prune(QUICK) == {"pieces of output": 2, "events": 1, "executions": 1, "DLQ entries": 1}


def test_an_old_execution_goes_with_everything_that_names_it(user: User) -> None:
    old = old_execution(user, 731)
    young = old_execution(user, 729)
    Execution.objects.filter(pk=young.pk).update(parent=old)
    dead_letter(old, 731)
    for who in (user, user.groups.get()):
        assign_perm("executions.cancel", who, old)
        assign_perm("executions.cancel", who, young)
    assert rows_of(old.pk) > 7
    removed = prune(QUICK)
    assert removed["executions"] == 1
    assert not Execution.objects.filter(pk=old.pk).exists()
    assert rows_of(old.pk) == 0
    kept = Execution.objects.get(pk=young.pk)
    assert kept.parent is None
    assert Approval.objects.filter(execution=young).exists()
    kind = ContentType.objects.get_for_model(Execution)
    for model in (UserObjectPermission, GroupObjectPermission):
        assert list(model.objects.filter(content_type=kind).values_list("object_pk", flat=True)) == [str(young.pk)]


def test_every_table_that_refers_to_executions_is_one_that_retention_knows() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass::text FROM pg_constraint"
            " WHERE contype = 'f' AND confrelid IN ('executions_execution'::regclass, 'executions_step'::regclass,"
            " 'executions_steptarget'::regclass)"
        )
        referring = {table for (table,) in cursor.fetchall()}
    statements = " ".join(statement for _, statement in (*retention.WHOLE, *retention.LAST_OF_WHOLE))
    assert referring <= set(re.findall(r"(?:DELETE FROM|UPDATE) (\w+)", statements))


def test_an_execution_whose_retry_has_not_ended_is_kept_for_it(user: User) -> None:
    old = old_execution(user, 800)
    retry = old_execution(user, 1, status="running", parent=old)
    prune(QUICK)
    retry.refresh_from_db()
    assert retry.parent == old
    assert said(old) == 0
    Execution.objects.filter(pk=retry.pk).update(status="failed", finished_at=timezone.now())
    assert prune(QUICK)["executions"] == 1
    retry.refresh_from_db()
    assert retry.parent is None


def test_no_retention_days_mean_for_ever(user: User, settings: Any) -> None:
    execution = old_execution(user, 5000)
    dead_letter(execution, 5000)
    settings.EVENT_RETENTION = settings.EXECUTION_RETENTION = timedelta(0)
    assert prune(QUICK) == {}
    assert count_due().total() == 0
    settings.EVENT_RETENTION = timedelta(days=1)
    assert prune(QUICK) == {"pieces of output": 2, "events": 1}
    assert Execution.objects.filter(pk=execution.pk).exists()


def test_what_is_over_by_itself_goes_too(user: User) -> None:
    now = timezone.now()

    def worker(pid: int, days: float | None) -> Worker:
        ended = None if days is None else now - timedelta(days=days)
        state = "active" if days is None else "stopped"
        return Worker.objects.create(
            cluster="c", host="h", pid=pid, version="0", slots=1, state=state, stopped_at=ended,
            last_beat_at=now - timedelta(days=400),
        )  # fmt: skip

    ended, recent, live = worker(1, 31), worker(2, 29), worker(3, None)
    for name, days in (("old", 31), ("new", 29), ("live", None)):
        at = None if days is None else now - timedelta(days=days)
        Cluster.objects.create(
            name=name, host="h", pid=1, version="0", processes=1, initial_processes=1, max_processes=1, stopped_at=at,
        )  # fmt: skip
        ScalingDecision.objects.create(
            at=at or now, cluster=name, host="h", before=1, after=2, reason=name, by="autoscale", applied=True, depth=0,
            waiting_seconds=0, running=0, slots=0,
        )  # fmt: skip
    for name, hours in (("past", -1), ("future", 1)):
        IdempotencyKey.objects.create(
            tenant_id=user.tenant_id,
            key=name,
            execution_id=1,
            request_hash="",
            blocks_until=now + timedelta(hours=hours),
        )
        Session.objects.create(session_key=name, session_data="", expire_date=now + timedelta(hours=hours))
    execution = old_execution(user, 1)
    gone, kept = (dead_letter(execution, days) for days in (731, 729))
    for state, entry in (("done", gone), ("done", kept), ("running", gone)):
        batch = DeadLetterBatch.objects.create(
            tenant_id=user.tenant_id, actor_id=user.pk, by=user.actor, verb="discard", filter={}, matched=1,
            state=state,
            ended_at=now - timedelta(days=731) if state == "done" else None,
        )  # fmt: skip
        DeadLetterBatchItem.objects.create(batch=batch, entry=entry, execution_id=execution.pk)
    expected = {
        "DLQ entries": 1,
        "DLQ batches": 1,
        "workers": 1,
        "clusters": 1,
        "scaling decisions": 1,
        "idempotency keys": 1,
        "sessions": 1,
    }
    # Before the entry has gone, its batch is still in use.
    assert count_due() == {**expected, "DLQ batches": 0}
    assert prune(Pace(rows=1, pause_seconds=0)) == expected
    assert sorted(DeadLetterBatch.objects.values_list("state", flat=True)) == ["done", "running"]
    assert not Worker.objects.filter(pk=ended.pk).exists()
    assert set(Worker.objects.values_list("pk", flat=True)) == {recent.pk, live.pk}
    assert set(IdempotencyKey.objects.values_list("key", flat=True)) == {"future", f"of {execution.pk}"}
    assert set(Cluster.objects.values_list("name", flat=True)) == {"new", "live"}
    assert set(ScalingDecision.objects.values_list("reason", flat=True)) == {"new", "live"}
    assert list(Session.objects.values_list("session_key", flat=True)) == ["future"]
    assert DeadLetter.objects.count() == 1


def test_a_dry_count_is_what_goes_then(user: User) -> None:
    old_execution(user, 800, chunks=3)
    old_execution(user, 100, chunks=5)
    old_execution(user, 10)
    due = count_due()
    removed = prune(QUICK)
    assert due.pop("executions that lose their events") == 1
    assert due == removed == {"executions": 1, "events": 2, "pieces of output": 8}


def test_an_execution_is_marked_before_the_last_of_a_long_one_is_gone_and_then_reads_as_empty(user: User) -> None:
    """A long execution takes several batches; between two of them nobody is shown the rest of it."""
    from executions.live.feed import read_page

    execution = old_execution(user, 100, chunks=25)
    left: list[int] = []

    def look(removed: retention.Counts) -> None:
        if not removed:
            return  # the batch that looked for whole executions
        left.append(said(execution))
        assert Execution.objects.get(pk=execution.pk).events_pruned_at is not None
        assert read_page(execution.pk).items == []

    prune(Pace(rows=10, pause_seconds=0), tell=look)
    assert left[:3] == [16, 6, 0]


def test_no_batch_is_larger_than_it_may_be(user: User) -> None:
    for _ in range(5):
        old_execution(user, 800, chunks=20, hosts=("a", "b", "c"))
    for _ in range(5):
        old_execution(user, 100, chunks=7)

    def rows() -> int:
        return sum(model.objects.count() for model in (Event, OutputChunk, StepTarget, Step))

    totals = [rows()]
    prune(Pace(rows=12, pause_seconds=0), tell=lambda removed: totals.append(rows()))
    gone = [before - after for before, after in pairwise(totals)]
    assert sum(gone) == 5 * (21 + 2 * 3 + 2) + 5 * 8
    assert max(gone) == 12


def test_it_ends_between_two_batches_when_it_is_told_to(user: User) -> None:
    for _ in range(4):
        old_execution(user, 100)
    batches: list[int] = []
    prune(
        Pace(rows=1, pause_seconds=0),
        tell=lambda removed: batches.append(removed["events"]),
        stop=lambda: Event.objects.count() == 2,
    )
    assert Event.objects.count() == 2
    prune(QUICK)
    assert Event.objects.count() == 0


def test_a_remark_on_an_execution_without_events_does_not_bring_the_rest_back(user: User) -> None:
    execution = old_execution(user, 100)
    prune(QUICK)
    execution.refresh_from_db()
    marked = execution.events_pruned_at
    assert say(execution, "execution.remark") == execution.last_seq + 1
    assert prune(QUICK) == {"events": 1}
    execution.refresh_from_db()
    assert execution.events_pruned_at == marked


def test_the_daily_prune_is_scheduled_once_and_its_time_is_the_operators() -> None:
    from importlib import import_module

    from django.apps import apps
    from django_q.models import Schedule

    schedule = import_module("executions.migrations.0004_retention").schedule_prune
    Schedule.objects.filter(name=retention.NAME).delete()
    schedule(apps, None)
    row = Schedule.objects.get(name="prune")
    assert (row.func, row.schedule_type, row.repeats) == (retention.TASK, "D", -1)
    assert import_string(row.func) is retention.prune_daily
    assert row.next_run > timezone.now()
    Schedule.objects.filter(pk=row.pk).update(next_run=timezone.now() + timedelta(days=7))
    schedule(apps, None)
    assert Schedule.objects.get(name="prune").next_run > timezone.now() + timedelta(days=6)
