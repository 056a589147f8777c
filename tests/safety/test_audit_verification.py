"""Whatever somebody with every right in the database does to the audit afterwards, verify_audit finds and names it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from safety import audit
from safety.audit.exporting import export
from safety.models import AuditRecord, AuditSeal, Tenant, User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def history() -> None:
    """Two tenants, five records each, in turn, and one of the installation; all sealed."""
    people = [
        User.objects.create_user("alice"),
        User.objects.create_user("bob", tenant=Tenant.objects.create(name="other")),
    ]
    for number in range(10):
        by = people[number % 2]
        audit.record("asset.change", by=by, object_type="asset", object_id=number, object_name=f"db-{number}",
                     data={"fields": ["port"], "nested": {"b": 1, "aa": None, "é": True}})  # fmt: skip
    audit.record("queue.drain", actor="system")
    audit.seal_all()


@contextmanager
def no_triggers() -> Iterator[Any]:
    """What a superuser can do who does not want to be seen."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield cursor
        finally:
            cursor.execute("SET session_replication_role = origin")


def tamper(sql: str, *parameters: object) -> None:
    with no_triggers() as cursor:
        cursor.execute(sql, parameters)
        assert cursor.rowcount > 0


def verified(*arguments: str) -> dict[str, Any]:
    """Run verify_audit; the exit status must fit what it says."""
    out = StringIO()
    try:
        call_command("verify_audit", "--json", *arguments, stdout=out, stderr=StringIO())
        status = 0
    except SystemExit as end:
        status = int(str(end.code))
    told: dict[str, Any] = json.loads(out.getvalue())
    assert (status == 0) == told["ok"]
    return told


def faults(told: dict[str, Any]) -> list[tuple[str, str, int | None]]:
    return [
        (chain["name"], fault["fault"], fault["number"]) for chain in told["chains"] for fault in chain["first_faults"]
    ]


def record_at(number: int, tenant: str = "default") -> int:
    return AuditSeal.objects.get(chain=Tenant.objects.get(name=tenant).pk, number=number).record_id


def test_what_nobody_touched_is_verified() -> None:
    told = verified()
    assert told["ok"]
    assert {chain["name"]: chain["records"] for chain in told["chains"]} == {
        "installation": 1, "tenant default": 5, "tenant other": 5,
    }  # fmt: skip
    assert verified("--tenant", "other")["records"] == 5


CHANGES = {
    "tenant_id": "NULL", "at": "at + interval '1 microsecond'", "actor": "'user:eve'", "actor_id": "999",
    "action": "'asset.delete'", "object_type": "'user'", "object_id": "'77'", "object_name": "'db-77'",
    "allowed": "false", "code": "'forbidden'", "reason": "'because'", "door": "'api'", "address": "'192.0.2.1'",
    "data": "jsonb_set(data, '{nested, b}', '2')",
}  # fmt: skip


@pytest.mark.parametrize("column", [field.column for field in AuditRecord._meta.concrete_fields if field.name != "id"])
def test_a_change_of_any_column_is_found(column: str) -> None:
    tamper(f"UPDATE safety_auditrecord SET {column} = {CHANGES[column]} WHERE id = %s", record_at(3))
    assert faults(verified()) == [("tenant default", "changed", 3)]


def test_a_record_that_was_deleted_is_found() -> None:
    tamper("DELETE FROM safety_auditrecord WHERE id = %s", record_at(2))
    assert faults(verified()) == [("tenant default", "missing", 2)]


def test_a_record_that_was_deleted_with_its_seal_is_found() -> None:
    gone = record_at(2)
    tamper("DELETE FROM safety_auditrecord WHERE id = %s", gone)
    tamper("DELETE FROM safety_auditseal WHERE record_id = %s", gone)
    assert ("tenant default", "missing", 2) in faults(verified())


