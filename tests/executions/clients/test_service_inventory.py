"""A tenant whose machines an asset service knows: exact lookups, nothing stale, and never a guess."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import Client
from pytest_django import Settings

from executions import clients
from executions.clients import AT_A_DOOR
from executions.connectors.base import ErrorCode, Invocation
from executions.connectors.output import OutputCollector
from executions.engine.attempt import _query
from executions.models import Asset, AssetGroup, Execution
from executions.plans.inventory import InventoryUnavailable
from executions.service_inventory import inventory_of
from executions.services import Refused, Submission, preview, submit
from executions.target_changes import PlanOfTenant, changes_of
from safety.accounts import set_roles
from safety.models import Tenant, User
from tests.contract.conftest import settings_of
from tests.contract.fake_services import Answer, FakeAssetService, asset

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(asset_server: FakeAssetService, settings: Settings, quick: None) -> Iterator[FakeAssetService]:
    settings.ASSET_SERVICE = settings_of(asset_server)
    clients.asset_service.cache_clear()
    asset_server.assets = [
        asset(11, "web-1", hostname="web-1.example.org", ip_address="10.0.0.1", service_type="ssh",
              environment="development", tags=["nginx"]),
        asset(12, "web-2", hostname="web-2.example.org", service_type="ssh", environment="staging", tags=["nginx"]),
        asset(13, "win", hostname="win.example.org", service_type="winrm", environment="development"),
        asset(14, "old", hostname="old.example.org", service_type="ssh", status="decommissioned"),
    ]  # fmt: skip
    yield asset_server
    clients.asset_service.cache_clear()


@pytest.fixture
def tenant() -> Tenant:
    return Tenant.objects.get(name="default")


def found(tenant: Tenant, ref: str) -> list[str]:
    return sorted(one.external_id or one.name for one in inventory_of(tenant.pk, AT_A_DOOR).lookup(ref))


def plan(*targets: Any, **step: Any) -> dict[str, Any]:
    return {"steps": [{"id": "s", "tool": "shell", "inputs": {"command": "true"}, "targets": list(targets), **step}]}


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("web-1.example.org", ["11"]), ("WEB-1.EXAMPLE.ORG", ["11"]), ("10.0.0.1", ["11"]), ("web-1", ["11"]),
        ("11", ["11"]), ("web", []), ("example.org", []), ("web-1.example", []), ("old", []), ("14", []), ("15", []),
        ("localhost", ["localhost"]),
    ],
)  # fmt: skip
def test_a_reference_finds_what_it_names_exactly_and_nothing_else(
    ref: str, expected: list[str], server: FakeAssetService, tenant: Tenant
) -> None:
    assert found(tenant, ref) == expected


def test_the_whole_list_gives_the_same_answers_as_single_questions(server: FakeAssetService, tenant: Tenant) -> None:
    refs = ["web-1.example.org", "10.0.0.1", "web-1", "11", "web", "old", "14", "localhost", "win", "99", "web-2"]
    one_by_one = [found(tenant, ref) for ref in refs]
    inventory = inventory_of(tenant.pk, AT_A_DOOR)
    inventory.prefetch()
    asked = len(server.seen)
    assert [sorted(one.external_id or one.name for one in inventory.lookup(ref)) for ref in refs] == one_by_one
    assert len(server.seen) == asked


def test_many_references_cost_one_reading_of_the_list(server: FakeAssetService, tenant: Tenant) -> None:
    server.assets = [asset(number, f"h{number}", service_type="ssh") for number in range(20, 120)]
    inventory = inventory_of(tenant.pk, AT_A_DOOR)
    assert all(len(inventory.lookup(f"h{number}")) == 1 for number in range(20, 120))
    assert len(server.seen) < 12


def test_a_machine_that_is_gone_there_is_none_here_though_its_row_is_left(
    server: FakeAssetService, tenant: Tenant
) -> None:
    assert found(tenant, "web-1") == ["11"]
    ours = str(Asset.objects.get(external_id="11").pk)
    assert found(tenant, ours) == ["11"]
    gone = server.assets.pop(0)
    for ref in ("web-1", "10.0.0.1", "web-1.example.org", "11", ours):
        assert found(tenant, ref) == []
    assert Asset.objects.filter(external_id="11").exists()
    server.assets.append({**asset(30, "new"), "hostname": gone["hostname"]})
    assert found(tenant, "web-1.example.org") == ["30"]


def test_a_machine_that_moved_is_where_the_service_says(server: FakeAssetService, tenant: Tenant) -> None:
    assert found(tenant, "10.0.0.1") == ["11"]
    server.assets[0]["ip_address"], server.assets[1]["ip_address"] = "10.0.0.2", "10.0.0.1"
    assert found(tenant, "10.0.0.1") == ["12"]
    assert found(tenant, "10.0.0.2") == ["11"]


def test_two_that_a_name_could_mean_are_ambiguous_wherever_they_come_from(
    server: FakeAssetService, tenant: Tenant, requester: User
) -> None:
    Asset.objects.create(tenant=tenant, name="mine", hostname="web-2.example.org", connection="ssh")
    server.assets.append(asset(20, "web-1", hostname="other.example.org", service_type="ssh"))
    Asset.objects.create(tenant=tenant, name="win", connection="ssh")  # the service's `win` gets another name here
    for ref in ("web-2.example.org", "web-1", "win"):
        with pytest.raises(Refused) as refusal:
            submit(Submission(plan(ref)), by=requester)
        (error,) = refusal.value.errors
        assert error["code"] == "ambiguous_asset"
        assert len(error["candidates"]) == 2
    assert Execution.objects.count() == 0


def test_a_number_is_the_services_or_ours_and_never_either(
    server: FakeAssetService, tenant: Tenant, requester: User
) -> None:
    local = Asset.objects.create(pk=777, tenant=tenant, name="mine", connection="local", environment="development")
    server.assets.append(asset(local.pk, "theirs", service_type="ssh"))
    with pytest.raises(Refused) as refusal:
        submit(Submission(plan(local.pk)), by=requester)
    assert refusal.value.errors[0]["code"] == "ambiguous_asset"
    accepted = submit(Submission(plan(target_asset_id=11, target_hostname="web-1")), by=requester)
    target = Execution.objects.get(pk=accepted.execution_id).step_targets.get()
    assert target.asset is not None
    assert target.asset.external_id == "11"
    assert target.asset.pk > 1_000_000_000


def test_ids_may_be_uuids(server: FakeAssetService, tenant: Tenant, requester: User) -> None:
    uuid = "6f1c2f9e-6f0c-4a3e-9f7e-0a6b8f7f2f10"
    server.assets = [asset(uuid, "x", service_type="ssh", environment="development")]
    for step in ({"targets": [uuid]}, {"targets": [], "target_asset_id": uuid}):
        accepted = submit(Submission({"steps": [{**plan()["steps"][0], **step}]}), by=requester)
        assert Execution.objects.get(pk=accepted.execution_id).step_targets.get().name == "x"


def test_groups_tags_and_queries_work_over_it(server: FakeAssetService, tenant: Tenant) -> None:
    inventory = inventory_of(tenant.pk, AT_A_DOOR)
    assert [one.name for one in inventory.tag("nginx")] == ["web-1", "web-2"]
    group = AssetGroup.objects.create(tenant=tenant, name="web")
    group.assets.set(Asset.objects.filter(tags__contains=["nginx"]))
    del server.assets[1]
    again = inventory_of(tenant.pk, AT_A_DOOR)
    members = again.group("web")
    assert members is not None
    assert [one.name for one in members] == ["web-1"]
    assert [one.name for one in again.tag("nginx")] == ["web-1"]
    rows = again.query({"environment": "development"}, ["name", "connection"])
    assert [row["name"] for row in rows] == ["localhost", "web-1", "win"]
    assert again.query({"is_active": False}, ["name"]) == [{"name": "old"}]


def test_other_tenants_have_their_own_inventory(server: FakeAssetService) -> None:
    other = Tenant.objects.create(name="other")
    assert inventory_of(other.pk, AT_A_DOOR).lookup("web-1") == []
    assert server.seen == []


def test_a_service_that_is_down_is_said_to_be_down_and_no_machine_is_unknown(
    server: FakeAssetService, requester: User
) -> None:
    submit(Submission(plan("web-1")), by=requester)
    group = AssetGroup.objects.create(tenant=requester.tenant, name="web")
    group.assets.set(Asset.objects.filter(external_id="11"))
    server.always = Answer(503, b"", {"Retry-After": "17"})
    for targets in (["web-1"], ["no-such-host"], ["group:web"], ["tag:nginx"]):
        with pytest.raises(Refused) as refusal:
            submit(Submission(plan(*targets)), by=requester)
        assert (refusal.value.code, refusal.value.status) == ("inventory_unavailable", 503)
        assert refusal.value.retry_after == 17
    assert Execution.objects.count() == 1
    shown = preview(plan("web-1"), by=requester)
    assert [error["code"] for error in shown["errors"]] == ["inventory_unavailable"]


def test_a_preview_says_that_the_service_is_asked_for_the_credential(server: FakeAssetService, requester: User) -> None:
    shown = preview(plan("web-1"), by=requester)
    assert shown["machines"][0]["credential"] == {"path": "asset-service/11", "state": "unknown"}
    assert not any("credential" in warning for warning in shown["warnings"])


@pytest.mark.django_db(transaction=True)
async def test_a_query_that_runs_while_the_service_is_down_found_out_nothing(
    server: FakeAssetService, requester: User
) -> None:
    printed: list[str] = []
    collector = OutputCollector(lambda stream, text, size: printed.append(text))
    outcome = await _query(Invocation(stdin=b"{}"), requester.pk, collector)
    assert (outcome.exit_code, outcome.data) == (0, {"rows": 4})  # localhost, and three of the service's four
    server.always = Answer(503, b"", {"Retry-After": "60"})
    outcome = await _query(Invocation(stdin=b"{}"), requester.pk, collector)
    assert (outcome.exit_code, outcome.error_code) == (None, ErrorCode.UNREACHABLE)
    collector.finish()
    assert "web-1.example.org" in "".join(printed)
    await sync_to_async(connections.close_all, thread_sensitive=False)()  # of the one thread that asked


def test_a_batch_asks_a_service_that_is_down_once(server: FakeAssetService, tenant: Tenant) -> None:
    server.always = Answer(503, b"", {"Retry-After": "17"})
    inventory = inventory_of(tenant.pk, AT_A_DOOR)
    for ref in ("a", "b", "c"):
        with pytest.raises(InventoryUnavailable):
            inventory.lookup(ref)
    assert len(server.seen) == 1


def test_over_http_it_is_a_503_with_retry_after_and_the_trace_goes_along(
    server: FakeAssetService, requester: User, client: Client
) -> None:
    set_roles(requester, ["operator"], by=requester)
    client.force_login(requester)

    def post() -> Any:
        body = json.dumps({"plan": plan("web-1"), "trace_id": "trace-7\n"})
        return client.post("/api/v1/executions/", body, content_type="application/json")

    assert post().status_code == 202
    assert server.seen[-1].headers["X-Trace-Id"] == "trace-7"
    server.always = Answer(503, b"", {"Retry-After": "17"})
    response = post()
    assert (response.status_code, response.headers["Retry-After"]) == (503, "17")
    assert response.json()["code"] == "inventory_unavailable"


def test_what_approvers_were_shown_is_compared_with_the_rows_as_mirrored_last(
    server: FakeAssetService, tenant: Tenant, requester: User
) -> None:
    accepted = submit(Submission(plan("web-2")), by=requester)
    stored = Execution.objects.get(pk=accepted.execution_id).plan.document
    assert changes_of({1: PlanOfTenant(tenant.pk, stored, requester.pk)}) == {}
    server.assets[1]["ip_address"] = "10.9.9.9"
    assert found(tenant, "web-2") == ["12"]
    assert "10.9.9.9" in changes_of({1: PlanOfTenant(tenant.pk, stored, requester.pk)})[1][0]
