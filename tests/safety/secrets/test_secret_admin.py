"""The admin page of secrets: what goes in never comes out, one's own tenant only, administrators only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.test import Client

from opsconductor.secret_store import VaultSettings
from safety import audit
from safety.accounts import set_roles
from safety.models import AuditRecord, Secret, SecretRule, Tenant, User
from safety.secrets import SecretUnavailable, configured_store
from safety.secrets.keeping import store_secret
from tests.safety.secrets.vault_server import ROLE_ID, SECRET_ID, VaultServer

VALUE = "sw0rdfish-of-the-admin"


def client_of(name: str, role: str, tenant: str = "default") -> Client:
    user = User.objects.create_user(name, tenant=Tenant.objects.get_or_create(name=tenant)[0])
    set_roles(user, [role])
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def ada(db: None) -> Client:
    return client_of("ada", "admin")


def stored(path: str) -> str:
    answer = configured_store().read(Tenant.objects.get(name="default"), [path])[path]
    assert not isinstance(answer, SecretUnavailable), answer
    return answer.value(None)


def page(client: Client, path: str = "") -> str:
    response = client.get(f"/admin/safety/secret/{path}")
    assert response.status_code == 200, (path, response.status_code)
    return response.content.decode()


def test_a_secret_is_stored_replaced_and_removed_and_shown_nowhere(ada: Client) -> None:
    response = ada.post("/admin/safety/secret/add/", {"path": "db/orders", "value": f"{VALUE}\r\nsecond line"})
    assert response.status_code == 302
    assert stored("db/orders") == f"{VALUE}\nsecond line"
    secret = Secret.objects.get()
    for path in ("", f"{secret.pk}/change/", f"{secret.pk}/history/", f"{secret.pk}/delete/"):
        assert VALUE not in page(ada, path)
    assert ada.post(f"/admin/safety/secret/{secret.pk}/change/", {"value": "next"}).status_code == 302
    assert (stored("db/orders"), Secret.objects.get().version) == ("next", 2)
    assert ada.post(f"/admin/safety/secret/{secret.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Secret.objects.exists()
    records = AuditRecord.objects.filter(actor="user:ada").order_by("pk")
    assert [(record.action, record.actor) for record in records] == [
        ("secret.set", "user:ada"), ("secret.set", "user:ada"), ("secret.delete", "user:ada"),
    ]  # fmt: skip
    everything = f"{list(records.values())} {list(LogEntry.objects.values())}"
    assert VALUE not in everything
    assert "second line" not in everything


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"path": "../other", "value": VALUE}, "made of letters"),
        ({"path": "taken", "value": VALUE}, "open it to store a new value"),
        ({"path": "db", "value": ""}, "required"),
        ({"path": "db", "value": VALUE + "x" * 65_536}, "at most 65,536"),
    ],
)
def test_a_form_that_is_refused_does_not_send_the_value_back(ada: Client, sent: dict[str, str], words: str) -> None:
    store_secret(Tenant.objects.get(name="default"), "taken", "x", by=None)
    response = ada.post("/admin/safety/secret/add/", sent)
    shown = response.content.decode()
    assert response.status_code == 200
    assert words in shown
    assert VALUE not in shown
    assert stored("taken") == "x"


@pytest.mark.parametrize("role", ["viewer", "requester", "approver", "operator"])
def test_only_administrators_see_which_secrets_there_are(db: None, role: str) -> None:
    store_secret(Tenant.objects.get(name="default"), "db/orders", VALUE, by=None)
    client = client_of("rita", role)
    secret = Secret.objects.get()
    for path in ("", "add/", f"{secret.pk}/change/"):
        assert client.get(f"/admin/safety/secret/{path}").status_code == 403
        assert client.get(f"/admin/safety/secretrule/{path}").status_code in (302, 403)
    client.post(f"/admin/safety/secret/{secret.pk}/change/", {"value": "theirs"})
    client.post(f"/admin/safety/secret/{secret.pk}/delete/", {"post": "yes"})
    assert stored("db/orders") == VALUE


def test_another_tenants_secrets_are_not_there(db: None) -> None:
    store_secret(Tenant.objects.get(name="default"), "db/orders", VALUE, by=None)
    other = client_of("otto", "admin", tenant="other")
    assert "db/orders" not in page(other)
    assert other.get(f"/admin/safety/secret/{Secret.objects.get().pk}/change/").status_code == 302
    assert other.post("/admin/safety/secret/add/", {"path": "db/orders", "value": "theirs"}).status_code == 302
    assert stored("db/orders") == VALUE


def test_it_says_who_used_a_secret_and_when(ada: Client) -> None:
    tenant, other = Tenant.objects.get(name="default"), Tenant.objects.create(name="other")
    store_secret(tenant, "db/orders", VALUE, by=None)
    user = User.objects.get(username="ada")
    assert "never" in page(ada)
    named: dict[str, Any] = {"object_type": "secret", "object_id": "db/orders"}
    audit.record("secret.use", actor="user:somebody-else", tenant_id=other.pk, **named)
    audit.record("secret.use", by=user, data={"execution": 7, "step": "dump", "version": "1"}, **named)
    assert "user:ada, 0\xa0minutes ago" in page(ada)
    uses = page(ada, f"{Secret.objects.get().pk}/change/")
    assert '<a href="/executions/7/">#7</a>' in uses
    assert "granted" in uses
    assert "somebody-else" not in uses
    audit.record("secret.use", by=user, allowed=False, code="secret_unavailable", reason="There is none.", **named)
    assert "refused" in page(ada)
    assert "refused: There is none." in page(ada, f"{Secret.objects.get().pk}/change/")


def test_the_list_asks_the_same_however_many_secrets_there_are(ada: Client, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        store_secret(Tenant.objects.get(name="default"), f"many/{number}", "x", by=None)
    page(ada)
    with django_assert_max_num_queries(12):
        page(ada)


def test_rules_are_made_and_changed_for_ones_own_tenant(ada: Client) -> None:
    dba = Group.objects.create(name="dba")
    address = "/admin/safety/secretrule/"
    assert ada.post(f"{address}add/", {"prefix": "db/", "groups": [dba.pk]}).status_code == 302
    rule = SecretRule.objects.get()
    assert (rule.prefix, rule.tenant.name, list(rule.groups.all())) == ("db", "default", [dba])
    assert AuditRecord.objects.filter(action="policy.create", actor="user:ada").count() == 1
    assert "dba, administrators" in ada.get(address).content.decode()
    assert "change that one" in ada.post(f"{address}add/", {"prefix": "db"}).content.decode()
    assert "made of letters" in ada.post(f"{address}add/", {"prefix": "../db"}).content.decode()
    assert ada.post(f"{address}{rule.pk}/change/", {"prefix": "", "groups": []}).status_code == 302
    assert "every secret" in ada.get(address).content.decode()
    other = client_of("otto", "admin", tenant="other")
    assert other.post(f"{address}{rule.pk}/change/", {"prefix": "x"}).status_code == 302
    assert SecretRule.objects.get().prefix == ""


def test_with_another_store_the_page_says_so_and_stores_nothing(ada: Client, settings: Any) -> None:
    settings.SECRETS_BACKEND = "vault"
    assert "kept by <b>vault</b>" in page(ada)
    assert ada.post("/admin/safety/secret/add/", {"path": "db", "value": VALUE}).status_code == 403
    assert not Secret.objects.exists()


@pytest.fixture
def moved_to_vault(ada: Client, settings: Any) -> Iterator[VaultServer]:
    """Two secrets that were stored in rows, and then in Vault under the same paths."""
    tenant = Tenant.objects.get(name="default")
    for path in ("db/orders", "db/other"):
        store_secret(tenant, path, "of before", by=None)
    server = VaultServer()
    settings.SECRETS_BACKEND = "vault"
    settings.VAULT = VaultSettings(server.address, "secret", "", "", role=ROLE_ID, secret_id=SECRET_ID)
    configured_store.cache_clear()
    for path in ("db/orders", "db/other"):
        store_secret(tenant, path, VALUE, by=None)
    yield server
    server.close()
    configured_store.cache_clear()


def remove_in_admin(ada: Client, how: str) -> int:
    if how == "page":
        return ada.post(
            f"/admin/safety/secret/{Secret.objects.get(path='db/orders').pk}/delete/", {"post": "yes"}
        ).status_code
    chosen = {"action": "delete_selected", "_selected_action": [row.pk for row in Secret.objects.all()], "post": "yes"}
    return ada.post("/admin/safety/secret/", chosen).status_code


@pytest.mark.parametrize(("how", "removed"), [("page", ["db/orders"]), ("action", ["db/orders", "db/other"])])
@pytest.mark.parametrize("reachable", [True, False])
def test_removing_a_row_of_before_leaves_the_secret_that_is_in_use(
    ada: Client, moved_to_vault: VaultServer, how: str, removed: list[str], reachable: bool
) -> None:
    if not reachable:
        moved_to_vault.close()
    assert remove_in_admin(ada, how) == 302
    assert not Secret.objects.filter(path__in=removed).exists()
    if reachable:
        assert (stored("db/orders"), stored("db/other")) == (VALUE, VALUE)
    records = AuditRecord.objects.filter(action="secret.delete").order_by("object_id")
    assert [(row.object_id, row.actor, row.data["store"]) for row in records] == [
        (path, "user:ada", "embedded") for path in removed
    ]


def test_without_a_key_the_form_says_what_to_set(ada: Client, settings: Any) -> None:
    settings.FIELD_ENCRYPTION_KEYS = []
    configured_store.cache_clear()
    try:
        response = ada.post("/admin/safety/secret/add/", {"path": "db/orders", "value": VALUE})
        shown = response.content.decode()
        assert (response.status_code, Secret.objects.count()) == (200, 0)
        assert "Set FIELD_ENCRYPTION_KEYS" in shown
        assert VALUE not in shown
    finally:
        configured_store.cache_clear()
