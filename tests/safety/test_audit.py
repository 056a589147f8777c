"""The audit: kept with the change or not at all, never changed afterwards, sealed once, in one chain without a gap."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queueing.connections import parameters
from safety import audit
from safety.audit.chain import FIRST_PREVIOUS, spelled
from safety.masking import PLACEHOLDER
from safety.models import AuditOutbox, AuditRecord, AuditSeal, Tenant, User

pytestmark = pytest.mark.django_db

TABLES = ("safety_auditrecord", "safety_auditseal")


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


def chain_of(tenant_id: int) -> list[AuditSeal]:
    return list(AuditSeal.objects.filter(chain=tenant_id).order_by("number"))


def test_a_record_says_who_did_what_on_which_object_from_where_and_when(alice: User) -> None:
    with audit.origin("api", "192.0.2.7"):
        audit.record("execution.approve", by=alice, object_type="execution", object_id=7, object_name="Restart",
                     reason="looks good", data={"level": 2})  # fmt: skip
    kept = AuditRecord.objects.get()
    assert (kept.tenant_id, kept.actor, kept.actor_id) == (alice.tenant_id, "user:alice", alice.pk)
    assert (kept.action, kept.object_type, kept.object_id, kept.object_name) == (
        "execution.approve", "execution", "7", "Restart",
    )  # fmt: skip
    assert (kept.door, kept.address, kept.allowed, kept.code) == ("api", "192.0.2.7", True, "")
    assert (kept.reason, kept.data) == ("looks good", {"level": 2})
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s BETWEEN now() - interval '1 minute' AND clock_timestamp()", [kept.at])
        assert cursor.fetchone() == (True,)


def test_a_record_goes_with_the_change_that_is_rolled_back(alice: User) -> None:
    with transaction.atomic():
        audit.record("queue.drain", by=alice)
        assert AuditOutbox.objects.exists()
        transaction.set_rollback(True)
    assert not AuditRecord.objects.exists()
    assert not AuditOutbox.objects.exists()


def test_an_action_that_is_not_on_the_list_is_refused(alice: User) -> None:
    with pytest.raises(audit.UnknownAction, match=r"sudo\.anything"):
        audit.record("sudo.anything", by=alice)


def test_what_the_database_cannot_store_does_not_keep_a_record_from_being_written(alice: User) -> None:
    audit.record(
        "asset.change", by=alice, object_name="x\0y" * 200, reason="half \ud800 pair", data={"a\0": [1.5, 2**60]}
    )
    kept = AuditRecord.objects.get()
    assert len(kept.object_name) == 300
    assert kept.reason == "half ? pair"
    assert kept.data == {"a\ufffd": ["1.5", str(2**60)]}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"])
def test_nobody_changes_or_removes_what_was_recorded(alice: User, table: str, statement: str) -> None:
    audit.record("queue.drain", by=alice)
    audit.seal_all()
    column = "reason" if table == TABLES[0] else "hash"
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(table, column, column))
    assert AuditSeal.objects.count() == AuditRecord.objects.count() == 1


def test_the_seals_of_each_tenant_are_one_chain_without_a_gap(alice: User) -> None:
    other = User.objects.create_user("bob", tenant=Tenant.objects.create(name="other"))
    for by in (alice, other, alice, None):
        audit.record("queue.drain", by=by)
    assert audit.seal_all() == 4
    audit.record("queue.resume", by=alice)
    assert audit.seal_all() == 1
    assert not AuditOutbox.objects.exists()
    assert [seal.number for seal in chain_of(alice.tenant_id)] == [1, 2, 3]
    assert [seal.number for seal in chain_of(other.tenant_id)] == [1]
    assert [seal.number for seal in chain_of(0)] == [1]
    assert len(set(AuditSeal.objects.values_list("hash", flat=True))) == 5


@pytest.mark.django_db(transaction=True)
def test_of_any_number_of_sealers_and_writers_at_once_every_record_is_sealed_once() -> None:
    alice = User.objects.create_user("alice")
    barrier = threading.Barrier(6)
    failures: list[BaseException] = []

    def write(n: int) -> None:
        for i in range(40):
            with transaction.atomic():
                audit.record("queue.drain", by=alice if i % 2 else None, data={"n": n})
                audit.record("queue.resume", by=alice, data={"n": n})

    def work(n: int) -> None:
        barrier.wait()
        try:
            if n < 3:
                write(n)
            else:
                for _ in range(60):
                    audit.seal(most=7) if n < 5 else audit.seal_all()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit.seal_all()
    assert failures == []
    assert AuditSeal.objects.count() == AuditRecord.objects.count() == 240
    for chain in (0, alice.tenant_id):
        seals = chain_of(chain)
        assert [seal.number for seal in seals] == list(range(1, len(seals) + 1))


@pytest.mark.django_db(transaction=True)
def test_what_a_sealer_that_died_had_in_hand_is_sealed_by_the_next() -> None:
    audit.record("queue.drain")
    with transaction.atomic():
        assert audit.seal() == 1
        transaction.set_rollback(True)
    assert not AuditSeal.objects.exists()
    assert audit.seal() == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.dictionaries(st.text(), JSON, max_size=5), reason=st.text(max_size=100))
def test_python_and_the_database_spell_a_record_alike(data: dict[str, Any], reason: str) -> None:
    """Otherwise an export could not be verified without the database."""
    with transaction.atomic():
        audit.record("asset.change", object_type="asset", object_id=3, reason=reason, data=data)
        kept = AuditRecord.objects.latest("pk")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT safety_audit_text(r, 12, %s) FROM safety_auditrecord r WHERE id = %s", [FIRST_PREVIOUS, kept.pk]
            )
            told = cursor.fetchone()[0]
        at = kept.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert told == spelled([
            1, 0, 12, FIRST_PREVIOUS, kept.pk, at, "system", None, "asset.change", "asset", "3", "", True, "",
            kept.reason, "system", "", kept.data,
        ])  # fmt: skip


def test_what_is_refused_at_the_door_names_whose_session_it_was_and_from_where(alice: User) -> None:
    client = Client(enforce_csrf_checks=True, REMOTE_ADDR="192.0.2.9")
    client.force_login(alice, backend="safety.backends.PasswordBackend")
    assert client.post("/api/v1/queue/drain/", {}, content_type="application/json").status_code == 403
    kept = AuditRecord.objects.latest("pk")
    assert (kept.action, kept.allowed, kept.code) == ("access.use", False, "csrf_failed")
    assert (kept.actor, kept.door, kept.address) == ("user:alice", "api", "192.0.2.9")
    assert kept.object_name == "POST /api/v1/queue/drain/"


@pytest.fixture
def read_only_records() -> Iterator[None]:
    """No record can be written: what a role without the right, a full disk or a standby says."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE safety_auditrecord ADD CONSTRAINT nothing_more CHECK (false) NOT VALID")
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE safety_auditrecord DROP CONSTRAINT nothing_more")


