"""Deciding with the keyboard alone, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from executions.models import Approval, Execution, PendingApproval
from safety.models import User
from tests.executions.services.requests import ask, change, make_asset, make_user, waiting_on_wave

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(180),
]


def test_what_waits_comes_by_itself_and_is_decided_with_the_keyboard(
    open_page: Callable[[str], Page], alice: User
) -> None:
    page = open_page("/approvals/")
    expect(page.locator("#waiting")).to_contain_text("Nothing waits for you")
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")
    bob = make_user("bob", "admin")
    make_asset("prod1")
    first, second = (ask(bob, change(text, "prod1")).execution_id for text in ("one", "two"))
    # By a notice; one that came before the server listened for this page is made up for after half a minute.
    expect(page.locator("[data-ask]")).to_have_count(2, timeout=40_000)
    expect(page.locator("[data-badge]")).to_have_text("2", timeout=20_000)

    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("[data-ask]").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("[data-ask]").nth(1).locator("details")).to_have_attribute("open", "")
    page.keyboard.press("r")
    expect(page.locator("#dialog-refuse h2")).to_contain_text(f"#{second}")
    page.keyboard.type("not today")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text(f"#{second}: rejected")
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")  # its scripts run

    page.keyboard.press("a")
    expect(page.locator("#dialog-approve h2")).to_contain_text(f"#{first}")
    page.keyboard.press("Escape")
    expect(page.locator("#dialog-approve")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.locator("#dialog-keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#dialog-keys")).to_be_hidden()
    page.keyboard.press("a")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text(f"#{first}: approved")
    expect(page.locator("#waiting")).to_contain_text("Nothing waits for you")
    expect(page.locator("[data-badge]")).to_be_hidden()
    said = dict(Execution.objects.values_list("pk", "status"))
    assert said == {first: "queued", second: "rejected"}
    assert Approval.objects.get(execution_id=second).comment == "not today"


def test_a_wave_is_approved_with_its_results_in_sight(open_page: Callable[[str], Page], alice: User) -> None:
    """On the page of approvals and on that of the execution, with the keyboard; who sees a wave decides on no other."""
    bob = make_user("bob", "admin")
    hosts = [make_asset(f"web-{number:02}").name for number in range(9)]
    first, second = (
        waiting_on_wave(bob, make_user(f"before-{number}", "approver"), hosts, failed=1, on_failure="rollback")
        for number in range(2)
    )
    page = open_page("/approvals/")
    card = page.locator(f"[data-ask='{first}']")
    expect(card).to_contain_text("2 of 3 succeeded, 1 failed; wave 2 of 3 has 3, and 3 come after it.")
    expect(card.locator(".results tbody tr")).to_have_count(3)
    expect(card.locator(".results tbody tr").first).to_contain_text("It broke.")
    expect(card.locator(".machine")).to_have_text(["web-03 production", "web-04 production", "web-05 production"])
    card.focus()
    page.keyboard.press("a")
    expect(page.locator("#dialog-approve h2")).to_contain_text(f"wave 2 of step 'roll-out' of #{first}")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text(f"#{first}: approved")
    assert [*Approval.objects.filter(by=alice).values_list("execution", "step", "wave")] == [(first, "roll-out", 2)]

    page = open_page(f"/executions/{second}/")
    strip = page.locator(".strip[data-status=pending_approval]")
    expect(strip.locator(".results tbody tr").first).to_contain_text("It broke.")
    PendingApproval.objects.filter(pk=second).update(waves=[3])  # it has gone on since the page was opened
    strip.get_by_role("button", name="Approve").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("Wave 2 of step 'roll-out'")
    assert Execution.objects.get(pk=second).status == "pending_approval"
    assert not Approval.objects.filter(execution=second, by=alice).exists()
