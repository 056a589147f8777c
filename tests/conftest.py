"""What every test may use. The database of the tests is in settings.py; real installations are in installations.py."""

from __future__ import annotations

import os
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Generator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations
from pytest_django.plugin import blocking_manager_key

from queueing.models import QueueControl
from tests.installations import LiveInstallation, clean_environment
from tests.sshd import sshd as sshd

_sql_flush = DatabaseOperations.sql_flush


def _flush_with_the_audit(self: Any, *args: Any, **kwargs: Any) -> list[str]:
    """Tests that commit empty all tables when they end; the audit's triggers would refuse that."""
    return ["SET LOCAL opsconductor.audit_maintenance = 'on'", *_sql_flush(self, *args, **kwargs)]


DatabaseOperations.sql_flush = _flush_with_the_audit  # type: ignore[method-assign]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Treat all tests that really commit alike, however they say it (see pytest_runtest_teardown)."""
    for item in items:
        if _commits(item):
            item.add_marker(pytest.mark.django_db(transaction=True), append=False)


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
                import_module("safety.migrations.0002_defaults").make_defaults(apps, None)
                import_module("safety.migrations.0009_masking_rules").make_rules(apps, None)
                import_module("executions.migrations.0002_localhost").make_localhost(apps, None)
                QueueControl.objects.get_or_create(pk=1)


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
