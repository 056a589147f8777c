"""Queue, workers and the inventory: what operators do, and others may not."""

from __future__ import annotations

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from executions.models import Asset, AssetGroup
from queueing.control import is_draining
from queueing.models import Worker
from safety.accounts import set_roles
from tests.contract.fake_services import asset
from tests.executions.api.conftest import Api, MakeApi, plan, problem_of
from tests.executions.live.rows import make_execution

pytestmark = pytest.mark.django_db


@pytest.fixture
def worker() -> Worker:
    return Worker.objects.create(
        cluster="c", host="host-1", pid=42, version="0.1.0", slots=500, running=3, last_beat_at=timezone.now()
    )


def test_the_queue_tells_how_much_waits_and_who_works(admin: Api, worker: Worker) -> None:
    admin.post("executions/", {"plan": plan()})

    told = admin.get("queue/").json()

    assert told["depth"] == 1
    assert told["waiting_seconds"] >= 0
    assert told["by_state"] == {"delayed": 0, "ready": 1, "blocked": 0, "leased": 0}
    assert told["draining"] is False
    assert [row["host"] for row in told["workers"]] == ["host-1"]


def test_workers_show_when_they_beat_and_what_they_run(admin: Api, worker: Worker) -> None:
    old = Worker.objects.create(
        cluster="c", host="host-2", pid=43, version="0.1.0", slots=500, last_beat_at="2026-01-01T00:00:00Z"
    )
    Worker.objects.create(
        cluster="c", host="host-3", pid=44, version="0.1.0", slots=500, state="stopped", stopped_at=timezone.now()
    )

    told = admin.get("workers/").json()

    assert told["depth"] == 0
    assert "waiting_seconds" in told
    silent, fresh = told["results"]
    assert (fresh["host"], fresh["pid"], fresh["state"]) == ("host-1", 42, "active")
    assert (fresh["running"], fresh["slots"]) == (3, 500)
    assert fresh["silent"] is False
    assert (silent["id"], silent["silent"]) == (old.pk, True)
    assert silent["last_beat_at"] == "2026-01-01T00:00:00Z"
    assert len(admin.get("workers/?all=true").json()["results"]) == 3


def test_the_queue_is_drained_and_resumed_with_a_name_and_a_reason(admin: Api) -> None:
    drained = admin.post("queue/drain/", {"reason": "maintenance"}).json()

    assert (drained["draining"], drained["changed_by"], drained["reason"]) == (True, "user:root", "maintenance")
    assert drained["changed"] is True
    assert is_draining()
    problem_of(admin.post("executions/", {"plan": plan()}), 503, "draining")
    assert admin.post("queue/drain/", {}).json()["changed"] is False
    assert admin.post("queue/resume/", {}).json()["draining"] is False
    assert admin.post("executions/", {"plan": plan()}).status_code == 202


@pytest.mark.parametrize("role", ["viewer", "requester", "approver"])
def test_the_queue_is_for_operators(make_api: MakeApi, role: str) -> None:
    somebody = make_api("somebody", role)
    for call in ("queue/", "workers/"):
        problem_of(somebody.get(call), 403, "forbidden")
    for call in ("queue/drain/", "queue/resume/"):
        problem_of(somebody.post(call, {}), 403, "forbidden")
    assert not is_draining()


def test_what_all_tenants_share_is_not_for_another_tenants_administrators(stranger: Api) -> None:
    set_roles(stranger.user, ["admin"])
    for path in ("queue/", "workers/"):
        assert stranger.get(path).status_code == 403
    assert stranger.post("queue/drain/", {"reason": "mine"}).status_code == 403
    assert not is_draining()


def test_operators_operate(make_api: MakeApi) -> None:
    assert make_api("olga", "operator").get("queue/").status_code == 200


WEB = {
    "name": "web-1", "hostname": "web-1.example.org", "ip_address": "10.0.0.5", "environment": "staging",
    "connection": "ssh", "groups": ["web", "all"], "tags": ["nginx"], "credential": "ssh/web",
    "host_key": "ssh-ed25519 AAAA", "port": 22,
}  # fmt: skip


