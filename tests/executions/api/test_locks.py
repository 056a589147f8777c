"""Locks over the API: who holds what, who waits, and how one is taken back."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from executions.models import Asset, Event, Execution
from queueing import queue
from queueing.models import AssetLock, QueueEntry, Worker
from tests.executions.api.conftest import Api, MakeApi, problem_of
from tests.executions.live.rows import make_execution

pytestmark = pytest.mark.django_db


def hold(by: Api, *assets: Asset, exclusive: bool = True, claim: bool = True, status: str = "queued") -> Execution:
    """An execution with a lock, or in line for one, as intake and the claim leave it."""
    execution = make_execution(by.user, steps=["one"], hosts=[asset.name for asset in assets], status=status)
    locks = [{"asset_id": asset.pk, "exclusive": exclusive} for asset in assets]
    queue.enqueue(
        [
            {"execution_id": execution.pk, "tenant_id": execution.tenant_id, "priority": 5, "not_before": None,
             "max_attempts": 3, "locks": locks}
        ]
    )  # fmt: skip
    if claim:
        worker = Worker.objects.create(cluster="c", host="h", pid=execution.pk, version="0", slots=10)
        claimed = queue.claim(connection.connection, worker.pk, 50, settings.LEASE)
        assert execution.pk in [lease.execution_id for lease in claimed.leases]
        Execution.objects.filter(pk=execution.pk).update(status="running")
    return execution


def asset(by: Api, name: str) -> Asset:
    return Asset.objects.create(tenant=by.user.tenant, name=name, connection="local", environment="development")


def rows(by: Api, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = by.get(f"locks/{query}").json()["results"]
    return found


def test_a_lock_shows_its_holder_and_who_waits(admin: Api) -> None:
    db, web = asset(admin, "db-12"), asset(admin, "web-1")
    holder = hold(admin, db)
    reader = hold(admin, web, exclusive=False)
    waiting = [hold(admin, db, exclusive=exclusive, claim=False) for exclusive in (True, False)]

    of_web, of_db = rows(admin)

    assert (of_db["asset"], of_db["asset_name"], of_db["execution"]) == (db.pk, "db-12", holder.pk)
    assert (of_db["mode"], of_web["mode"], of_web["execution"]) == ("exclusive", "shared", reader.pk)
    assert of_db["fence"] == AssetLock.objects.get(execution_id=holder.pk).fence
    assert of_db["since"]
    assert of_db["waiting"] == 2
    assert of_db["waiters"] == [
        {"execution": waiting[0].pk, "mode": "exclusive"}, {"execution": waiting[1].pk, "mode": "shared"}
    ]  # fmt: skip
    assert (of_db["freeing"], of_db["title"]) == (False, holder.title)
    assert [row["execution"] for row in rows(admin, f"?asset={web.pk}")] == [reader.pk]
    problem_of(admin.get("locks/?asset=web-1"), 400, "invalid_parameter")


def test_the_list_of_locks_costs_the_same_however_many_they_are(
    admin: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(12):
        hold(admin, asset(admin, f"a{number}"))
    admin.get("locks/")
    # who calls, its tenant and roles are two; locks, names, titles, who is asked to let go, who waits
    with django_assert_num_queries(6):
        assert len(rows(admin)) == 12
    first = admin.get("locks/?limit=5").json()
    assert len(admin.get(first["next"]).json()["results"]) == 5


def test_locks_of_another_tenant_are_invisible_and_not_to_be_freed(admin: Api, stranger: Api) -> None:
    theirs = asset(stranger, "db-12")
    holder = hold(stranger, theirs)
    assert rows(admin) == []
    problem_of(admin.post(f"locks/{theirs.pk}/free/", {"reason": "x"}), 404, "not_found")
    assert QueueEntry.objects.get(pk=holder.pk).revoked_at is None
    assert len(rows(stranger)) == 1


def test_freeing_a_lock_cancels_its_holder_and_ends_its_lease_with_the_reason(admin: Api) -> None:
    db = asset(admin, "db-12")
    holder = hold(admin, db)
    told = admin.post(f"locks/{db.pk}/free/", {"reason": "it hangs"}).json()
    assert told["holders"] == [{"execution": holder.pk, "status": "cancelling", "revoked": True}]
    assert told["free_within_seconds"] == pytest.approx(settings.LEASE.total_seconds() * 4 / 3, abs=3)
    entry = QueueEntry.objects.get(pk=holder.pk)
    assert (entry.state, entry.revoked_at is not None) == ("leased", True)
    assert AssetLock.objects.get(execution_id=holder.pk).state == "held", "not before its command has ended"
    assert rows(admin)[0]["freeing"] is True
    said = list(Event.objects.filter(execution=holder).order_by("seq").values_list("kind", "actor", "reason"))
    assert said[1:] == [
        ("execution.cancelling", "user:root", "To free the lock on db-12: it hangs"),
        ("execution.revoked", "user:root", "it hangs"),
    ]
    again = admin.post(f"locks/{db.pk}/free/", {"reason": "still"}).json()
    assert again["holders"][0]["status"] == "cancelling"


def test_all_readers_of_a_shared_lock_are_cancelled(admin: Api) -> None:
    db = asset(admin, "db-12")
    readers = [hold(admin, db, exclusive=False) for _ in range(3)]
    told = admin.post(f"locks/{db.pk}/free/", {"reason": "a writer must in"}).json()
    assert [one["execution"] for one in told["holders"]] == [reader.pk for reader in readers]
    assert QueueEntry.objects.filter(revoked_at__isnull=False).count() == 3


def test_a_lock_is_not_freed_without_reason_holder_or_right(admin: Api, make_api: MakeApi) -> None:
    db, free = asset(admin, "db-12"), asset(admin, "free")
    holder = hold(admin, db)
    waiter = hold(admin, db, claim=False)
    for body in ({}, {"reason": ""}, {"reason": "  "}):
        problem_of(admin.post(f"locks/{db.pk}/free/", body), 422, "reason_required")
    problem_of(admin.post(f"locks/{free.pk}/free/", {"reason": "x"}), 409, "not_held")
    problem_of(admin.post("locks/999999/free/", {"reason": "x"}), 404, "not_found")
    for role in ("viewer", "requester", "approver"):
        problem_of(make_api(role, role).post(f"locks/{db.pk}/free/", {"reason": "x"}), 403, "forbidden")
    problem_of(make_api("nobody").post(f"locks/{db.pk}/free/", {"reason": "x"}), 404, "not_found")
    assert QueueEntry.objects.get(pk=holder.pk).revoked_at is None
    assert Execution.objects.get(pk=holder.pk).status == "running"
    assert Execution.objects.get(pk=waiter.pk).status == "queued"
    assert make_api("olga", "operator").post(f"locks/{db.pk}/free/", {"reason": "x"}).status_code == 200


def test_of_several_holders_none_is_touched_when_one_may_not_be_cancelled(admin: Api, make_api: MakeApi) -> None:
    db = asset(admin, "db-12")
    requester = make_api("rita", "requester")
    own, other = hold(requester, db, exclusive=False), hold(admin, db, exclusive=False)
    problem_of(requester.post(f"locks/{db.pk}/free/", {"reason": "x"}), 403, "forbidden")
    assert {Execution.objects.get(pk=one.pk).status for one in (own, other)} == {"running"}