def test_closing_the_gap_afterwards_does_not_hide_it() -> None:
    gone = record_at(2)
    tamper("DELETE FROM safety_auditrecord WHERE id = %s", gone)
    tamper("DELETE FROM safety_auditseal WHERE record_id = %s", gone)
    for number in (3, 4, 5):
        tamper("UPDATE safety_auditseal SET number = %s WHERE record_id = %s", number - 1, record_at(number))
    assert ("tenant default", "changed", 2) in faults(verified())


def test_the_first_records_of_a_chain_cannot_be_cut_off_unseen() -> None:
    gone = [record_at(1), record_at(2)]
    tamper("DELETE FROM safety_auditrecord WHERE id = ANY (%s)", gone)
    tamper("DELETE FROM safety_auditseal WHERE record_id = ANY (%s)", gone)
    assert ("tenant default", "missing", 1) in faults(verified())


def test_two_records_that_changed_places_are_found() -> None:
    second, fourth = record_at(2), record_at(4)
    with no_triggers() as cursor:
        cursor.execute("UPDATE safety_auditseal SET record_id = -1 WHERE record_id = %s", [second])
        cursor.execute("UPDATE safety_auditseal SET record_id = %s WHERE record_id = %s", [second, fourth])
        cursor.execute("UPDATE safety_auditseal SET record_id = %s WHERE record_id = -1", [fourth])
    assert faults(verified()) == [("tenant default", "reordered", 2), ("tenant default", "reordered", 4)]


def test_a_record_that_was_inserted_past_the_chain_is_found() -> None:
    columns = "at, actor, action, object_type, object_id, object_name, allowed, code, reason, door, address, data"
    values = "now(), 'user:eve', 'asset.delete', '', '', '', true, '', '', 'api', '', '{}'"
    tamper(f"INSERT INTO safety_auditrecord ({columns}) VALUES ({values})")
    assert [fault for _, fault, _ in faults(verified())] == ["inserted"]


def test_a_record_that_took_the_place_of_another_is_found() -> None:
    """Even when all that comes after it has its hash computed anew, with a head that was noted before."""
    noted = next(chain["head"] for chain in verified()["chains"] if chain["name"] == "tenant default")
    chain = Tenant.objects.get(name="default").pk
    tamper("UPDATE safety_auditrecord SET object_name = 'db-99' WHERE id = %s", record_at(2))
    ids = list(AuditSeal.objects.filter(chain=chain, number__gte=2).order_by("number").values_list("pk", flat=True))
    tamper("DELETE FROM safety_auditseal WHERE record_id = ANY (%s)", ids)
    with no_triggers() as cursor:
        cursor.execute("INSERT INTO safety_auditoutbox SELECT unnest(%s)", [ids])
    audit.seal_all()
    assert ("tenant default", "changed", 5) in faults(verified("--expect-head", noted))


def test_a_tail_that_was_cut_off_is_found_by_what_the_last_run_noted_and_told_again() -> None:
    assert verified()["ok"]
    gone = [record_at(4), record_at(5)]
    tamper("DELETE FROM safety_auditrecord WHERE id = ANY (%s)", gone)
    tamper("DELETE FROM safety_auditseal WHERE record_id = ANY (%s)", gone)
    for _ in range(2):
        assert faults(verified()) == [("tenant default", "truncated", 4)]


def test_a_tail_that_was_cut_off_is_found_by_a_head_that_an_auditor_noted() -> None:
    last = AuditSeal.objects.get(pk=record_at(5, "other"))
    noted = f"{last.chain}:{last.number}:{last.hash}"
    gone = record_at(5, "other")
    tamper("DELETE FROM safety_auditrecord WHERE id = %s", gone)
    tamper("DELETE FROM safety_auditseal WHERE record_id = %s", gone)
    assert verified()["ok"]  # the chain alone does not tell
    assert faults(verified("--expect-head", noted)) == [("tenant other", "truncated", 5)]