def test_an_asset_is_added_read_changed_and_removed(admin: Api) -> None:
    made = admin.post("assets/", WEB)
    assert made.status_code == 201, made.content
    asset = made.json()
    assert {name: asset[name] for name in WEB} == {**WEB, "groups": ["all", "web"]}
    assert made.headers["Location"] == f"/api/v1/assets/{asset['id']}/"

    changed = admin.patch(f"assets/{asset['id']}/", {"environment": "production", "groups": ["db"], "ip_address": None})
    assert (changed.json()["environment"], changed.json()["groups"]) == ("production", ["db"])
    assert changed.json()["ip_address"] is None
    assert changed.json()["hostname"] == "web-1.example.org"
    replaced = admin.put(f"assets/{asset['id']}/", {"name": "web-1", "connection": "local"}).json()
    assert (replaced["hostname"], replaced["groups"], replaced["environment"]) == ("", [], "production")

    assert admin.delete(f"assets/{asset['id']}/").status_code == 204
    problem_of(admin.get(f"assets/{asset['id']}/"), 404, "not_found")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("name", "x" * 256), ("name", None), ("name", "a\0b"), ("connection", "telnet"),
        ("port", 0), ("port", 2**40),
        ("ip_address", "10.0.0.256"), ("tags", "nginx"), ("tags", [["x"]]), ("groups", [1, None]), ("groups", "web"),
        ("id", 7), ("tenant", 1), ("is_active", "perhaps"), ("hostname", {"a": 1}), ("nope", 1),
    ],
)  # fmt: skip
def test_an_asset_that_cannot_be_is_refused(admin: Api, field: str, value: object) -> None:
    response = admin.post("assets/", {**WEB, field: value})

    if field == "id":  # read-only: the server gives it
        assert response.json()["id"] != 7
        return
    told = problem_of(response, 422, "invalid_body")
    assert told["errors"][0]["path"].startswith(field)


def test_a_name_is_given_once(admin: Api) -> None:
    admin.post("assets/", WEB)

    problem_of(admin.post("assets/", WEB), 409, "already_exists")
    other = admin.post("assets/", {**WEB, "name": "web-2"}).json()
    problem_of(admin.patch(f"assets/{other['id']}/", {"name": "web-1"}), 409, "already_exists")


def test_an_asset_that_is_waited_for_is_not_removed(admin: Api) -> None:
    execution = make_execution(admin.user, status="queued")
    asset = Asset.objects.get(name="localhost")

    problem_of(admin.delete(f"assets/{asset.pk}/"), 409, "asset_in_use")
    type(execution).objects.update(status="failed", finished_at=timezone.now())
    assert admin.delete(f"assets/{asset.pk}/").status_code == 204
    target = admin.get(f"executions/{execution.pk}/").json()["steps"][0]["targets"][0]
    assert (target["target"], target["asset"]) == ("localhost", None)


