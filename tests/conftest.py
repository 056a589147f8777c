"""What every test may use. The database of the tests is in settings.py; real installations are in installations.py."""

from __future__ import annotations

import os
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.core.management.commands import flush
from django.db import connection, transaction
from django.db.backends.postgresql.operations import DatabaseOperations
from pytest_django.plugin import blocking_manager_key

from tests.installations import LiveInstallation, clean_environment
from tests.sshd import sshd as sshd

LARGE_BYTES = 512 * 1024
EMPTY = """
DO $$
DECLARE
    tables regclass[] := {tables};
    one regclass;
    has_rows boolean;
BEGIN
    IF EXISTS (SELECT FROM unnest(tables) AS t WHERE pg_relation_size(t) > {large}) THEN
        TRUNCATE {names};
    ELSE
        FOREACH one IN ARRAY tables LOOP
            EXECUTE 'SELECT EXISTS (SELECT FROM ' || one || ')' INTO has_rows;
            IF has_rows THEN
                EXECUTE 'DELETE FROM ' || one;
            END IF;
        END LOOP;
    END IF;
END $$
"""


def _sql_flush(self: Any, style: Any, tables: list[str], **kwargs: Any) -> list[str]:
    """Empty all tables, at the end of a test that commits.

    TRUNCATE makes new files for fifty tables and their indexes, of which a test fills ten: to delete the rows takes a
    tenth of that. The locks are those of TRUNCATE, so whoever is still at work is waited for. No trigger fires: those
    of the audit would refuse.
    """
    names = ", ".join(tables)
    array = "ARRAY[" + ", ".join(f"'{table}'::regclass" for table in tables) + "]"
    return [
        "SET LOCAL session_replication_role = 'replica'",
        f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE",
        EMPTY.format(tables=array, names=names, large=LARGE_BYTES),
    ]


DatabaseOperations.sql_flush = _sql_flush  # type: ignore[method-assign, assignment]
# What it would write again is kept in `_written` with all the rest.
flush.emit_post_migrate_signal = lambda *args, **kwargs: None  # type: ignore[attr-defined]

_written: dict[str, bytes] = {}  # table -> the rows that migrations wrote, as COPY has them


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """The database of the tests, with a look at the rows that it has when it is new (see pytest_runtest_teardown)."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True, include_views=False):
            with cursor.copy(f"COPY {table} TO STDOUT") as copy:
                if rows := b"".join(copy):
                    _written[table] = rows


def _write_again() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = 'replica'")
        for table, rows in _written.items():
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                copy.write(rows)


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


# A file is run by one process. The long ones begin first, so that none is left when the others have nothing to do.
LONGEST = (
    "tests/safety/test_permission_matrix.py",
    "tests/opsconductor/test_serving.py",
    "tests/hosts/test_hosts_cut_off.py",
    "tests/browser/test_execution_page.py",
    "tests/chaos/test_short_form.py",
    "tests/executions/engine/test_worker_process.py",
    "tests/executions/engine/test_lost_workers.py",
    "tests/executions/api/test_schema.py",
    "tests/executions/engine/test_scaling_under_load.py",
    "tests/executions/engine/test_rollback.py",
    "tests/browser/test_policy.py",
    "tests/browser/test_fleet_page.py",
    "tests/executions/engine/test_poison.py",
    "tests/executions/engine/test_pruning_beside_work.py",
    "tests/executions/engine/test_dead_letter_batches.py",
    "tests/safety/secrets/test_canary.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Treat all tests that really commit alike, however they say it (see pytest_runtest_teardown); sort the files."""
    for item in items:
        if _commits(item):
            item.add_marker(pytest.mark.django_db(transaction=True), append=False)
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


def _commits(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("django_db")
    return "transactional_db" in getattr(item, "fixturenames", ()) or (
        marker is not None and bool(marker.kwargs.get("transaction"))
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """After a test that commits, whose tables are emptied, write again what the migrations wrote.

    So every test finds tenant, roles, policies, localhost and the queue's control row, in whatever order tests run.
    """
    try:
        return (yield)
    finally:
        if _commits(item) and nextitem is not None:
            with item.config.stash[blocking_manager_key].unblock():
                _write_again()


@pytest.fixture(scope="session")
def live_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstallation]:
    """One installation for the whole test run: web and workers as processes, its own VAR_DIR, port and database.

    Has base_url, var_dir, admin_password, run_manage(*args). Loopback addresses are open to the HTTP tool.
    Do not kill its processes: tests that do make a LiveInstallation of their own.
    """
    installation = LiveInstallation(tmp_path_factory.mktemp("live"))
    installation.start()
    yield installation
    installation.stop()


@pytest.fixture
def process_environment(transactional_db: None) -> dict[str, str]:
    """The environment with which a process of our own works on the test's database."""
    database = connection.settings_dict
    url = f"postgresql://{quote(database['USER'])}@/{quote(database['NAME'])}?host={quote(database['HOST'], safe='')}"
    keys = ",".join(urlsafe_b64encode(key).decode() for key in settings.FIELD_ENCRYPTION_KEYS)
    return clean_environment(
        DATABASE_URL=url, SECRET_KEY=settings.SECRET_KEY, VAR_DIR=str(settings.VAR_DIR), FIELD_ENCRYPTION_KEYS=keys
    )


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser's program. Skips where there is none, except in CI, where browser tests must run."""
    for name in BROWSERS:
        found = shutil.which(name)
        if found:
            return Path(found)
    reason = f"no browser: none of {', '.join(BROWSERS)} is installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
