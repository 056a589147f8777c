"""A real browser on a real web process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from playwright.sync_api import Browser, Page, sync_playwright

from safety.models import User
from tests.executions.live.rows import PASSWORD, make_user
from tests.executions.live.web import WebProcess

QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
EXPECTED = ("WebSocket connection to", "Failed to load resource")  # what a browser says while the web process is away


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    """One browser for the tests of a file.

    Playwright keeps an event loop in this thread while it lives, in which nothing of ours runs: the ORM may be used
    beside it. Tests of other files must not find that loop, so it does not outlive its own.
    """
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=str(chromium), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def web(transactional_db: None) -> Iterator[WebProcess]:
    with WebProcess() as process:
        yield process


@pytest.fixture
def alice(transactional_db: None) -> User:
    """A user whose password the web process can check: it does not know the quick hashes of the tests."""
    # Beside Playwright's loop Django has a connection of its own, which knows of no data to restore after a flush.
    import_module("safety.migrations.0002_defaults").make_defaults(apps, None)
    import_module("executions.migrations.0002_localhost").make_localhost(apps, None)
    user = make_user("alice", is_superuser=True, is_staff=True)
    user.password = PBKDF2PasswordHasher().encode(PASSWORD, "salt-of-the-tests", 1000)
    user.save()
    return user


@pytest.fixture
def open_page(browser: Browser, web: WebProcess, alice: User) -> Iterator[Callable[[str], Page]]:
    """Returns a function that opens a path in a tab of its own, signed in. No page may report a fault."""
    faults: list[str] = []
    context = browser.new_context(base_url=web.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(20_000)
    context.on("weberror", lambda error: faults.append(str(error.error)))
    context.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)

    def sign_in() -> None:
        page = context.new_page()
        page.goto("/login/")
        page.fill("[name=username]", "alice")
        page.fill("[name=password]", PASSWORD)
        page.click("button:has-text('Sign in')")
        page.wait_for_url("**/executions/")
        page.close()

    def open_path(path: str) -> Page:
        page = context.new_page()
        page.goto(path)
        return page

    sign_in()
    yield open_path
    context.close()
    assert [fault for fault in faults if not fault.startswith(EXPECTED)] == []