def test_a_record_that_was_taken_away_before_it_was_sealed_is_found() -> None:
    audit.record("queue.resume", actor="system")
    last = AuditRecord.objects.latest("pk").pk
    tamper("DELETE FROM safety_auditrecord WHERE id = %s", last)
    assert faults(verified()) == [("installation", "missing", None)]


def test_a_record_whose_note_for_the_sealer_was_taken_away_is_found() -> None:
    audit.record("queue.resume", actor="system")
    tamper("DELETE FROM safety_auditoutbox")
    assert faults(verified()) == [("installation", "inserted", None)]


def test_in_words_the_first_fault_is_named() -> None:
    tamper("UPDATE safety_auditrecord SET actor = 'user:eve' WHERE id = %s", record_at(3))
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify_audit", stdout=out)
    assert f"The first fault: Record {record_at(3)} (#3) is not what was sealed" in out.getvalue()


# --- exports


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    call_command("export_audit", "--output", str(path), stderr=StringIO())
    return path


def test_an_export_is_verified_without_the_database(exported: Path, django_db_blocker: Any) -> None:
    with django_db_blocker.block():
        told = verified("--file", str(exported))
    assert (told["ok"], told["records"]) == (True, 11)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda lines: [*lines[:3], lines[3].replace("db-", "dc-"), *lines[4:]], "changed"),
        (lambda lines: [*lines[:3], *lines[4:]], "missing"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "missing"),
        (lambda lines: [*lines[:3], lines[3].replace('"allowed": true', '"allowed": false'), *lines[4:]], "changed"),
    ],
)
def test_an_export_that_was_changed_is_found(exported: Path, change: Any, fault: str) -> None:
    exported.write_text("".join(change(exported.read_text().splitlines(keepends=True))))
    assert fault in {found for _, found, _ in faults(verified("--file", str(exported)))}


def test_an_export_that_lacks_its_end_is_found_by_a_noted_head(exported: Path) -> None:
    lines = exported.read_text().splitlines(keepends=True)
    last = json.loads(lines[-1])
    exported.write_text("".join(lines[:-1]))
    assert verified("--file", str(exported))["ok"]
    noted = f"{last['chain']}:{last['number']}:{last['hash']}"
    assert [fault for _, fault, _ in faults(verified("--file", str(exported), "--expect-head", noted))] == ["truncated"]


def test_what_is_no_export_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"chain": 1}\n')
    with pytest.raises(CommandError, match="Line 1 lacks"):
        call_command("verify_audit", "--file", str(path))


def test_an_export_of_one_tenant_holds_nothing_of_another(tmp_path: Path) -> None:
    path = tmp_path / "audit.csv"
    call_command("export_audit", "--format", "csv", "--tenant", "other", "--output", str(path), stderr=StringIO())
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["object_name"] for row in rows] == [f"db-{number}" for number in (1, 3, 5, 7, 9)]


def test_an_export_never_takes_the_place_of_a_file(exported: Path) -> None:
    before = exported.read_bytes()
    with pytest.raises(CommandError, match="is there already"):
        call_command("export_audit", "--output", str(exported), stderr=StringIO())
    assert exported.read_bytes() == before
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_no_cell_of_a_csv_is_a_formula() -> None:
    for name in ("=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1"):
        audit.record("asset.change", actor="system", object_name=name)
    rows = list(csv.DictReader(StringIO("".join(export("csv")), newline="")))
    names = [row["object_name"] for row in rows if row["object_name"][:1] not in ("d", "")]
    assert names == ["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(1)", "'\t=1"]


def test_an_export_of_a_period_is_a_part_without_a_gap(tmp_path: Path) -> None:
    tamper("UPDATE safety_auditrecord SET at = at - interval '40 days' WHERE id = %s", record_at(1))
    since = (AuditRecord.objects.latest("pk").at).date().isoformat()
    path = tmp_path / "period.jsonl"
    call_command("export_audit", "--since", since, "--tenant", "default", "--output", str(path), stderr=StringIO())
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [2, 3, 4, 5]
    assert verified("--file", str(path))["ok"]
