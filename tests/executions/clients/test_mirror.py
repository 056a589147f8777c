"""Assets of the asset service as rows of our own."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import DjangoAssertNumQueries

from executions.clients.asset_shapes import ServiceAsset
from executions.inventory_mirror import Mirrored, mirror
from executions.models import Asset, AssetGroup
from safety.models import AuditRecord, Tenant
from tests.contract.fake_services import asset
from tests.installations import wait_until

pytestmark = pytest.mark.django_db


def tenant_id() -> int:
    return Tenant.objects.get(name="default").pk


def bring(*rows: dict[str, Any]) -> Mirrored:
    return mirror([ServiceAsset.model_validate(row) for row in rows], tenant_id=tenant_id())


def somebody_waits() -> bool:
    """For a lock, of whichever kind."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        row = cursor.fetchone()
    return bool(row and row[0])


def one(external_id: str) -> Asset:
    return Asset.objects.get(external_id=external_id)


def test_a_row_that_says_nothing_gets_what_asks_for_the_most_approval_and_cannot_be_reached() -> None:
    bring(asset(7, ""))
    row = one("7")
    assert (row.name, row.environment, row.criticality, row.connection) == (
        "asset 7", "production", "medium", "unknown",
    )  # fmt: skip
    assert row.is_active


@pytest.mark.parametrize(
    ("service_type", "connection"),
    [
        ("ssh", "ssh"), ("WinRM", "powershell"), ("http", "api"), ("https", "api"), (None, "unknown"), ("rdp", "rdp"),
        ("a very long service type", "unknown"), ("Local", "unknown"),
    ],
)  # fmt: skip
def test_the_service_type_decides_the_connection(service_type: str | None, connection: str) -> None:
    bring(asset(1, "x", service_type=service_type))
    assert one("1").connection == connection


@pytest.mark.parametrize(
    ("fields", "is_target"),
    [
        ({}, True), ({"status": "active", "is_active": True}, True), ({"status": "maintenance"}, True),
        ({"is_active": False}, False), ({"status": "inactive"}, False),
        ({"status": "Decommissioned", "is_active": True}, False),
    ],
)  # fmt: skip
def test_what_is_out_of_use_there_is_no_target_here(fields: dict[str, Any], is_target: bool) -> None:
    bring(asset(1, "x", **fields))
    assert one("1").is_active is is_target


def test_a_foreign_word_never_lowers_what_has_to_be_approved() -> None:
    bring(asset(1, "x", environment="dev", criticality="meh"), asset(2, "y", environment="Staging", criticality="LOW"))
    assert (one("1").environment, one("1").criticality) == ("production", "critical")
    assert (one("2").environment, one("2").criticality) == ("staging", "low")


def test_what_the_service_leaves_open_is_kept_here_but_never_an_address() -> None:
    bring(asset(1, "x", hostname="x.example.org", ip_address="10.0.0.1", port=22))
    row = one("1")
    row.environment, row.owner, row.connection, row.credential = "development", "team", "ssh", "ssh/x"
    row.save()
    group = AssetGroup.objects.create(tenant_id=tenant_id(), name="web")
    row.groups.add(group)
    bring(asset(1, "x", description="new"))
    row.refresh_from_db()
    assert (row.environment, row.owner, row.connection, row.credential) == ("development", "team", "ssh", "ssh/x")
    assert (row.hostname, row.ip_address, row.port, row.description) == ("", None, None, "new")
    assert list(row.groups.all()) == [group]


@pytest.mark.parametrize("source", ["", "cmdb"])
def test_a_credential_that_was_given_to_another_row_is_moved_nowhere(source: str) -> None:
    """Whoever may edit the row writes an id of the service into it, and the next look-up would move its address."""
    Asset.objects.create(
        tenant_id=tenant_id(), name="vault", hostname="vault.example.org", ip_address="10.0.0.1", connection="ssh",
        credential="ssh/vault", external_id="7", source=source,
    )  # fmt: skip
    said = asset(7, "db-7", hostname="db-7.example.org", ip_address="10.0.0.7", service_type="ssh")
    for _ in range(2):
        done = bring(said, asset(8, "web"))
        assert list(done.refused) == ["7"]
        assert "another ip address, hostname." in done.refused["7"]
        assert list(done.ids) == ["8"], "nor is it the machine that a plan means by the service's name"
    kept = one("7")
    assert (kept.name, kept.hostname, kept.ip_address) == ("vault", "vault.example.org", "10.0.0.1")
    assert (kept.credential, kept.source) == ("ssh/vault", source)

    Asset.objects.update(credential="")  # nothing is sent anywhere then
    assert bring(said).refused == {}
    assert one("7").hostname == "db-7.example.org"


