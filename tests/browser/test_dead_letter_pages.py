"""The DLQ in a real browser: from the list to the end of a batch, with the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from executions.services import work_at_batches
from queueing.models import DeadLetter, DeadLetterBatch
from safety.models import User
from tests.executions.services.parked import park

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(180),
]


def press_until(page: Page, words: str, most: int = 80) -> None:
    """Tab to what says these words, and press Enter."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if words in (page.evaluate("document.activeElement.innerText") or ""):
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{words!r} cannot be reached with the keyboard")


def test_what_a_filter_selects_is_requeued_with_the_keyboard_alone(
    open_page: Callable[[str], Page], alice: User
) -> None:
    park(alice, 230, error="The engine failed: OperationalError: could not connect to db-3.example.com:5432")
    kept = park(alice, 3, reason="attempts_exhausted", error="Each of its 3 attempts ended")
    page = open_page("/admin/queueing/deadletter/")
    press_until(page, "The engine failed: OperationalError: could not connect to <host>:<n>")
    expect(page.locator(".dlq-decide")).to_contain_text("230 open entries")
    press_until(page, "Requeue these 230")
    expect(page.locator(".dlq-title")).to_have_text("Requeue 230 DLQ entries")
    page.locator("textarea[name=reason]").focus()
    page.keyboard.type("db-3 is back")
    press_until(page, "Requeue 230 entries")
    page.wait_for_url("**/deadletterbatch/**")
    expect(page.locator("[role=status]")).to_contain_text("Requeue of 230 entries")
    expect(page.locator("[role=status]")).to_contain_text("by user:alice")
    DeadLetterBatch.objects.update(per_second=None)
    assert work_at_batches() == 100
    expect(page.locator("[role=status]")).to_contain_text("100 done")  # the page asks by itself
    while work_at_batches():
        pass
    expect(page.locator("[role=status]")).to_contain_text("230 done in")
    expect(page.locator(".dlq-chips")).to_contain_text("Requeued 230")
    assert set(DeadLetter.objects.filter(state="open").values_list("pk", flat=True)) == set(kept)


def test_on_a_narrow_screen_nothing_is_cut_off(open_page: Callable[[str], Page], alice: User) -> None:
    (letter,) = park(alice, error=f"The engine failed: {'verylongword' * 30}")
    page = open_page("/admin/queueing/deadletter/")
    page.set_viewport_size({"width": 420, "height": 800})
    for path in ("", "decide/?verb=requeue", "decide/?verb=discard", f"{letter}/change/"):
        page.goto(page.url.split("/admin/")[0] + f"/admin/queueing/deadletter/{path}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 420, path
