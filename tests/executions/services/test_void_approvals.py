"""What makes an approval void: other machines than were shown, an approver who left, or who takes it back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection, transaction
from guardian.shortcuts import assign_perm

from executions.models import Approval, Asset, AssetGroup, Execution, StepTarget
from executions.services import Refused, approve, reject, requeue_dead_letters, resolve, withdraw_approval
from executions.target_changes import targets_hash
from queueing.models import DeadLetter, QueueEntry
from safety.accounts import set_roles
from safety.models import User
from tests.executions.services.requests import (
    FakeWorker,
    ask,
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
from tests.installations import wait_until
from tests.queueing.lines import several

pytestmark = [pytest.mark.django_db]


@pytest.fixture
def approver(db: None) -> User:
    return make_user("approver", "approver")


@pytest.fixture
def second(db: None) -> User:
    return make_user("second", "approver")


def refused(call: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as refusal:
        call()
    return refusal.value


def query(key: str = "find") -> dict[str, object]:
    return {"id": key, "tool": "asset-query", "inputs": {"filters": {"environment": "production"}}}


def leave_group() -> None:
    AssetGroup.objects.get(name="web").assets.remove(Asset.objects.get(name="web2"))


def join_group() -> None:
    AssetGroup.objects.get(name="web").assets.add(make_asset("web3"))


def altered(**fields: object) -> Callable[[], object]:
    return lambda: Asset.objects.filter(name="web1").update(**fields)


CHANGES: dict[str, tuple[Callable[[], object], str]] = {
    "renamed": (altered(name="db1"), "web1 was changed: name was web1, is db1."),
    "other host name": (
        altered(hostname="b.example"),
        "web1 was changed: hostname was a.example, is b.example.",
    ),
    "other address": (altered(ip_address="10.0.0.9"), "web1 was changed: ip address was empty, is 10.0.0.9."),
    "other port": (altered(port=2222), "web1 was changed: port was empty, is 2222."),
    "other connection": (altered(connection="ssh"), "web1 was changed: connection was local, is ssh."),
    "other environment": (
        altered(environment="staging"),
        "web1 was changed: environment was production, is staging.",
    ),
    "more critical": (altered(criticality="critical"), "web1 was changed: criticality was medium, is critical."),
    "taken out of use": (altered(is_active=False), "web1 was taken out of use."),
    "removed": (lambda: Asset.objects.filter(name="web1").delete(), "web1 was removed from the inventory."),
    "came into the group": (join_group, "The group web has web3 now, which the plan would not touch."),
    "left the group": (leave_group, "The group web has lost 1 of the 2 machines that the plan touches."),
    "was given the tag": (
        lambda: make_asset("web4", environment="staging", tags=["front"]),
        "The tag front has web4 now, which the plan would not touch.",
    ),
    "is found by the query": (
        lambda: make_asset("web5"),
        "The asset-query has web5 now, which the plan would not touch.",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_not_on_the_machines_that_were_shown_is_not_approved(what: str, alice: User, approver: User) -> None:
    web = AssetGroup.objects.create(tenant=alice.tenant, name="web")
    for name in ("web1", "web2"):
        web.assets.add(make_asset(name, hostname="a.example" if name == "web1" else "", tags=["front"]))
    one = ask(
        alice,
        query(),
        change("grouped", "group:web", key="a"),
        change("tagged", "tag:front", key="b"),
        change("named", "web1", key="c"),
        {"id": "d", "tool": "shell", "inputs": {"command": "echo found"}, "target_hosts": "{{ assets[*].name }}"},
    ).execution_id
    alter, sentence = CHANGES[what]
    alter()

    told = refused(lambda: approve(one, by=approver))
    assert (told.code, told.status) == ("targets_changed", 409)
    assert sentence in [error["message"] for error in told.errors]
    assert "submitted again" in told.how_to_fix
    assert (status_of(one), Approval.objects.count(), QueueEntry.objects.count()) == ("pending_approval", 0, 0)
    assert reject(one, by=approver, comment="have it looked at again") == "rejected", "to refuse it is always possible"


SIGN_IN = {"username": "deploy", "credential": "ssh/web", "host_key": "ssh-ed25519 AAAA1\nSHA256:two"}


def far_asset(name: str, **fields: str) -> Asset:
    asset = make_asset(name, **(SIGN_IN | fields))
    Asset.objects.filter(pk=asset.pk).update(connection="ssh")
    return asset


@pytest.mark.parametrize(
    ("change_to", "sentence"),
    [
        ({"username": "root"}, "username was deploy, is root."),
        ({"credential": "ssh/root"}, "credential was ssh/web, is ssh/root."),
        ({"domain": "CORP"}, "domain was empty, is CORP."),
        ({"host_key": "ssh-ed25519 AAAA2"}, "its host key is another."),
        ({"host_key": ""}, "its host key is another."),
    ],
)
def test_an_approval_is_for_who_signs_in_and_for_the_machine_that_shows_its_key(
    change_to: dict[str, str], sentence: str, alice: User, approver: User
) -> None:
    asset = far_asset("web1")
    one = ask(alice, change("x", "web1")).execution_id
    Asset.objects.filter(pk=asset.pk).update(**change_to)
    told = refused(lambda: approve(one, by=approver))
    assert (told.code, [error["message"] for error in told.errors]) == (
        "targets_changed",
        [f"web1 was changed: {sentence}"],
    )


def test_a_key_that_is_pinned_first_and_the_same_keys_in_another_order_void_nothing(
    alice: User, approver: User
) -> None:
    for name, before, after in (
        ("web1", "", "ssh-ed25519 AAAA1"),
        ("web2", "ssh-ed25519 AAAA1\nSHA256:two", " SHA256:two\nssh-ed25519 AAAA1\n"),
    ):
        asset = far_asset(name, host_key=before)
        one = ask(alice, change("x", name)).execution_id
        Asset.objects.filter(pk=asset.pk).update(host_key=after)
        assert approve(one, by=approver) == "queued"


def test_a_plan_of_an_earlier_release_says_nothing_of_who_signs_in(alice: User, approver: User) -> None:
    asset = far_asset("web1")
    one = ask(alice, change("x", "web1")).execution_id
    plan = Execution.objects.get(pk=one).plan
    (target,) = plan.document["steps"][0]["targets"]
    assert "deploy" in target.pop("sign_in")
    plan.save()
    Execution.objects.filter(pk=one).update(targets_hash=targets_hash(plan.document))
    Asset.objects.filter(pk=asset.pk).update(username="root")
    assert approve(one, by=approver) == "queued"


def test_a_query_stands_for_what_its_requester_may_see(approver: User) -> None:
    nora = make_user("nora")
    assign_perm("execute_modify", nora, make_asset("web1"))
    make_asset("db1")
    found = {"id": "x", "tool": "shell", "inputs": {"command": "echo x"}, "target_hosts": "{{ assets[*].name }}"}
    one = ask(nora, query(), found).execution_id
    make_asset("db2")
    assert approve(one, by=approver) == "queued"


def test_what_changes_nothing_that_was_shown_does_no_harm(alice: User, approver: User) -> None:
    asset = make_asset("web1")
    one = ask(alice, change("x", "web1")).execution_id
    Asset.objects.filter(pk=asset.pk).update(description="new", owner="somebody", os_version="13", tags=["new"])
    make_asset("web1-twin", hostname="web1.example")
    assert approve(one, by=approver) == "queued"


def test_the_hash_of_the_targets_is_of_what_was_shown(alice: User) -> None:
    make_asset("web1")
    one = Execution.objects.get(pk=ask(alice, change("x", "web1")).execution_id)
    assert one.targets_hash == targets_hash(one.plan.document)
    Asset.objects.filter(name="web1").update(hostname="other.example")
    other = Execution.objects.get(pk=ask(alice, change("y", "web1")).execution_id)
    assert other.targets_hash != one.targets_hash
    make_asset("dev", environment="development")
    assert Execution.objects.get(pk=ask(alice, change("z", "dev")).execution_id).targets_hash == ""


def test_a_plan_of_an_earlier_release_has_no_port_and_stays_approved(alice: User, approver: User, second: User) -> None:
    make_asset("vault", criticality="critical", port=22)
    one = ask(alice, change("x", "vault")).execution_id
    plan = Execution.objects.get(pk=one).plan
    (target,) = plan.document["steps"][0]["targets"]
    assert target["port"] == 22
    with_port = targets_hash(plan.document)
    del target["port"]
    plan.save()
    shown = [target[name] for name in ("name", "hostname", "ip_address", "connection", "environment", "criticality")]
    form = json.dumps([{str(target["asset_id"]): shown}, [[target["asset_id"]]], []], sort_keys=True)
    assert targets_hash(plan.document) == hashlib.sha256(form.encode()).hexdigest() != with_port
    Asset.objects.update(port=2222)
    assert approve(one, by=approver) == "pending_approval"
    assert approve(one, by=second) == "queued"


def test_an_approval_for_other_targets_does_not_count(alice: User, approver: User, second: User) -> None:
    make_asset("vault", criticality="critical")
    one = ask(alice, change("x", "vault")).execution_id
    approve(one, by=approver)
    Approval.objects.update(targets_hash="0" * 64)
    assert approve(one, by=second) == "pending_approval"
    assert QueueEntry.objects.count() == 0


@pytest.mark.parametrize("how", ["lost the role", "was deactivated"])
def test_who_may_not_approve_any_more_does_not_count(how: str, alice: User, approver: User, second: User) -> None:
    make_asset("vault", criticality="critical")
    one = ask(alice, change("x", "vault")).execution_id
    approve(one, by=approver)
    if how == "lost the role":
        set_roles(approver, ["viewer"])
    else:
        User.objects.filter(pk=approver.pk).update(is_active=False)
    assert approve(one, by=second) == "pending_approval"
    assert approve(one, by=make_user("third", "approver")) == "queued"


# --- withdrawing


def test_an_approval_is_taken_back_while_it_waits_for_more(alice: User, approver: User, second: User) -> None:
    make_asset("vault", criticality="critical")
    one = ask(alice, change("x", "vault")).execution_id
    approve(one, by=approver)
    assert refused(lambda: withdraw_approval(one, by=approver, reason=" ")).code == "reason_required"
    assert refused(lambda: withdraw_approval(one, by=second, reason="x")).code == "nothing_to_withdraw"
    assert refused(lambda: withdraw_approval(one, by=alice, reason="x")).code == "nothing_to_withdraw"
    assert withdraw_approval(one, by=approver, reason="looked again") == "pending_approval"
    assert kinds(one)[-1] == "approval.withdrawn"
    assert approve(one, by=second) == "pending_approval", "it does not count any more"
    assert approve(one, by=approver) == "queued", "and may be given again"
    assert_told_in_order(one)


def test_what_waits_in_the_queue_is_cancelled_without_its_approval(alice: User, approver: User) -> None:
    make_asset("prod1")
    one = ask(alice, change("x", "prod1")).execution_id
    approve(one, by=approver)
    assert withdraw_approval(one, by=approver, reason="wrong window") == "cancelled"
    execution = Execution.objects.get(pk=one)
    assert (execution.status, execution.error_code) == ("cancelled", "approval_withdrawn")
    assert execution.status_reason == "approver withdrew the approval of the plan: wrong window"
    assert steps_of(one) == {"a": "skipped"}
    assert_out_of_the_queue(one)
    assert_told_in_order(one)
    assert refused(lambda: withdraw_approval(one, by=approver, reason="x")).code == "already_final"
    assert not ask(alice, change("x", "prod1")).replay, "it may be asked for again"


@several
def test_of_a_withdrawal_and_a_claim_at_once_one_is_first(alice: User, approver: User, worker: FakeWorker) -> None:
    """Either it is out of the queue, or its worker is asked to stop; never is it run by somebody who was not asked."""
    make_asset("prod1")
    for number in range(8):
        one = ask(alice, change(f"x{number}", "prod1")).execution_id
        approve(one, by=approver)
        withdrawn, leases = together(partial(withdraw_approval, one, by=approver, reason="no"), worker.claim)
        assert withdrawn in ("cancelled", "cancelling"), withdrawn
        assert Approval.objects.filter(execution_id=one, withdrawn_at__isnull=False).count() == 1
        if withdrawn == "cancelled":
            assert_out_of_the_queue(one)
            continue
        assert QueueEntry.objects.get(pk=one).cancel_reason == "approval_withdrawn: user:approver: no"
        for lease in leases.values():
            worker.finish(lease, "cancelled", steps="skipped")
        assert status_of(one) == "cancelled"


@several
def test_of_an_approval_and_a_withdrawal_at_once_none_is_half(alice: User, approver: User, second: User) -> None:
    make_asset("vault", criticality="critical")
    for number in range(6):
        one = ask(alice, change(f"x{number}", "vault")).execution_id
        approve(one, by=approver)
        gave, took = together(
            partial(approve, one, by=second), partial(withdraw_approval, one, by=approver, reason="no")
        )
        # The approval came first, then the withdrawal stopped it; or the withdrawal did, and one approval stands.
        assert (gave, took, status_of(one)) in (
            ("queued", "cancelled", "cancelled"),
            ("pending_approval", "pending_approval", "pending_approval"),
        )
        assert QueueEntry.objects.filter(pk=one).count() == 0
        assert_told_in_order(one)


@several
def test_of_two_withdrawals_of_one_approval_at_once_one_counts(alice: User, approver: User) -> None:
    make_asset("vault", criticality="critical")
    for number in range(6):
        one = ask(alice, change(f"x{number}", "vault")).execution_id
        approve(one, by=approver)
        answers = together(*[partial(withdraw_approval, one, by=approver, reason="no")] * 3)
        assert sorted(answer if isinstance(answer, str) else answer.code for answer in answers) == [
            "nothing_to_withdraw", "nothing_to_withdraw", "pending_approval",
        ]  # fmt: skip
        assert kinds(one).count("approval.withdrawn") == 1


@several
def test_a_withdrawal_waits_for_whoever_puts_it_back_into_the_queue(
    alice: User, approver: User, worker: FakeWorker
) -> None:
    """Else it would find nothing to stop, and a worker would take it with the approval that still stood."""
    make_asset("prod1")
    one = ask(alice, change("x", "prod1")).execution_id
    approve(one, by=approver)
    lease = worker.claim()[one]
    worker.start(lease)
    worker.lose_track(lease, "a")
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert resolve(one, by=alice, step="a", outcome="run_again", reason="nothing was done") == "queued"
            withdrawal = pool.submit(together, partial(withdraw_approval, one, by=approver, reason="wrong window"))
            wait_until(somebody_waits_for_a_lock, what="the withdrawal to come to it")
        assert withdrawal.result(timeout=20) == ["cancelled"]
    execution = Execution.objects.get(pk=one)
    assert (execution.status, execution.error_code) == ("cancelled", "approval_withdrawn")
    assert_out_of_the_queue(one)
    assert_told_in_order(one)


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])


# --- a step that is to run once more


@pytest.mark.parametrize("how", ["resolve", "requeue"])
@several
def test_a_step_that_runs_once_more_is_approved_once_more(
    how: str, alice: User, approver: User, second: User, worker: FakeWorker
) -> None:
    make_asset("vault", criticality="critical")
    one = ask(alice, change("x", "vault", key="wipe", requires_approval=True)).execution_id
    approve(one, by=approver)
    approve(one, by=second)
    lease = worker.claim()[one]
    worker.start(lease)
    assert worker.commit(
        lease,
        execution={"status": "pending_approval", "from": ["running"], "end": "ask", "ask": ["wipe"]},
        event={"kind": "execution.waiting_for_approval", "data": {"to": "pending_approval"}},
    )
    assert_out_of_the_queue(one)
    assert approve(one, by=approver, step="wipe") == "queued"
    given = Approval.objects.get(execution_id=one, step="wipe")
    lease = worker.claim()[one]
    worker.start(lease)
    assert lease.attempt == 2, "attempts go on being counted"
    StepTarget.objects.filter(execution_id=one).update(attempt=1)
    worker.lose_track(lease, "wipe")
    if how == "resolve":
        assert resolve(one, by=alice, step="wipe", outcome="run_again", reason="nothing was done") == "queued"
    else:
        letter = DeadLetter.objects.get(execution_id=one)
        done = requeue_dead_letters([letter.pk], by=alice, reason="harmless", start_from="failed_step")
        assert done == {letter.pk: "requeued"}
    given.refresh_from_db()
    assert given.withdrawn_at is not None
    assert given.withdrawn_reason.startswith("The step is to run once more")


@several
def test_who_has_decided_on_all_that_waits_decides_no_more_and_leaves_no_trace(
    alice: User, approver: User, second: User, worker: FakeWorker
) -> None:
    make_asset("vault", criticality="critical")
    one = ask(alice, change("x", "vault", key="wipe", requires_approval=True)).execution_id
    approve(one, by=approver)
    approve(one, by=second)
    lease = worker.claim()[one]
    worker.start(lease)
    assert worker.commit(
        lease,
        execution={"status": "pending_approval", "from": ["running"], "end": "ask", "ask": ["wipe"]},
        event={"kind": "execution.waiting_for_approval", "data": {"to": "pending_approval"}},
    )
    set_roles(second, ["viewer"])
    assert approve(one, by=approver, step="wipe") == "pending_approval", "the plan has one approver left"
    before = kinds(one)
    for verb in (approve, reject):
        assert refused(partial(verb, one, by=approver)).code == "already_decided"
    assert (status_of(one), kinds(one)) == ("pending_approval", before)
    assert approve(one, by=make_user("third", "approver")) == "queued"
