"""Old records go by one command alone; what is left verifies, and what was removed otherwise still shows."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from safety import audit
from safety.audit.verifying import note, verify
from safety.models import AuditRecord, AuditSeal, User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def history() -> None:
    """Of a tenant three old records and two new ones; of the installation one of each."""
    alice = User.objects.create_user("alice")
    with connection.cursor() as cursor:
        for number in range(7):
            audit.record("queue.drain", by=None if number in (2, 6) else alice, data={"n": number})
            if number < 4:
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute("UPDATE safety_auditrecord SET at = at - interval '100 days' WHERE id ="
                               " (SELECT max(id) FROM safety_auditrecord)")  # fmt: skip
                cursor.execute("SET LOCAL session_replication_role = origin")
    audit.seal_all()


def prune(*arguments: str) -> str:
    out = StringIO()
    call_command("prune_audit", "--older-than-days", "60", *arguments, stdout=out)
    return out.getvalue()


def left() -> list[int]:
    found = AuditRecord.objects.filter(action="queue.drain").order_by("pk").values_list("data__n", flat=True)
    return list(found)


def test_old_records_go_and_the_rest_verifies_again_and_again() -> None:
    assert "4 records removed" in prune("--yes")
    assert left() == [4, 5, 6]
    for _ in range(2):
        report = verify()
        note(report)
        assert report.ok, report.first
        assert {chain.pruned_to for chain in report.chains} == {1, 3}
    assert "Nothing was removed" in prune("--yes")
    assert verify().ok


def test_a_dry_run_removes_nothing() -> None:
    assert prune("--dry-run").startswith("4 records")
    assert left() == list(range(7))


def test_a_beginning_that_was_removed_otherwise_still_shows() -> None:
    prune("--yes")
    first = AuditSeal.objects.filter(record__action="queue.drain", chain__gt=0).order_by("number")[0]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("DELETE FROM safety_auditseal WHERE chain = %s AND number < %s", [first.chain, first.number])
        cursor.execute("DELETE FROM safety_auditrecord WHERE id = %s", [first.record_id])
    assert not verify().ok


def test_a_broken_audit_is_not_pruned() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE safety_auditrecord SET actor = 'user:eve' WHERE actor = 'user:alice'")
        cursor.execute("SET LOCAL session_replication_role = origin")
    with pytest.raises(CommandError, match="is broken, so nothing was removed"):
        prune("--yes")
    assert left() == list(range(7))


def test_web_and_workers_cannot_prune() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE opsconductor_app")
    with pytest.raises(CommandError, match="owner of the tables"):
        prune("--yes")


def test_a_short_time_is_refused() -> None:
    with pytest.raises(CommandError, match="30 or more"):
        call_command("prune_audit", "--older-than-days", "1")
