"""Web and workers cannot change the audit: tried with the connection that the web process itself has."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from safety import audit
from safety.audit.database_role import why_it_can_change_the_audit
from tests.installations import PROJECT, LiveInstallation

ROLE = "audit_test_web"

WEB = "import opsconductor.asgi"
WORKER = "import sys; sys.argv = ['manage.py', 'worker']; import django, os; \
os.environ['DJANGO_SETTINGS_MODULE'] = 'opsconductor.settings'; django.setup()"
PROGRAM = """
import json
from django.db import connection
from safety.audit.database_role import why_it_can_change_the_audit
from queueing.connections import parameters
print(json.dumps([connection.settings_dict["USER"], connection.settings_dict["HOST"], connection.settings_dict["NAME"],
                  why_it_can_change_the_audit(), parameters("x")["user"]]))
"""

FORBIDDEN = [
    "UPDATE safety_auditrecord SET actor = 'user:eve'",
    "DELETE FROM safety_auditrecord",
    "TRUNCATE safety_auditrecord",
    "ALTER TABLE safety_auditrecord DISABLE TRIGGER ALL",
    "DROP TRIGGER audit_is_append_only ON safety_auditrecord",
    "DROP TABLE safety_auditrecord",
    "INSERT INTO safety_auditseal (record_id, chain, number, hash) VALUES (-1, 0, 999, repeat('0', 64))",
    "UPDATE safety_auditseal SET hash = repeat('0', 64)",
    "DELETE FROM safety_auditseal",
    "TRUNCATE safety_auditseal",
    "ALTER TABLE safety_auditseal DISABLE TRIGGER ALL",
    "DROP TABLE safety_auditseal",
    "DELETE FROM safety_auditoutbox",
    "INSERT INTO safety_auditoutbox (record_id) VALUES (-1)",
    "SET session_replication_role = replica",
    "ALTER FUNCTION safety_audit_seal(integer, boolean) RESET ALL",
    "CREATE OR REPLACE FUNCTION safety_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "SELECT setval('safety_auditrecord_id_seq', 1)",
    "SET ROLE opsconductor",
    "ALTER ROLE opsconductor_app SUPERUSER",
    "CREATE TABLE mine (a integer)",
    "DELETE FROM django_migrations",
]


def settings_of(installation: LiveInstallation, start: str) -> list[str]:
    """What a process that starts so connects with: its user, host and database, and how it could change the audit."""
    done = subprocess.run(
        [sys.executable, "-c", start + PROGRAM], env=installation.environment, cwd=PROJECT, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: list[str] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def web(live_installation: LiveInstallation) -> Iterator[psycopg.Connection]:
    """A connection with the settings of the web process of an installation that is served."""
    user, host, name, why, _ = settings_of(live_installation, WEB)
    assert (user, why) == ("opsconductor_app", "")
    with psycopg.connect(user=user, host=host, dbname=name, autocommit=True) as connected:
        yield connected


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_role_of_the_web_cannot_change_the_audit(web: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        web.execute(statement)


def test_neither_maintenance_nor_tables_of_its_own_get_the_web_past_that(web: psycopg.Connection) -> None:
    web.execute("SET opsconductor.audit_maintenance = 'on'")
    for statement in ("DELETE FROM safety_auditrecord", "TRUNCATE safety_auditseal"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            web.execute(statement)
    web.execute("CREATE TEMPORARY TABLE safety_auditoutbox (record_id bigint)")
    columns = "at, actor, action, object_type, object_id, object_name, allowed, code, reason, door, address, data"
    values = "now(), 'test', 'queue.drain', '', '', '', true, '', '', '', '', '{}'"
    web.execute(f"INSERT INTO safety_auditrecord ({columns}) VALUES ({values})")
    found = web.execute("SELECT count(*) FROM pg_temp.safety_auditoutbox").fetchone()
    assert found == (0,)  # the note for the sealer went where it belongs
    web.execute("DROP TABLE pg_temp.safety_auditoutbox")


def test_a_worker_has_the_role_of_the_web_in_all_of_its_connections(live_installation: LiveInstallation) -> None:
    user, _, _, why, unpooled = settings_of(live_installation, WORKER)
    assert (user, unpooled, why) == ("opsconductor_app", "opsconductor_app", "")


def test_what_web_and_workers_record_is_sealed_and_verified(live_installation: LiveInstallation) -> None:
    done = live_installation.run_manage("verify_audit", "--json")
    assert json.loads(done.stdout)["ok"], done.stdout


# --- an external server: roles are granted by a command


@pytest.fixture
def role(transactional_db: None) -> Iterator[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {ROLE} LOGIN")
        yield ROLE
        cursor.execute(f"DROP OWNED BY {ROLE}")
        cursor.execute(f"DROP ROLE {ROLE}")


def test_the_command_grants_what_the_work_needs_and_not_the_audit(role: str) -> None:
    call_command("grant_app_role", role)
    audit.record("queue.drain", actor="system")
    server = connection.settings_dict
    with psycopg.connect(user=role, host=server["HOST"], dbname=server["NAME"], autocommit=True) as web:
        assert web.execute("SELECT safety_audit_seal(10, true)").fetchone() == (1,)
        web.execute("UPDATE safety_tenant SET name = name")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            web.execute("DELETE FROM safety_auditrecord")
        with connection.cursor() as cursor:  # what a later migration makes
            cursor.execute("CREATE TABLE made_later (a integer)")
            web.execute("INSERT INTO made_later VALUES (1)")
            cursor.execute("DROP TABLE made_later")
    assert why_it_can_change_the_audit(role) == ""


def test_a_role_that_could_change_the_audit_all_the_same_is_refused(role: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"GRANT {connection.settings_dict['USER']} TO {role}")
    with pytest.raises(CommandError, match="member of the role that owns"):
        call_command("grant_app_role", role)
    with connection.cursor() as cursor:
        cursor.execute(f"REVOKE {connection.settings_dict['USER']} FROM {role}")


@pytest.mark.django_db
def test_neither_the_owner_nor_nobody_is_granted_anything() -> None:
    with pytest.raises(CommandError, match="another one"), transaction.atomic():
        call_command("grant_app_role", connection.settings_dict["USER"])
    with pytest.raises(CommandError, match="There is no role"), transaction.atomic():
        call_command("grant_app_role", "nobody_of_that_name")