def test_filters_of_the_inventory(admin: Api, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    admin.post("assets/", WEB)
    for query, names in {
        "": ["web-1", "localhost"], "q=EXAMPLE": ["web-1"], "q=10.0.": ["web-1"], "environment=staging": ["web-1"],
        "connection=ssh": ["web-1"], "tag=nginx": ["web-1"], "tag=nginx,none": [], "group=web": ["web-1"],
        "is_active=false": [], "group=nope": [], "environment=staging,development": ["web-1", "localhost"],
    }.items():  # fmt: skip
        assert [row["name"] for row in admin.get(f"assets/?{query}").json()["results"]] == names, query
    with django_assert_num_queries(3):  # who calls; the rows, their groups
        admin.get("assets/")


def test_a_group_is_made_changed_and_removed(admin: Api) -> None:
    one, two = (admin.post("assets/", {**WEB, "name": name, "groups": []}).json()["id"] for name in ("a", "b"))
    made = admin.post("asset-groups/", {"name": "web", "assets": [two, one]})
    assert made.status_code == 201
    group = made.json()
    assert group == {"id": group["id"], "name": "web", "assets": [one, two]}

    assert admin.patch(f"asset-groups/{group['id']}/", {"assets": [one]}).json()["assets"] == [one]
    renamed = admin.patch(f"asset-groups/{group['id']}/", {"name": "www"}).json()
    assert renamed == {**group, "name": "www", "assets": [one]}
    assert admin.get(f"asset-groups/{group['id']}/").json()["name"] == "www"
    problem_of(admin.post("asset-groups/", {"name": "www"}), 409, "already_exists")
    assert problem_of(admin.patch(f"asset-groups/{group['id']}/", {"assets": [10**6]}), 422, "invalid_body")
    assert admin.delete(f"asset-groups/{group['id']}/").status_code == 204
    assert not AssetGroup.objects.exists()
    assert Asset.objects.filter(pk=one).exists()


def test_the_inventory_is_changed_by_operators_and_read_by_everybody(make_api: MakeApi) -> None:
    viewer = make_api("vera", "viewer")

    problem_of(viewer.post("assets/", WEB), 403, "forbidden")
    problem_of(viewer.post("asset-groups/", {"name": "web"}), 403, "forbidden")
    assert [row["name"] for row in viewer.get("assets/").json()["results"]] == ["localhost"]
    assert make_api("olga", "operator").post("assets/", WEB).status_code == 201


def test_the_catalog_can_be_read(make_api: MakeApi) -> None:
    viewer = make_api("vera", "viewer")
    tools = {row["name"]: row for row in viewer.get("tools/").json()["results"]}

    assert {"noop", "command", "shell", "http", "systemctl"} <= set(tools)
    assert tools["shell"]["action_class"] == "modify"
    assert [row["name"] for row in tools["shell"]["parameters"] if row["required"]] == ["command"]
    assert tools["systemctl"]["actions"]["status"]["action_class"] == "read"
    assert viewer.get("tools/systemctl/").json() == tools["systemctl"]
    problem_of(viewer.get("tools/nope/"), 404, "not_found")


def test_the_catalog_has_pages_as_every_list_has(make_api: MakeApi) -> None:
    viewer = make_api("vera", "viewer")
    whole = viewer.get("tools/").json()
    assert (whole["next"], whole["previous"]) == (None, None)
    pages = [viewer.get("tools/?limit=7").json()]
    while pages[-1]["next"]:
        pages.append(viewer.get(pages[-1]["next"].removeprefix("/api/v1/")).json())
    assert [tool for page in pages for tool in page["results"]] == whole["results"]
    back = pages[-1]
    for page in reversed(pages[:-1]):
        back = viewer.get(back["previous"].removeprefix("/api/v1/")).json()
        assert back["results"] == page["results"]
    assert back["previous"] is None
    problem_of(viewer.get("tools/?cursor=x"), 400, "invalid_parameter")


def test_an_asset_may_be_sent_as_the_asset_service_has_it_with_nulls(admin: Api) -> None:
    """Every field of services.md, most of them null; its service_type decides the connection."""
    row = asset(7, "db-1", hostname="db-1.example.org", service_type="WinRM", environment="Staging") | {
        "credential_type": "username_password", "is_secure": True, "secondary_service_type": "ssh",
        "secondary_port": 22, "additional_services": [{"service_type": "http", "port": 8080}],
    }  # fmt: skip
    del row["serial_number"], row["location"]  # "and more"
    made = admin.post("assets/", row)
    assert made.status_code == 201, made.content
    told = made.json()
    assert {name: told[name] for name in row if row[name] is not None and name != "id"} == {
        **{name: value for name, value in row.items() if value is not None and name != "id"},
        "service_type": "winrm", "environment": "staging",
    }  # fmt: skip
    assert (told["connection"], told["criticality"], told["status"], told["tags"]) == (
        "powershell", "medium", "active", [],
    )  # fmt: skip

    other = admin.post("assets/", {**row, "name": "db-2", "secondary_port": None, "secondary_service_port": 23})
    problem_of(other, 422, "invalid_body")  # under both names: neither is chosen
    other = admin.post("assets/", {"name": "db-2", "connection": "ssh", "secondary_service_port": 23})
    assert other.json()["secondary_port"] == 23

    # What is not said is not guessed.
    nothing = problem_of(admin.post("assets/", {"name": "x", "hostname": None}), 422, "invalid_body")
    assert [error["path"] for error in nothing["errors"]] == ["connection"]
    # Null takes a word back; another field stays.
    taken = admin.patch(f"assets/{told['id']}/", {"environment": None, "hostname": None}).json()
    assert (taken["environment"], taken["hostname"], taken["secondary_port"]) == ("production", "", 22)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("environment", "prodution"), ("criticality", "hgih"), ("status", "decommisioned"), ("os_type", "solaris"),
        ("credential_type", "pin"), ("name", "a\nb"), ("hostname", "a\x1b[31m"), ("secondary_port", 0),
        ("additional_services", [{"port": 1, "password": "hunter2"}]), ("additional_services", [{"x": "y" * 20_000}]),
        ("credential", "../other"), ("is_secure", "perhaps"),
    ],
)  # fmt: skip
def test_a_word_that_would_ask_for_the_wrong_approval_is_refused(admin: Api, field: str, value: object) -> None:
    told = problem_of(admin.post("assets/", {**WEB, field: value}), 422, "invalid_body")
    assert [error["path"] for error in told["errors"]] == [field]
    assert "hunter2" not in str(told)
    made = admin.post("assets/", WEB).json()
    problem_of(admin.patch(f"assets/{made['id']}/", {field: value}), 422, "invalid_body")
    assert admin.get(f"assets/{made['id']}/").json() == made


def test_words_are_kept_in_lower_case_since_rules_compare_them(admin: Api) -> None:
    made = admin.post("assets/", {**WEB, "environment": "PRODUCTION", "criticality": "Critical"}).json()
    assert (made["environment"], made["criticality"]) == ("production", "critical")
