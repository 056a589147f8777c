"""What every test may use. The database of the tests is in settings.py; real installations are in installations.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection

from tests.installations import LiveInstallation, clean_environment

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


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
    return clean_environment(DATABASE_URL=url, SECRET_KEY=settings.SECRET_KEY, VAR_DIR=str(settings.VAR_DIR))


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
