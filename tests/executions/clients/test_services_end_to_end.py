"""A plan submitted over HTTP, for machines of an asset service, run by a real worker through an automation service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from executions import clients
from executions.models import Asset, Event, Execution, OutputChunk, StepTarget
from executions.services import approve
from queueing.models import Worker
from safety.models import AuditRecord, Tenant, User
from safety.secrets.keeping import store_secret
from tests.contract.conftest import TOKEN, settings_of
from tests.contract.fake_services import Answer, FakeAssetService, FakeAutomationService, asset, reset
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    printed,
    status_of,
    target_of,
)
from tests.installations import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

PASSWORD = "pa55-of-the-service"


@pytest.fixture
def services(
    asset_server: FakeAssetService, automation_server: FakeAutomationService, settings: Settings, quick: None
) -> Iterator[tuple[FakeAssetService, FakeAutomationService]]:
    settings.ASSET_SERVICE = settings_of(asset_server)
    settings.AUTOMATION_SERVICE = settings_of(automation_server, "automation")
    clients.asset_service.cache_clear()
    for number in range(1, 8):
        name = f"web-{number}"
        asset_server.assets.append(
            asset(number, name, hostname=f"{name}.example.org", service_type="ssh", environment="development")
        )
        asset_server.credentials[str(number)] = {
            "asset_id": number, "hostname": f"{name}.example.org", "ip_address": None, "port": 22,
            "credential_type": "username_password", "username": "ops", "password": PASSWORD, "private_key": None,
        }  # fmt: skip
    yield asset_server, automation_server
    clients.asset_service.cache_clear()


@pytest.fixture
def started(workers: Workers, services: tuple[FakeAssetService, FakeAutomationService]) -> Workers:
    asset_server, automation_server = services
    workers.start(
        ASSET_SERVICE_URL=asset_server.url, AUTOMATION_SERVICE_URL=automation_server.url, SERVICE_TOKEN=TOKEN,
        WORKER_PROCESSES="1",
    )  # fmt: skip
    return workers


def step(key: str, target: str, *argv: str, **fields: Any) -> dict[str, Any]:
    return {"id": key, "tool": "command", "inputs": {"argv": list(argv)}, "targets": [target], **fields}


def post(client: Client, *steps: dict[str, Any]) -> int:
    body = json.dumps({"plan": {"steps": list(steps)}})
    response = client.post("/api/v1/executions/", body, content_type="application/json")
    assert response.status_code == 202, response.content
    number: int = response.json()["id"]
    return number


def let_run(execution_id: int) -> int:
    if status_of(execution_id) == "pending_approval":
        approver, _ = User.objects.get_or_create(
            username="approver", tenant=Tenant.objects.get(name="default"), is_superuser=True
        )
        approve(execution_id, by=approver)
    return execution_id


def everything_written() -> str:
    rows = [
        *StepTarget.objects.values_list("stdout", "error", "data"), *Event.objects.values_list("reason", "data"),
        *OutputChunk.objects.values_list("text"), *AuditRecord.objects.values_list("reason", "data"),
        *Execution.objects.values_list("status_reason"), *Asset.objects.values_list("username", "credential"),
    ]  # fmt: skip
    return repr(rows)


def test_a_plan_runs_on_machines_of_one_service_through_the_other(
    started: Workers, services: tuple[FakeAssetService, FakeAutomationService], client: Client, requester: User
) -> None:
    asset_server, automation_server = services
    client.force_login(requester)
    assert "automation" in Worker.objects.filter(stopped_at=None).first().capabilities  # type: ignore[union-attr]

    # 1: it prints its own password, and the command comes back in the answer
    automation_server.results = [{"stdout": f"login with {PASSWORD}\n", "command": f"x {PASSWORD}"}]
    works = let_run(post(client, step("s", "web-1", "uptime", "a b", timeout_seconds=20)))
    assert ended(works).status == "succeeded"
    (request,) = automation_server.asked("/execute")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.body["command"] == "uptime 'a b'"
    assert request.body["target_host"] == "web-1.example.org"
    assert request.body["credentials"] == {"username": "ops", "password": PASSWORD}
    assert (request.body["timeout"], request.body["connection_type"]) == (20, "ssh")
    assert int(request.body["environment_vars"]["OPSCONDUCTOR_FENCE"]) >= 0
    assert "login with" in printed(works, "s")
    assert "echo" not in str(target_of(works, "s").data)
    use = AuditRecord.objects.get(action="secret.use")
    assert (use.object_id, use.allowed, use.actor) == ("asset-service/1", True, requester.actor)

    # 2: an exit code other than 0, in an answer with status 200
    automation_server.results = [{"status": "failed", "exit_code": 4, "stderr": "disk full\n"}]
    fails = let_run(post(client, step("s", "web-2", "false")))
    assert ended(fails).status == "failed"
    assert target_of(fails, "s").exit_code == 4
    assert "disk full" in printed(fails, "s", "stderr")

    # an exit code of Windows without its sign, and a number that is none: both are told, and nothing is stuck
    automation_server.results = [{"status": "failed", "exit_code": 3221225477, "duration_seconds": 1e300}]
    crashed = let_run(post(client, step("s", "web-2", "crash")))
    assert ended(crashed).status == "failed"
    assert target_of(crashed, "s").exit_code == -1073741819
    assert client.get(f"/api/v1/executions/{crashed}/").json()["steps"][0]["targets"][0]["data"]["duration_seconds"] > 1
    automation_server.results = [{"status": "failed", "exit_code": 10**30}]
    odd = let_run(post(client, step("s", "web-2", "odd")))
    assert ended(odd).status == "needs_attention"
    assert (target_of(odd, "s").status, target_of(odd, "s").error_code) == ("unknown", "invalid_answer")
    assert (target_of(odd, "s").data or {})["told_exit_code"] == str(10**30)

    # and whether a machine is reached is the service's to say
    automation_server.results = [{"status": "failed", "exit_code": None, "error_message": "timed out"}]
    check = post(client, {"id": "c", "tool": "asset-check", "targets": ["web-2"]})
    assert ended(check).status == "failed"
    assert (target_of(check, "c").error_code, automation_server.seen[-1].body["command"]) == ("unreachable", "true")
    assert ended(post(client, {"id": "c", "tool": "asset-check", "targets": ["web-2"]})).status == "succeeded"

    # 3: a lost answer to a command that may not be repeated
    automation_server.planned = [Answer(instead=reset)]
    lost = let_run(post(client, step("s", "web-3", "deploy", retry={"max_attempts": 3})))
    assert ended(lost).status == "needs_attention"
    assert target_of(lost, "s").status == "unknown"
    assert [one.body["command"] for one in automation_server.asked("/execute")].count("deploy") == 1

    # 4: a command that is cancelled goes on over there, as far as anybody knows
    automation_server.running.clear()
    automation_server.go_on = threading.Event()
    stopped = let_run(post(client, step("s", "web-4", "sleep")))
    assert automation_server.running.wait(20)
    assert client.post(
        f"/api/v1/executions/{stopped}/cancel/", '{"reason": "r"}', content_type="application/json"
    ).status_code in (200, 202)
    assert ended(stopped).status == "needs_attention"
    target = target_of(stopped, "s")
    assert (target.status, target.stop_confirmed) == ("unknown", False)
    automation_server.go_on.set()
    automation_server.go_on = None

    # 5: the machine has moved since: its credential goes nowhere
    asset_server.credentials["5"]["hostname"] = "elsewhere.example.org"
    moved = let_run(post(client, step("s", "web-5", "true")))
    assert ended(moved).status == "failed"
    assert target_of(moved, "s").error_code == "secret_unavailable"
    assert "elsewhere.example.org" in target_of(moved, "s").error

    # 6: a credential of our own goes before that of the service
    store_secret(Tenant.objects.get(name="default"), "ssh/own", json.dumps({"password": "our-0wn-pw"}), by=None)
    Asset.objects.filter(external_id="6").update(credential="ssh/own")
    post_six = step("s", "web-6", "true")
    client.post("/api/v1/executions/preview/", json.dumps({"plan": {"steps": [post_six]}}), "application/json")
    Asset.objects.filter(external_id="6").update(credential="ssh/own")
    own = let_run(post(client, post_six))
    assert ended(own).status == "succeeded"
    assert automation_server.seen[-1].body["credentials"]["password"] == "our-0wn-pw"

    # 7: the asset service is away for a moment just before the step
    asset_server.credentials_fail = 5  # more than one question is tried: the step waits, as for a store
    assert ended(let_run(post(client, step("s", "web-7", "true")))).status == "succeeded"
    assert asset_server.credentials_fail == 0
    assert automation_server.seen[-1].body["credentials"]["password"] == PASSWORD

    assert PASSWORD not in everything_written()
    assert "our-0wn-pw" not in everything_written()
    for execution_id in (odd, lost, stopped):
        client.post(
            f"/api/v1/executions/{execution_id}/resolve/",
            json.dumps({"step": "s", "as": "failed", "reason": "looked"}), content_type="application/json",
        )  # fmt: skip
        wait_until(lambda number=execution_id: status_of(number) == "failed", what="the end")  # type: ignore[misc]
    assert_nothing_left_behind()