def test_a_refusal_that_cannot_be_recorded_is_still_the_refusal_and_is_logged(
    alice: User, read_only_records: None, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    client.force_login(alice, backend="safety.backends.PasswordBackend")
    submitted = client.post("/api/v1/executions/", {"plan": {"steps": []}}, content_type="application/json")
    assert (submitted.status_code, submitted.json()["code"]) == (422, "invalid_plan")
    cancelled = client.post("/api/v1/executions/7/cancel/", {}, content_type="application/json")
    assert (cancelled.status_code, cancelled.json()["code"]) == (404, "not_found")
    assert User.objects.filter(pk=alice.pk).exists()  # a transaction of the caller's goes on
    told = [record.getMessage() for record in caplog.records if record.name == "safety.audit.recording"]
    assert len([one for one in told if "could not be recorded" in one and "nothing_more" in one]) >= 2, told


def test_who_gives_no_credentials_leaves_nothing_and_who_gives_bad_ones_does() -> None:
    assert Client().get("/api/v1/queue/").status_code == 401
    assert not AuditRecord.objects.exists()
    assert Client().get("/api/v1/queue/", headers={"Authorization": "Bearer oc_wrong"}).status_code == 401
    assert AuditRecord.objects.get(allowed=False).code == "invalid_token"


def test_no_secret_gets_into_a_record(alice: User) -> None:
    audit.record("asset.change", by=alice, reason="password=hunter2-hunter2", data={"password": "hunter2-hunter2"})
    kept = AuditRecord.objects.get()
    assert "hunter2" not in kept.reason
    assert kept.data == {"password": PLACEHOLDER}


@pytest.mark.django_db(transaction=True)
def test_a_worker_does_not_wait_for_another_that_is_sealing() -> None:
    """Otherwise all workers would stand in line twice a second, each with its claims behind it."""
    audit.record("queue.drain")
    with psycopg.connect(**parameters("sealer")) as other:  # a transaction that stays open
        assert other.execute("SELECT safety_audit_seal(10, false)").fetchone() == (1,)
        audit.record("queue.resume")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")
            assert audit.seal() == 0
    assert audit.seal() == 1
    assert [seal.number for seal in chain_of(0)] == [1, 2]
