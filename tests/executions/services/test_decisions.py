"""Approve, reject, expire: who may, how many are needed, and once only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from guardian.shortcuts import assign_perm

from executions.models import Approval, AssetGroup, Event, Execution, PendingApproval
from executions.services import Refused, approve, cancel, reject
from executions.services.decisions import expire_overdue
from queueing.models import AssetLock, QueueEntry
from safety import rbac
from safety.models import User
from tests.executions.services.requests import (
    ask,
    ask_new,
    assert_out_of_the_queue,
    assert_told_in_order,
    change,
    kinds,
    make_asset,
    make_user,
    status_of,
    steps_of,
    together,
)
from tests.queueing.lines import several

pytestmark = [pytest.mark.django_db]


@pytest.fixture
def waiting(alice: User) -> int:
    """Needs one approver: it changes one machine in production."""
    make_asset("prod1")
    return ask_new(alice, "prod1")


@pytest.fixture
def critical(alice: User) -> int:
    """Needs two approvers."""
    make_asset("vault", criticality="critical")
    execution_id = ask_new(alice, "vault")
    assert Execution.objects.get(pk=execution_id).approval_level == 3
    return execution_id


@pytest.fixture
def approver(db: None) -> User:
    return make_user("approver", "approver")


def code(call: object) -> str:
    assert isinstance(call, Refused), call
    return call.code


def refusal(execution_id: int, by: User, verb: object = approve) -> str:
    assert callable(verb)
    with pytest.raises(Refused) as refused:
        verb(execution_id, by=by)
    return refused.value.code


def test_an_approval_puts_it_into_the_queue_with_its_locks(waiting: int, approver: User) -> None:
    assert approve(waiting, by=approver, comment="looks right") == "queued"
    assert status_of(waiting) == "queued"
    assert QueueEntry.objects.get(pk=waiting).state == "ready"
    assert AssetLock.objects.filter(execution_id=waiting, exclusive=True).count() == 1
    assert kinds(waiting) == ["execution.submitted", "approval.given", "execution.approved"]
    event = Event.objects.get(execution_id=waiting, kind="approval.given")
    execution = Execution.objects.get(pk=waiting)
    assert (event.actor, event.reason) == ("user:approver", "looks right")
    assert event.data == {"given": 1, "needed": 1, "plan_hash": execution.plan_hash}
    approval = Approval.objects.get()
    assert (approval.plan_hash, approval.targets_hash) == (execution.plan_hash, execution.targets_hash)
    assert len(execution.targets_hash) == 64
    assert not PendingApproval.objects.exists()
    assert_told_in_order(waiting)


def test_nobody_approves_or_rejects_what_he_asked_for(waiting: int, alice: User) -> None:
    assert refusal(waiting, alice) == "self_approval"
    assert refusal(waiting, alice, reject) == "self_approval"
    assert status_of(waiting) == "pending_approval"
    assert kinds(waiting) == ["execution.submitted"]


def test_it_takes_the_right_to_approve_in_the_same_tenant(waiting: int) -> None:
    assert refusal(waiting, make_user("bob", "requester")) == "forbidden"
    assert refusal(waiting, make_user("eve", "admin", tenant="other")) == "not_found"
    assert refusal(waiting + 1000, make_user("carol", "approver")) == "not_found"
    assert Approval.objects.count() == 0


def test_two_approvers_are_two_people(critical: int, approver: User) -> None:
    assert approve(critical, by=approver) == "pending_approval"
    assert refusal(critical, approver) == "already_decided"
    assert QueueEntry.objects.count() == 0
    assert approve(critical, by=make_user("second", "approver")) == "queued"
    assert kinds(critical).count("approval.given") == 2
    assert_told_in_order(critical)


def test_an_approval_of_another_plan_does_not_count(critical: int, approver: User) -> None:
    approve(critical, by=approver)
    Approval.objects.update(plan_hash="0" * 64)
    assert approve(critical, by=make_user("second", "approver")) == "pending_approval"
    assert QueueEntry.objects.count() == 0


def test_one_rejection_ends_it(critical: int, approver: User) -> None:
    approve(critical, by=approver)
    assert reject(critical, by=make_user("second", "approver"), comment="not on Friday") == "rejected"
    execution = Execution.objects.get(pk=critical)
    assert (execution.status, execution.status_reason) == ("rejected", "not on Friday")
    assert steps_of(critical) == {"a": "skipped"}
    assert kinds(critical)[-2:] == ["step.skipped", "execution.rejected"]
    assert refusal(critical, make_user("third", "approver")) == "not_waiting_for_approval"
    assert_out_of_the_queue(critical)
    assert_told_in_order(critical)


def test_what_is_decided_cannot_be_decided_again(waiting: int, approver: User) -> None:
    approve(waiting, by=approver)
    assert refusal(waiting, make_user("second", "approver")) == "not_waiting_for_approval"
    assert refusal(waiting, make_user("third", "approver"), reject) == "not_waiting_for_approval"
    assert QueueEntry.objects.count() == 1


def test_a_rejected_change_can_be_asked_for_again(alice: User, approver: User) -> None:
    make_asset("prod1")
    first = ask(alice, change("same", "prod1"))
    assert ask(alice, change("same", "prod1")).replay is True
    reject(first.execution_id, by=approver)
    assert ask(alice, change("same", "prod1")).execution_id != first.execution_id


def test_without_an_approval_in_time_it_expires(waiting: int, alice: User, approver: User) -> None:
    other = ask_new(alice, "prod1")
    assert expire_overdue() == 0
    Execution.objects.filter(pk=waiting).update(approval_expires_at=timezone.now() - timedelta(seconds=1))
    assert refusal(waiting, approver) == "approval_expired", "also before anybody has swept it up"
    assert status_of(waiting) == "pending_approval"
    assert expire_overdue() == 1
    assert [status_of(waiting), status_of(other)] == ["expired", "pending_approval"]
    assert steps_of(waiting) == {"a": "skipped"}
    assert Event.objects.filter(execution_id=waiting).order_by("-seq")[0].actor == "system"
    assert_told_in_order(waiting)


def test_what_waits_anew_since_it_was_seen_as_overdue_does_not_expire(waiting: int) -> None:
    """Between the look and the lock it was approved, ran, and waits before its next step, with a new time."""
    Execution.objects.filter(pk=waiting).update(approval_expires_at=timezone.now() - timedelta(seconds=1))
    seen: list[str] = []

    def wait_anew(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        answer = execute(sql, *rest)
        seen.append(sql)
        if len(seen) == 1:
            Execution.objects.filter(pk=waiting).update(approval_expires_at=timezone.now() + timedelta(hours=1))
        return answer

    with connection.execute_wrapper(wait_anew):
        assert expire_overdue() == 0
    assert "approval_expires_at" in seen[0]
    assert status_of(waiting) == "pending_approval"


@several
def test_what_somebody_decides_on_is_not_waited_for(waiting: int, alice: User) -> None:
    other = ask_new(alice, "prod1")
    for hours, one in ((2, waiting), (1, other)):
        Execution.objects.filter(pk=one).update(approval_expires_at=timezone.now() - timedelta(hours=hours))

    def expire() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
        return expire_overdue()

    with transaction.atomic():
        Execution.objects.select_for_update().get(pk=waiting)
        assert together(expire) == [1]
    assert [status_of(waiting), status_of(other)] == ["pending_approval", "expired"]
    assert together(expire) == [1]


def test_one_that_cannot_be_expired_keeps_none_behind_it_from_their_end(waiting: int, alice: User) -> None:
    other = ask_new(alice, "prod1")
    for hours, one in ((2, waiting), (1, other)):
        Execution.objects.filter(pk=one).update(approval_expires_at=timezone.now() - timedelta(hours=hours))
    last = Execution.objects.values_list("last_seq", flat=True).get(pk=waiting)
    Event.objects.create(execution_id=waiting, seq=last + 1, kind="approval.given", actor="system")
    assert expire_overdue() == 1
    assert [status_of(waiting), status_of(other)] == ["pending_approval", "expired"]


@several
def test_of_two_approvals_at_once_each_counts_and_one_puts_it_into_the_queue(critical: int, alice: User) -> None:
    people = [make_user(name, "approver") for name in ("one", "two")]
    for one in [critical, *(ask_new(alice, "vault") for _ in range(5))]:
        assert sorted(together(*[partial(approve, one, by=by) for by in people])) == ["pending_approval", "queued"]
        assert QueueEntry.objects.filter(pk=one).count() == 1
        assert kinds(one).count("execution.approved") == 1
        assert_told_in_order(one)


@several
def test_of_many_decisions_at_once_one_decides(waiting: int, alice: User) -> None:
    people = [make_user(f"approver{number}", "approver") for number in range(6)]
    calls: list[Callable[[], object]] = [partial(approve, waiting, by=by) for by in people[:3]]
    calls += [partial(reject, waiting, by=by) for by in people[3:]]
    calls += [partial(cancel, waiting, by=alice, reason="no"), expire_overdue]
    Execution.objects.filter(pk=waiting).update(approval_expires_at=timezone.now() + timedelta(seconds=60))
    answers = together(*calls)
    assert not [a for a in answers if isinstance(a, BaseException) and not isinstance(a, Refused)], answers
    final = status_of(waiting)
    assert final in ("queued", "rejected", "cancelled")
    won = [answer for answer in answers if isinstance(answer, str)]
    assert final in won
    # A cancel may follow an approval; nothing may follow a rejection, and nothing happens twice.
    assert sorted(won) in (["queued"], ["rejected"], ["cancelled"], ["cancelled", "queued"])
    assert QueueEntry.objects.filter(pk=waiting).exists() is (final == "queued")
    assert_told_in_order(waiting)


def test_a_machine_of_development_vouches_for_nothing_that_goes_elsewhere(alice: User) -> None:
    machine = make_asset("dev1", environment="development")
    post = {"id": "post", "tool": "http", "inputs": {"method": "POST", "url": "https://api.example.net/orders"}}
    look = {"id": "look", "tool": "http", "inputs": {"method": "GET", "url": "https://api.example.net/orders"}}
    assert ask(alice, change("x", "dev1")).approval_level == 0
    assert ask(alice, look, change("y", "dev1")).approval_level == 0
    accepted = ask(alice, post, {"id": "see", "tool": "ps", "targets": ["dev1"]})
    assert accepted.approval_level == 1

    of_the_group = make_user("of_the_group")
    group = AssetGroup.objects.create(tenant_id=alice.tenant_id, name="dev")
    group.assets.add(machine)
    assign_perm("approve", of_the_group, group)
    assert not rbac.can_approve(of_the_group, Execution.objects.get(pk=accepted.execution_id))