def test_a_row_of_our_own_that_is_where_the_service_says_is_kept_up_to_date() -> None:
    Asset.objects.create(
        tenant_id=tenant_id(), name="mine", hostname="db-7.example.org", connection="ssh", credential="ssh/db",
        external_id="7",
    )  # fmt: skip
    done = bring(asset(7, "db-7", hostname="db-7.example.org", service_type="ssh", owner="team"))
    assert (done.refused, one("7").owner, one("7").credential) == ({}, "team", "ssh/db")


def test_names_that_clash_are_told_apart_and_stay_as_they_are() -> None:
    Asset.objects.create(tenant_id=tenant_id(), name="web-1", connection="ssh")
    bring(asset(1, "web-1"), asset(2, "db"), asset(3, "db"))
    assert {row.external_id: row.name for row in Asset.objects.exclude(external_id="")} == {
        "1": "web-1 (1)", "2": "db", "3": "db (3)",
    }  # fmt: skip
    again = bring(asset(1, "web-1"), asset(2, "db"), asset(3, "db"))
    assert (again.created, again.updated, again.unchanged) == ([], [], 3)
    bring(asset(2, "db-a"), asset(3, "db-a"))
    bring(asset(2, "x" * 400), asset(3, "x" * 400))
    assert len({row.name for row in Asset.objects.all()}) == Asset.objects.count()


def test_ids_are_of_a_tenant_and_may_be_numbers_or_uuids() -> None:
    other = Tenant.objects.create(name="other")
    Asset.objects.create(tenant=other, name="theirs", connection="ssh", external_id="5")
    uuid = "6f1c2f9e-6f0c-4a3e-9f7e-0a6b8f7f2f10"
    done = bring(asset(5, "a"), asset(uuid, "b"))
    assert set(done.ids) == {"5", uuid}
    assert set(done.ids.values()) == {
        one_of.pk for one_of in Asset.objects.filter(external_id__in=["5", uuid], tenant_id=tenant_id())
    }


def test_nothing_is_written_or_locked_when_nothing_differs(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    rows = [ServiceAsset.model_validate(asset(number, f"h{number}", tags=["a"])) for number in range(50)]
    mine = tenant_id()
    mirror(rows, tenant_id=mine)
    records = AuditRecord.objects.count()
    with django_assert_num_queries(1):
        mirror(rows, tenant_id=mine)
    assert AuditRecord.objects.count() == records


def test_what_was_brought_in_is_on_record() -> None:
    bring(asset(1, "x"))
    record = AuditRecord.objects.get(action="asset.import")
    assert record.data["source"] == "asset-service"
    assert record.data["names"] == ["x"]


@pytest.mark.django_db(transaction=True)
def test_a_name_that_somebody_takes_at_that_moment_is_told_apart() -> None:
    """Making an asset by hand takes no lock: its name is not to be seen until it is committed."""
    mine, done = tenant_id(), []

    def bring_it() -> None:
        try:
            done.append(mirror([ServiceAsset.model_validate(asset(1, "taken"))], tenant_id=mine))
        finally:
            connection.close()

    thread = threading.Thread(target=bring_it)
    with transaction.atomic():
        Asset.objects.create(tenant_id=mine, name="taken", connection="ssh")
        thread.start()
        wait_until(somebody_waits, what="the wait for the unique index")
    thread.join(20)
    assert [(one.created, one.unchanged) for one in done] == [(["taken (1)"], 0)]


@pytest.mark.django_db(transaction=True)
def test_what_a_person_writes_at_that_moment_is_not_written_over() -> None:
    """Two rows, which differ in different columns: one statement writes both."""
    bring(asset(1, "x"), asset(2, "y"))
    mine = tenant_id()
    rows = [ServiceAsset.model_validate(row) for row in (asset(1, "x", description="new"), asset(2, "y", owner="ops"))]

    def bring_them() -> None:
        try:
            mirror(rows, tenant_id=mine)
        finally:
            connection.close()

    thread = threading.Thread(target=bring_them)
    with transaction.atomic():
        Asset.objects.filter(external_id="2").update(description="the spare one", environment="staging")
        thread.start()
        wait_until(somebody_waits, what="the wait for the row")
    thread.join(20)
    assert (one("1").description, one("2").owner) == ("new", "ops")
    assert (one("2").description, one("2").environment) == ("the spare one", "staging")


@pytest.mark.django_db(transaction=True)
def test_of_many_that_bring_the_same_rows_at_once_every_row_is_made_once() -> None:
    rows = [ServiceAsset.model_validate(asset(number, "same")) for number in range(20)]
    mine, barrier = tenant_id(), threading.Barrier(6)
    done: list[Mirrored] = []

    def one_of_them(turned: bool) -> None:
        barrier.wait()
        try:
            done.append(mirror(rows[::-1] if turned else rows, tenant_id=mine))
        finally:
            connection.close()

    threads = [threading.Thread(target=one_of_them, args=(number % 2 == 0,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 6
    assert Asset.objects.exclude(external_id="").count() == 20
    assert sum(len(mirrored.created) for mirrored in done) == 20
    assert all(mirrored.ids == done[0].ids for mirrored in done)
