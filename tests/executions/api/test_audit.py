"""GET /audit/ and its export: filters, tenants, and lines that verify elsewhere."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any, cast

import pytest
from django.test import Client

from executions.api.audit import _lines
from safety import audit
from safety.accounts import set_roles
from safety.audit.exporting import parts_of, verify_file
from safety.models import Tenant, User

pytestmark = pytest.mark.django_db


def user(name: str, role: str, tenant: str = "default") -> User:
    made = User.objects.create_user(name, tenant=Tenant.objects.get_or_create(name=tenant)[0])
    set_roles(made, [role])
    return made


@pytest.fixture
def alice() -> User:
    return user("alice", "operator")


@pytest.fixture
def bob() -> User:
    return user("bob", "admin", "other")


@pytest.fixture(autouse=True)
def history(alice: User, bob: User) -> None:
    audit.record("asset.change", by=alice, object_type="asset", object_id=3, object_name="db-3")
    audit.record("execution.approve", by=alice, object_type="execution", object_id=7, allowed=False, code="forbidden")
    audit.record("asset.delete", by=bob, object_type="asset", object_id=3)
    audit.record("queue.drain", actor="user:alice")
    audit.seal_all()


def listed(by: User, query: str = "") -> list[dict[str, Any]]:
    client = Client()
    client.force_login(by, backend="safety.backends.PasswordBackend")
    response = client.get(f"/api/v1/audit/?{query}")
    assert response.status_code == 200, response.content
    rows: list[dict[str, Any]] = response.json()["results"]
    return [row for row in rows if row["action"] != "user.set_roles"]


def actions(by: User, query: str = "") -> list[str]:
    return [row["action"] for row in listed(by, query)]


def test_everybody_reads_the_records_of_their_tenant_and_the_first_those_of_the_installation(
    alice: User, bob: User
) -> None:
    assert actions(alice) == ["queue.drain", "execution.approve", "asset.change"]
    assert actions(bob) == ["asset.delete"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("allowed=false", ["execution.approve"]),
        ("action=asset.change,queue.drain", ["queue.drain", "asset.change"]),
        ("object_type=asset&object_id=3", ["asset.change"]),
        ("actor=user:nobody", []),
        ("door=api", []),
        ("to=2020-01-01", []),
        ("from=2020-01-01&object_type=execution", ["execution.approve"]),
    ],
)
def test_filters_do_what_they_say(alice: User, query: str, found: list[str]) -> None:
    assert actions(alice, query) == found


def test_a_record_is_shown_with_its_seal(alice: User) -> None:
    row = listed(alice, "action=asset.change")[0]
    assert (row["actor"], row["object_name"], row["tenant"], row["allowed"]) == ("user:alice", "db-3", "default", True)
    assert row["number"] >= 1
    assert len(row["hash"]) == 64


def test_an_unknown_filter_is_refused(alice: User) -> None:
    client = Client()
    client.force_login(alice, backend="safety.backends.PasswordBackend")
    assert client.get("/api/v1/audit/?action=sudo").status_code == 400
    assert client.get("/api/v1/audit/?who=alice").status_code == 400


@pytest.mark.parametrize("role", ["viewer", "requester", "approver"])
def test_the_audit_is_for_operators_and_administrators(role: str) -> None:
    client = Client()
    client.force_login(user("carol", role), backend="safety.backends.PasswordBackend")
    assert client.get("/api/v1/audit/").status_code == 403
    assert client.get("/api/v1/audit/export/").status_code == 403


@pytest.mark.django_db(transaction=True)
def test_an_export_over_the_api_verifies_and_is_itself_recorded(bob: User) -> None:
    client = Client()
    client.force_login(bob, backend="safety.backends.PasswordBackend")
    response = client.get("/api/v1/audit/export/")
    assert response["Content-Disposition"] == 'attachment; filename="audit.jsonl"'
    text = asyncio.run(_read(cast(Any, response).streaming_content))
    report = verify_file(text.splitlines())
    assert report.ok
    assert [chain.chain for chain in report.chains] == [bob.tenant_id]
    assert listed(bob, "action=audit.export")[0]["data"]["format"] == "jsonl"


@pytest.mark.django_db(transaction=True)
def test_csv_has_a_line_for_each_record(bob: User) -> None:
    text = asyncio.run(_read(_lines("csv", parts_of(chains=[bob.tenant_id]))))
    rows = list(csv.DictReader(StringIO(text, newline="")))
    assert [row["action"] for row in rows] == ["user.set_roles", "asset.delete"]


async def _read(pieces: AsyncIterator[bytes]) -> str:
    return b"".join([piece async for piece in pieces]).decode()
