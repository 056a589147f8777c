"""The inventory as plans see it: exact lookups, groups, tags, queries, and what they cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from executions import inventory as inventory_module
from executions.inventory import SINGLE_LOOKUPS, TenantInventory
from executions.inventory_queries import ROW_FIELDS
from executions.models import Asset, AssetGroup
from safety.models import Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant() -> Tenant:
    return Tenant.objects.create(name="acme")


@pytest.fixture(params=["reference by reference", "loaded at once"])
def inventory(request: pytest.FixtureRequest, tenant: Tenant) -> TenantInventory:
    """Both ways of looking up have to give the same answers; the second loads at the first lookup."""
    made = TenantInventory(tenant.pk)
    if request.param == "loaded at once":
        made._single_lookups = SINGLE_LOOKUPS
    return made


def add(tenant: Tenant, name: str, **fields: Any) -> Asset:
    return Asset.objects.create(tenant=tenant, name=name, **{"connection": "ssh", **fields})


def names(found: Any) -> list[str]:
    return [asset.name for asset in found]


# --- lookups


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("192.0.2.7", ["db"]),
        ("db-7.example.com", ["db"]),
        ("DB-7.Example.COM", ["db"]),
        ("db", ["db"]),
        ("db-7", ["db"]),
        ("2001:0DB8::0001", ["six"]),
        ("10.1.1.1", ["by address"]),
        ("DB", []),  # names are compared exactly
        ("db-", []),
        ("db-70", []),
        ("b-7.example.com", []),
        ("db-7.example", []),
        ("example.com", []),
        ("192.0.2", []),
        ("192.0.2.70", []),
        ("%", []),
        ("", []),
        (" db", []),
        ("db\x00", []),
        ("hidden", []),
        ("elsewhere", []),
        ("99999999999999999999999", []),
    ],
)
def test_a_reference_finds_what_it_names_exactly_and_nothing_else(
    tenant: Tenant, inventory: TenantInventory, ref: str, found: list[str]
) -> None:
    add(tenant, "db", hostname="db-7.example.com", ip_address="192.0.2.7")
    add(tenant, "six", ip_address="2001:db8::1")
    add(tenant, "by address", hostname="10.1.1.1")
    add(tenant, "bare")
    add(tenant, "hidden", hostname="hidden", is_active=False)
    add(Tenant.objects.create(name="other"), "elsewhere", hostname="elsewhere")
    assert names(inventory.lookup(ref)) == found


def test_the_first_key_with_a_match_decides(tenant: Tenant, inventory: TenantInventory) -> None:
    first = add(tenant, "first")
    add(tenant, str(first.pk))  # named like the number of another
    add(tenant, "addressed", ip_address="192.0.2.1")
    add(tenant, "192.0.2.1")
    add(tenant, "hosted", hostname="web")
    add(tenant, "web")
    add(tenant, "api")
    add(tenant, "long", hostname="api.example.com")
    assert names(inventory.lookup(str(first.pk))) == ["first"]
    assert names(inventory.lookup("192.0.2.1")) == ["addressed"]
    assert names(inventory.lookup("web")) == ["hosted"]
    assert names(inventory.lookup("api")) == ["api"]


def test_every_match_of_the_deciding_key_is_a_candidate(tenant: Tenant, inventory: TenantInventory) -> None:
    for name in ("one", "two", "three"):
        add(tenant, name, hostname=f"db.{name}.example.com", ip_address="192.0.2.9")
    assert names(inventory.lookup("db")) == ["one", "two", "three"]
    assert names(inventory.lookup("192.0.2.9")) == ["one", "two", "three"]
    assert names(inventory.lookup("db.two.example.com")) == ["two"]


def test_a_number_of_another_tenant_is_unknown(tenant: Tenant, inventory: TenantInventory) -> None:
    elsewhere = add(Tenant.objects.create(name="other"), "elsewhere")
    assert names(inventory.lookup(str(elsewhere.pk))) == []


def test_an_asset_carries_its_row_for_templates_and_nothing_to_sign_in_with(
    tenant: Tenant, inventory: TenantInventory
) -> None:
    asset = add(
        tenant, "db", hostname="db.example.com", ip_address="192.0.2.7", connection="ssh", environment="staging",
        criticality="high", tags=["postgres", "linux"], port=2222, os_type="linux", username="operator-name",
        domain="corp", credential="db/login", host_key="ssh-ed25519 AAAA",
    )  # fmt: skip
    (found,) = inventory.lookup("db")
    assert (found.asset_id, found.hostname, found.ip_address) == (asset.pk, "db.example.com", "192.0.2.7")
    assert (found.connection, found.environment, found.criticality) == ("ssh", "staging", "high")
    assert found.tags == ("postgres", "linux")
    assert (found.row["port"], found.row["os_type"], found.row["owner"]) == (2222, "linux", None)
    shown = json.dumps(dict(found.row))
    assert not any(word in shown for word in ("operator-name", "corp", "db/login", "AAAA"))


def test_an_asset_without_a_host_name_has_none(tenant: Tenant, inventory: TenantInventory) -> None:
    add(tenant, "bare")
    (found,) = inventory.lookup("bare")
    assert (found.hostname, found.ip_address) == (None, None)


# --- groups and tags


def test_a_group_is_its_active_members_and_an_unknown_group_is_none(tenant: Tenant, inventory: TenantInventory) -> None:
    group = AssetGroup.objects.create(tenant=tenant, name="web")
    group.assets.set([add(tenant, "a"), add(tenant, "b"), add(tenant, "off", is_active=False)])
    add(tenant, "outside")
    AssetGroup.objects.create(tenant=tenant, name="empty")
    AssetGroup.objects.create(tenant=Tenant.objects.create(name="other"), name="theirs")
    assert names(inventory.group("web")) == ["a", "b"]
    assert inventory.group("empty") == []
    for unknown in ("theirs", "WEB", "we", "", "web\x00"):
        assert inventory.group(unknown) is None


def test_a_tag_is_matched_whole(tenant: Tenant, inventory: TenantInventory) -> None:
    add(tenant, "a", tags=["web", "linux"])
    add(tenant, "b", tags=["webserver"])
    add(tenant, "off", tags=["web"], is_active=False)
    assert names(inventory.tag("web")) == ["a"]
    assert names(inventory.tag("We")) == []
    assert names(inventory.tag("web\x00")) == []


# --- queries


@pytest.fixture
def park(tenant: Tenant) -> TenantInventory:
    linux = {"os_type": "linux", "environment": "production", "service_type": "ssh"}
    add(tenant, "web-1", hostname="web-1.example.com", ip_address="192.0.2.1", tags=["web", "eu"], **linux)
    add(tenant, "web-2", hostname="web-2.example.com", ip_address="192.0.2.2", tags=["web", "us"], **linux)
    add(tenant, "db-1", description="the orders of web", criticality="critical", device_type="server", **linux)
    windows = {"connection": "powershell", "os_type": "windows", "environment": "staging"}
    add(tenant, "win", status="maintenance", owner="Ops", **windows)
    add(tenant, "old", is_active=False, **linux)
    for name, members in (("front", ["web-1", "web-2"]), ("both", ["web-1", "db-1"])):
        AssetGroup.objects.create(tenant=tenant, name=name).assets.set(Asset.objects.filter(name__in=members))
    add(Tenant.objects.create(name="other"), "foreign", tags=["web"], **linux)
    return TenantInventory(tenant.pk)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["web-1", "web-2", "db-1", "win"]),
        ({"name": "web-1"}, ["web-1"]),
        ({"name": ["web-1", "win"]}, ["web-1", "win"]),
        ({"name": "web"}, []),
        ({"hostname": "WEB-2.example.com"}, ["web-2"]),
        ({"hostname": "web-2"}, []),
        ({"ip_address": "192.0.2.1"}, ["web-1"]),
        ({"ip_address": ["192.0.2.1", "192.0.2.2"]}, ["web-1", "web-2"]),
        ({"tag": "web"}, ["web-1", "web-2"]),
        ({"tag": ["eu", "us"]}, ["web-1", "web-2"]),
        ({"tags": ["web", "eu"]}, ["web-1"]),
        ({"tags": "us"}, ["web-2"]),
        ({"group": "front"}, ["web-1", "web-2"]),
        ({"group": ["front", "both"]}, ["web-1", "web-2", "db-1"]),
        ({"group": "nothing"}, []),
        ({"groups": ["front"], "connection": "SSH"}, ["web-1", "web-2"]),
        ({"connection": "powershell"}, ["win"]),
        ({"os_type": "Linux", "environment": "production"}, ["web-1", "web-2", "db-1"]),
        ({"os_type": "linux", "tag": "eu", "group": "both"}, ["web-1"]),
        ({"environment": ["staging", "test"]}, ["win"]),
        ({"status": "maintenance"}, ["win"]),
        ({"criticality": "critical"}, ["db-1"]),
        ({"service_type": "ssh", "device_type": "server"}, ["db-1"]),
        ({"owner": "ops"}, ["win"]),
        ({"is_active": False}, ["old"]),
        ({"is_active": "true", "os_type": "windows"}, ["win"]),
        ({"search": "web"}, ["web-1", "web-2", "db-1"]),
        ({"search": "EXAMPLE.com"}, ["web-1", "web-2"]),
        ({"search": "%"}, []),
        ({"limit": 2}, ["web-1", "web-2"]),
    ],
)
def test_every_filter_is_used(park: TenantInventory, filters: dict[str, object], found: list[str]) -> None:
    assert [row["name"] for row in park.query(filters, None)] == found


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"colour": "red"}, r"filter 'colour' is not known; the filters are .*environment"),
        ({"hostname__contains": "web"}, "not known"),
        ({"filter": {"os_type": "linux"}}, "not known"),
        ({"os_type": {"eq": "linux"}}, "needs a text"),
        ({"os_type": None}, "needs a text"),
        ({"os_type": ""}, "needs a text"),
        ({"os_type": []}, "needs a text"),
        ({"os_type": ["linux", None]}, "needs a text"),
        ({"name": 7}, "needs a text"),
        ({"name": "a\x00"}, "needs a text"),
        ({"ip_address": "192.0.2"}, "needs an IP address"),
        ({"is_active": "maybe"}, "needs true or false"),
        ({"id": "seven"}, "number of an asset"),
        ({"id": True}, "number of an asset"),
        ({"search": "  "}, "part of a name"),
        ({"search": ["web"]}, "part of a name"),
        ({"limit": 0}, "from 1 to"),
        ({"limit": True}, "from 1 to"),
        ({"limit": None}, "from 1 to"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused_never_ignored(
    park: TenantInventory, filters: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        park.query(filters, None)


def test_ids_are_a_filter_too(park: TenantInventory) -> None:
    ids = list(Asset.objects.filter(name__in=["web-1", "foreign"]).values_list("pk", flat=True))
    assert [row["name"] for row in park.query({"id": ids}, ["name"])] == ["web-1"]
    assert [row["name"] for row in park.query({"id": [str(pk) for pk in ids]}, ["name"])] == ["web-1"]
    assert [row["name"] for row in park.query({"id": 2**70}, ["name"])] == []


def test_rows_have_the_fields_asked_for_in_that_order(park: TenantInventory) -> None:
    (row,) = park.query({"name": "web-1"}, ["ip_address", "name", "ip_address"])
    assert list(row.items()) == [("ip_address", "192.0.2.1"), ("name", "web-1")]
    (whole,) = park.query({"name": "web-1"}, None)
    assert tuple(whole) == ROW_FIELDS
    json.dumps(dict(whole))


@pytest.mark.parametrize("field", ["password", "credential", "username", "tenant_id", "host_key", "tenant__name"])
def test_a_field_that_rows_do_not_show_is_refused(park: TenantInventory, field: str) -> None:
    with pytest.raises(ValueError, match=f"field '{field}' is not known; the fields are id, name"):
        park.query({}, ["name", field])


# --- cost


def test_few_references_cost_a_query_each_and_repeated_ones_nothing(
    tenant: Tenant, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    add(tenant, "db")
    inventory = TenantInventory(tenant.pk)
    with django_assert_num_queries(2):
        for _ in range(10):
            inventory.lookup("db")
            inventory.lookup("nothing")


def test_the_references_of_a_thousand_plans_cost_a_handful_of_queries(tenant: Tenant) -> None:
    Asset.objects.bulk_create(
        Asset(tenant=tenant, name=f"m-{n}", hostname=f"m-{n}.example.com", connection="ssh") for n in range(1000)
    )
    inventory = TenantInventory(tenant.pk)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        for n in range(1000):
            assert names(inventory.lookup(f"m-{n}.example.com")) == [f"m-{n}"]
            inventory.tag("web")
            inventory.group("front")
            inventory.query({"os_type": "linux"}, ["name"])
    assert len(queries) == SINGLE_LOOKUPS + 2 + 3  # loading, then group, tag and query


def test_an_inventory_above_the_limit_is_asked_reference_by_reference(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory_module, "PREFETCH_ROWS", 20)
    for n in range(21):
        add(tenant, f"m-{n}")
    inventory = TenantInventory(tenant.pk)
    with CaptureQueriesContext(connection) as queries:
        for n in range(21):
            assert names(inventory.lookup(f"m-{n}")) == [f"m-{n}"]
    assert len(queries) == 21 + 1  # and one that found out that there are too many
