"""POST /assets/import/: a text or a file, all of it or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from executions.models import Asset
from safety.models import AuditRecord, SecretRule
from tests.executions.api.conftest import Api, problem_of

pytestmark = pytest.mark.django_db

INVENTORY = "[web]\nweb[1:2].example.org opsconductor_credential=ssh/web\n[web:vars]\ncolour=red\n"


@pytest.fixture
def operator(make_api: Any) -> Api:
    made: Api = make_api("olga", "operator")
    return made


def ask(by: Api, content: str = INVENTORY, kind: str = "ansible-ini", **more: Any) -> Any:
    return by.post("assets/import/", {"format": kind, "content": content, **more})


def test_a_dry_run_says_what_the_import_then_does(operator: Api) -> None:
    said = ask(operator, dry_run=True).json()
    assert said == {
        "dry_run": True, "created": ["web1.example.org", "web2.example.org"], "updated": [], "unchanged": [],
        "groups_created": ["web"], "remarks": ["Variables that mean nothing here were left out: colour."],
    }  # fmt: skip
    assert not Asset.objects.filter(name__startswith="web").exists()
    assert not AuditRecord.objects.filter(action="asset.import").exists()
    assert ask(operator).json() == {**said, "dry_run": False}
    assert Asset.objects.filter(tenant=operator.user.tenant, groups__name="web").count() == 2
    record = AuditRecord.objects.get(action="asset.import")
    assert (record.actor_id, record.data["created"]) == (operator.user.pk, 2)


def test_what_exists_is_changed_only_if_asked_and_says_in_what(operator: Api) -> None:
    ask(operator)
    changed = INVENTORY.replace("web[1:2].example.org", "web[1:2].example.org ansible_port=2222")
    refused = problem_of(ask(operator, changed), 422, "import_refused")
    assert refused["errors"][0]["path"] == "line 2"
    assert "differs" in refused["errors"][0]["message"]
    said = ask(operator, changed, update=True).json()
    assert said["updated"] == [{"name": f"web{n}.example.org", "fields": ["port"]} for n in (1, 2)]


def test_all_problems_are_told_by_their_line_and_a_password_is_not_repeated(operator: Api) -> None:
    content = "a ansible_password=hunter2\nb ansible_port=x\nc ansible_connection=docker\n"
    response = ask(operator, content)
    refused = problem_of(response, 422, "import_refused")
    assert [error["path"] for error in refused["errors"]] == ["line 1", "line 2", "line 3"]
    assert b"hunter2" not in response.content
    assert not Asset.objects.filter(name__in="abc").exists()
    assert AuditRecord.objects.get(action="asset.import").code == "import_refused"


def test_a_file_is_taken_as_it_is(operator: Api) -> None:
    said = operator.post("assets/import/?format=csv&dry_run=true", "name,connection\nm,ssh\n", content_type="text/csv")
    assert (said.json()["created"], said.json()["dry_run"]) == (["m"], True)
    said = operator.post("assets/import/?format=csv", b"name,connection\nm\xff,ssh\n", content_type="text/plain")
    assert "not UTF-8" in problem_of(said, 422, "import_refused")["errors"][0]["message"]
    said = operator.post("assets/import/", "name\n", content_type="text/csv")
    problem_of(said, 400, "invalid_parameter")


@pytest.mark.parametrize(
    "body", [{}, {"format": "csv"}, {"format": "xml", "content": ""}, {"format": "csv", "content": "", "force": True}]
)
def test_a_body_that_is_not_understood_is_refused(operator: Api, body: dict[str, Any]) -> None:
    problem_of(operator.post("assets/import/", body), 422, "invalid_body")


# --- credentials: who edits assets may not send those of others to a machine of their own


@pytest.fixture
def ruled(operator: Api) -> Asset:
    """An asset with a credential that only members of no group may use."""
    SecretRule.objects.create(tenant=operator.user.tenant, prefix="vault")
    return Asset.objects.create(
        tenant=operator.user.tenant, name="db-1", hostname="db-1.example.org", connection="ssh", credential="vault/db"
    )


@pytest.mark.parametrize(
    "change",
    [{"hostname": "evil.example.org"}, {"ip_address": "203.0.113.6"}, {"port": 2222}, {"host_key": "ssh-ed25519 AAAA"},
     {"name": "evil"}, {"connection": "api"}, {"credential": "vault/other"}, {"external_id": "7"}],
)  # fmt: skip
def test_who_may_not_use_a_credential_cannot_point_its_asset_elsewhere(
    operator: Api, ruled: Asset, change: dict[str, Any]
) -> None:
    refused = problem_of(operator.patch(f"assets/{ruled.pk}/", change), 403, "forbidden")
    assert "You may not use the secret vault/" in refused["detail"]
    if "name" not in change:
        (column,) = change
        content = f"name,{column}\ndb-1,{change[column]}\n"
        refused = problem_of(ask(operator, content, "csv", update=True), 422, "import_refused")
        assert "You may not use the secret vault/" in refused["errors"][0]["message"]
    known = Asset.objects.get(pk=ruled.pk)
    assert {name: getattr(known, name) for name in change} == {name: getattr(ruled, name) for name in change}


def test_who_may_not_use_a_credential_cannot_give_it_to_an_asset(operator: Api, ruled: Asset) -> None:
    new = {"name": "evil", "connection": "ssh", "credential": "vault/db"}
    problem_of(operator.post("assets/", new), 403, "forbidden")
    problem_of(operator.put(f"assets/{ruled.pk}/", {**new, "name": "db-1"}), 403, "forbidden")
    refused = problem_of(ask(operator, "name,connection,credential\nevil,ssh,vault/db\n", "csv"), 422, "import_refused")
    assert "vault/db" in refused["errors"][0]["message"]
    assert not Asset.objects.filter(name="evil").exists()


def test_what_sends_a_credential_nowhere_else_is_for_every_operator(operator: Api, ruled: Asset) -> None:
    changed = operator.patch(f"assets/{ruled.pk}/", {"environment": "staging", "hostname": ruled.hostname})
    assert changed.status_code == 200
    assert operator.patch(f"assets/{ruled.pk}/", {"credential": "", "hostname": "other"}).status_code == 200


def test_an_administrator_may_use_every_credential(make_api: Any, ruled: Asset) -> None:
    admin = make_api("ada", "admin")
    assert admin.patch(f"assets/{ruled.pk}/", {"hostname": "moved.example.org"}).status_code == 200


def test_the_admin_pages_ask_the_same(operator: Api, ruled: Asset) -> None:
    operator.user.is_staff = True
    operator.user.save(update_fields=["is_staff"])
    operator.client.force_login(operator.user, backend="safety.backends.PasswordBackend")
    form = {
        "name": "db-1", "hostname": "evil.example.org", "connection": "ssh", "credential": "vault/db", "tags": "[]",
        "environment": "production", "status": "active", "criticality": "medium",
    }  # fmt: skip
    address = f"/admin/executions/asset/{ruled.pk}/change/"
    shown = operator.client.post(address, form)
    assert "You may not use the secret vault/db" in shown.content.decode()
    assert Asset.objects.get(pk=ruled.pk).hostname == "db-1.example.org"
    kept = operator.client.post(address, {**form, "hostname": "db-1.example.org", "owner": "me"})
    assert kept.status_code == 302, kept.context["adminform"].errors
    assert Asset.objects.get(pk=ruled.pk).owner == "me"
