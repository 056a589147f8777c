"""Signing in and the list, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from safety.models import User
from tests.executions.live.rows import make_execution, move

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(180),
]


def test_the_list_shows_new_executions_and_moves_by_itself(open_page: Callable[[str], Page], alice: User) -> None:
    page = open_page("/executions/")
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")
    expect(page.locator("#list")).to_contain_text("Nothing has been run yet")
    execution = make_execution(alice, title="Look at the disks")
    row = page.locator(f"tr[data-id='{execution.pk}']")
    expect(row).to_contain_text("Look at the disks")
    expect(row.locator(".chip")).to_have_attribute("data-status", "running")
    move(execution, "succeeded", kind="execution.succeeded")
    expect(row.locator(".chip")).to_have_attribute("data-status", "succeeded")
    row.locator(".row-link").click()
    expect(page.locator("h1")).to_have_text("Look at the disks")


def test_a_plan_is_previewed_and_submitted_from_the_page(open_page: Callable[[str], Page], alice: User) -> None:
    page = open_page("/executions/new/")
    page.click("button:has-text('Preview')")
    expect(page.locator("#preview")).to_contain_text("It would be accepted")
    page.click("button:has-text('Submit')")
    expect(page.locator("h1")).to_have_text("How is this machine?")
    expect(page.locator(".sentence .chip")).to_have_attribute("data-status", "queued")
    expect(page.locator(".sentence")).to_contain_text("No worker is running.")


def test_the_look_can_be_changed_and_is_remembered(open_page: Callable[[str], Page], alice: User) -> None:
    page = open_page("/executions/")
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    page.click("[data-theme-toggle]")
    expect(root).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(root).to_have_attribute("data-theme", "dark")


def test_signing_out_ends_the_page_of_another_tab(open_page: Callable[[str], Page], alice: User) -> None:
    execution = make_execution(alice)
    page, other = open_page("/executions/"), open_page(f"/executions/{execution.pk}/")
    expect(other.locator("[data-live]")).to_have_attribute("data-live", "live")
    page.click("button:has-text('Sign out')")
    expect(page.locator("[name=password]")).to_be_visible()
    move(execution, "succeeded", kind="execution.succeeded")
    expect(other.locator("[name=password]")).to_be_visible()
