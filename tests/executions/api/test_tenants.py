"""What belongs to another tenant is not there, by whatever call one asks for it."""

from __future__ import annotations

import pytest

from executions.models import Asset, AssetGroup, Execution
from queueing.models import DeadLetter
from tests.executions.api.conftest import Api, plan, problem_of
from tests.executions.live.rows import make_execution

pytestmark = pytest.mark.django_db

READS = ("", "steps/", "plan/", "events/", "events/stream", "output/", "output/?format=text")
WRITES = {
    "cancel/": {"reason": "x"},
    "approve/": {},
    "reject/": {},
    "retry/": {},
    "resolve/": {"step": "check", "as": "failed", "reason": "x"},
}


@pytest.mark.parametrize("call", READS)
def test_an_execution_of_another_tenant_cannot_be_read(admin: Api, stranger: Api, call: str) -> None:
    execution = make_execution(admin.user, status="succeeded")

    told = problem_of(stranger.get(f"executions/{execution.pk}/{call}"), 404, "not_found")

    absent = problem_of(stranger.get(f"executions/{execution.pk + 1000}/{call}"), 404, "not_found")
    assert told["detail"].replace(str(execution.pk), "N") == absent["detail"].replace(str(execution.pk + 1000), "N")


@pytest.mark.parametrize("call", list(WRITES))
@pytest.mark.parametrize("status", ["running", "pending_approval", "failed", "needs_attention"])
def test_an_execution_of_another_tenant_cannot_be_changed(admin: Api, stranger: Api, call: str, status: str) -> None:
    execution = make_execution(admin.user, status=status)

    problem_of(stranger.post(f"executions/{execution.pk}/{call}", WRITES[call]), 404, "not_found")
    assert Execution.objects.get(pk=execution.pk).status == status


def test_lists_show_ones_own_tenant_alone(admin: Api, stranger: Api) -> None:
    execution = make_execution(admin.user, tags=["mine"])
    DeadLetter.objects.create(
        execution_id=execution.pk, tenant_id=admin.user.tenant_id, reason="engine_error", error="mine", attempts=1
    )
    AssetGroup.objects.create(tenant=admin.user.tenant, name="mine")

    for call in (
        "executions/", "executions/?tag=mine", "executions/?actor=root", f"executions/?q={execution.pk}",
        "executions/?asset=localhost", "dead-letters/", "dead-letters/?q=mine", "assets/?q=localhost", "asset-groups/",
    ):  # fmt: skip
        assert admin.get(call).json()["results"], call
        assert stranger.get(call).json()["results"] == [], call


def test_dlq_entries_of_another_tenant_are_out_of_reach(admin: Api, stranger: Api) -> None:
    execution = make_execution(admin.user, status="needs_attention")
    entry = DeadLetter.objects.create(
        execution_id=execution.pk, tenant_id=admin.user.tenant_id, reason="engine_error", attempts=1
    )
    problem_of(stranger.get(f"dead-letters/{entry.pk}/"), 404, "not_found")
    problem_of(stranger.post(f"dead-letters/{entry.pk}/requeue/", {}), 404, "not_found")
    problem_of(stranger.post(f"dead-letters/{entry.pk}/discard/", {"reason": "x"}), 404, "not_found")
    for call in ("requeue", "discard"):
        body = {"filter": {"ids": [entry.pk]}, "reason": "x"}
        assert stranger.post(f"dead-letters/{call}/", body).json()["matched"] == 0
    entry.refresh_from_db()
    assert entry.state == "open"


def test_assets_and_groups_of_another_tenant_are_out_of_reach(admin: Api, stranger: Api) -> None:
    asset = Asset.objects.get(name="localhost")
    group = AssetGroup.objects.create(tenant=admin.user.tenant, name="web")
    for path in (f"assets/{asset.pk}/", f"asset-groups/{group.pk}/"):
        problem_of(stranger.get(path), 404, "not_found")
        problem_of(stranger.patch(path, {"name": "taken"}), 404, "not_found")
        problem_of(stranger.delete(path), 404, "not_found")
    refused = stranger.post("asset-groups/", {"name": "theirs", "assets": [asset.pk]})
    assert problem_of(refused, 422, "invalid_body")["errors"][0]["path"] == "assets"
    told = problem_of(stranger.post("executions/", {"plan": plan()}), 422, "invalid_plan")
    assert told["errors"][0]["code"] == "unknown_asset"


def test_the_oldest_queue_entry_of_another_tenant_is_not_named(admin: Api, stranger: Api) -> None:
    assert stranger.post("executions/", {"plan": {"steps": [{"tool": "noop"}]}}).status_code == 202

    oldest = admin.get("queue/").json()["oldest"]
    assert (oldest["state"], oldest["execution_id"]) == ("ready", None)
