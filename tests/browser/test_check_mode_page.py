"""Asking what a plan would change, in a real browser and with the keyboard alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from executions.models import Execution

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(180),
]

PLAN = """\
title: Restart nginx
steps:
  - {id: restart, tool: systemctl, inputs: {action: restart, service: nginx}, targets: [localhost]}
  - {id: migrate, tool: shell, inputs: {command: ./migrate}, targets: [localhost]}
"""


def test_a_plan_is_checked_from_the_page_and_says_so_on_its_own(open_page: Callable[[str], Page]) -> None:
    page = open_page("/executions/new/")
    page.fill("[name=plan]", PLAN)
    page.focus("button[value=submit]")
    page.keyboard.press("Tab")
    expect(page.locator("button[value=check]")).to_be_focused()
    seen(page, "new")
    page.keyboard.press("Enter")
    page.wait_for_url("**/executions/*/")
    expect(page.locator("h1")).to_have_text("Check mode: Restart nginx")
    expect(page.locator("dl.figures")).to_contain_text("check mode: nothing is changed")
    seen(page, "execution")
    kept = Execution.objects.get()
    assert (kept.action_class, kept.approval_level) == ("read", 0)


def seen(page: Page, name: str) -> None:
    """Take screenshots, wide and narrow, for those who look at them: SCREENSHOTS names the folder."""
    folder = os.environ.get("SCREENSHOTS")
    if not folder:
        return
    looks: tuple[tuple[int, Literal["dark", "light"]], ...] = ((1280, "light"), (390, "dark"))
    for width, scheme in looks:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png")
