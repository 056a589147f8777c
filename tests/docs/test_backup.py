"""What docs/how-to/install.md says about backup and restore, carried out with the programs of the embedded server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connection

from executions.models import Asset
from opsconductor import embedded_postgres
from opsconductor.embedded_postgres.cluster import programs_folder
from safety.models import Tenant
from tests.docs.pages import ROOT, text_of
from tests.installations import clean_environment

PAGE = "docs/how-to/install.md"
DUMP = ("--clean", "--if-exists", "--no-owner")
RESTORE = ("--quiet", "--set", "ON_ERROR_STOP=1", "--single-transaction")


@pytest.mark.django_db(transaction=True)
def test_a_backup_is_restored_into_an_empty_installation_which_stays_drained(tmp_path: Path) -> None:
    assert " ".join(DUMP) in text_of(PAGE)
    assert f"dbshell -- {' '.join(RESTORE)} <" in text_of(PAGE)
    tenant = Tenant.objects.create(name="backed-up")
    Asset.objects.create(tenant=tenant, name="kept-by-the-backup", connection="local")
    dump, var_dir = tmp_path / "opsconductor.sql", (tmp_path / "var").resolve()
    server = connection.settings_dict
    url = f"postgresql://{quote(server['USER'])}@/{quote(server['NAME'])}?host={quote(server['HOST'], safe='')}"
    programs = programs_folder()
    subprocess.run([programs / "pg_dump", *DUMP, f"--file={dump}", url], check=True, timeout=60)

    environment = clean_environment(VAR_DIR=str(var_dir), PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")

    def manage(*words: str, given: str = "") -> str:
        command = [sys.executable, str(ROOT / "manage.py"), *words]
        done = subprocess.run(command, input=given, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    embedded_postgres.start(var_dir, durable=False)  # kept for all three commands, which would each start and stop it
    try:
        manage("dbshell", "--", *RESTORE, given=dump.read_text(encoding="utf-8"))
        manage("drain", "--reason", "restored from a backup")
        asked = (
            "SELECT name, (SELECT draining FROM queueing_queuecontrol) FROM executions_asset WHERE name LIKE 'kept%'"
        )
        assert manage("dbshell", "--", "-At", "-c", asked).strip() == "kept-by-the-backup|t"
    finally:
        embedded_postgres.release(var_dir)
