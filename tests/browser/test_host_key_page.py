"""Comparing and pinning a host key in a real browser, with the keyboard alone, against a real machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.installations import LiveInstallation
from tests.sshd import Sshd

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Sshd]:
    with closing(Sshd(tmp_path / "machine")) as server:
        yield server


@pytest.fixture
def page(browser: Browser, live_installation: LiveInstallation) -> Iterator[Page]:
    """A tab of the administrator. No page may report a fault."""
    faults: list[str] = []
    context = browser.new_context(base_url=live_installation.base_url, viewport={"width": 390, "height": 800})
    context.set_default_timeout(30_000)
    context.on("weberror", lambda error: faults.append(str(error.error)))
    context.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page = context.new_page()
    page.goto("/login/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", live_installation.admin_password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/executions/")
    yield page
    context.close()
    assert faults == []


def test_a_key_is_compared_pinned_and_replaced_with_the_keyboard_alone(
    page: Page, machine: Sshd, live_installation: LiveInstallation
) -> None:
    name = "web-<script>alert(1)</script>" + "x" * 200
    fields = {**machine.asset_fields(), "host_key": "", "name": name, "environment": "test"}
    made = page.evaluate(
        """async (fields) => (await (await fetch("/api/v1/assets/", {method: "POST", body: JSON.stringify(fields),
           headers: {"Content-Type": "application/json",
                     "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value}})).json()).id""",
        fields,
    )
    page.goto(f"/executions/assets/{made}/")
    page.locator("a", has_text="Compare and pin").focus()
    page.keyboard.press("Enter")
    ask(page)
    expect(page.locator(".strip")).to_contain_text("Nobody has said yet which key it has")
    expect(page.locator(".host-keys")).to_contain_text(machine.fingerprint)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    dialog = open_dialog(page)
    expect(dialog).to_contain_text(f"You say that {machine.fingerprint} (ssh-ed25519) is the key of")
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    confirm(page)
    page.wait_for_url(f"**/executions/assets/{made}/")
    expect(page.locator(".notice")).to_contain_text(f"{machine.fingerprint} is now the host key of")

    pinned = machine.fingerprint
    machine.change_host_key()
    page.goto(f"/executions/assets/{made}/host-key/")
    ask(page)
    warning = page.locator(".strip[role=alert]")
    expect(warning).to_contain_text("It shows another key than the known one")
    expect(warning).to_contain_text("On its own console, not over this network")
    expect(page.locator("dialog").first).to_contain_text(f"and that {pinned} is not any more")
    machine.change_host_key()  # between the look and the yes
    confirm(page)
    expect(page.locator(".notice[data-level=error]")).to_contain_text("shows another key by now")


def ask(page: Page) -> None:
    page.locator("button[value=ask]").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/host-key/\?look=\d+$"))


def open_dialog(page: Page) -> Locator:
    page.locator("button[data-dialog=pin-1]").focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#dialog-pin-1")
    expect(dialog).to_be_visible()
    return dialog


def confirm(page: Page) -> None:
    """Open the dialog and go to its last button: the first that has the focus does nothing."""
    open_dialog(page)
    expect(page.locator("#dialog-pin-1 [data-close]")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#dialog-pin-1 [value=pin]")).to_be_focused()
    page.keyboard.press("Enter")
