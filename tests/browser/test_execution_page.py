"""The page of an execution in a real browser."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from executions.models import Execution, Step, StepTarget
from executions.retention import Pace, prune
from safety.models import User
from tests.executions.live.rows import make_execution, move, move_target, print_out
from tests.executions.live.web import WebProcess
from tests.executions.old_rows import old_execution

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(180),
]
OpenPage = Callable[[str], Page]


def target_of(execution: Execution, name: str = "localhost", step: str = "check") -> StepTarget:
    return StepTarget.objects.select_related("execution", "step").get(execution=execution, name=name, step__key=step)


def output_of(page: Page) -> list[str]:
    """Return every line of output that the page holds, visible or not."""
    lines: list[str] = page.evaluate(
        "[...document.getElementById('log').lines].filter(line => !line.event).map(line => line.text)"
    )
    return lines


def test_lines_appear_as_they_are_printed_until_everything_is_shown(open_page: OpenPage, alice: User) -> None:
    execution = make_execution(alice)
    target = target_of(execution)
    page = open_page(f"/executions/{execution.pk}/")
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")
    move_target(target, "running")
    print_out(target, ["checking", " the disk\nsecond line\n"])
    print_out(target, ["no space left\n"], "stderr")
    expect(page.locator("#log .line .tx", has_text="checking the disk")).to_be_visible()
    expect(page.locator("#log .line.err .st")).to_have_text("err")
    expect(page.locator(".rail .step").first).to_have_attribute("data-status", "running")
    expect(page.locator(".sentence")).to_contain_text("Step 1 of 2, check")
    expect(page.locator("#log-state")).to_contain_text("Live")
    move_target(target, "failed", exit_code=1)
    last = move(execution, "failed", kind="execution.failed", reason="Step check failed on localhost: exit code 1.")
    expect(page.locator("#log-state")).to_have_text(f"Complete: everything up to #{last} is shown")
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "ended")
    expect(page.locator(".sentence .chip")).to_have_attribute("data-status", "failed")
    expect(page.locator(".sentence")).to_contain_text("exit code 1")
    expect(page.locator("button", has_text="Retry 1 host")).to_be_enabled()


def test_twenty_pages_show_each_line_once_and_in_order_across_the_death_of_the_web_process(
    open_page: OpenPage, web: WebProcess, alice: User
) -> None:
    execution = make_execution(alice)
    target = target_of(execution)
    pages = [open_page(f"/executions/{execution.pk}/") for _ in range(20)]
    for page in pages:
        expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")
    written: list[str] = []

    def say(words: str, count: int) -> None:
        lines = [f"{words} {len(written) + n}" for n in range(count)]
        written.extend(lines)
        print_out(target, [f"{line}\n" for line in lines])

    for _ in range(10):
        say("before", 20)
    web.kill()
    say("while nobody listens", 50)
    for page in pages:
        expect(page.locator("[data-live]")).to_have_attribute("data-live", "reconnecting")
    web.start()
    say("afterwards", 50)
    for page in pages:
        expect(page.locator("#log-count")).to_have_text(f"{len(written) + 1} lines", timeout=30_000)
        assert output_of(page) == written
        expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")


def test_cancelling_from_one_page_asks_for_a_reason_and_shows_on_another(open_page: OpenPage, alice: User) -> None:
    execution = make_execution(alice, status="pending_approval", approval_level=1)
    page, other = (open_page(f"/executions/{execution.pk}/") for _ in range(2))
    expect(other.locator("[data-live]")).to_have_attribute("data-live", "live")
    page.keyboard.press("x")
    dialog = page.locator("#dialog-cancel")
    expect(dialog).to_contain_text("2 not begun: will not run.")
    dialog.locator("button", has_text="Cancel it").click()
    expect(dialog).to_be_visible()  # without a reason nothing is sent
    dialog.locator("textarea").fill("wrong hosts")
    dialog.locator("button", has_text="Cancel it").click()
    for one in (page, other):
        expect(one.locator(".sentence .chip")).to_have_attribute("data-status", "cancelled")
    other.keyboard.press("5")
    expect(other.locator("#panel-audit")).to_contain_text("wrong hosts")
    execution.refresh_from_db()
    assert execution.status == "cancelled"


def test_the_keys_move_between_failures_views_and_the_search(open_page: OpenPage, alice: User) -> None:
    execution = make_execution(alice, hosts=["web-1", "web-2"], status="running")
    for name in ("web-1", "web-2"):
        target = target_of(execution, name)
        move_target(target, "running")
        print_out(target, [f"{name} line {n}\n" for n in range(100)])
        move_target(target, "failed", exit_code=3)
    move(execution, "failed", kind="execution.failed")
    page = open_page(f"/executions/{execution.pk}/")
    expect(page.locator("#log-state")).to_have_attribute("data-state", "complete")
    page.keyboard.press("f")
    expect(page.locator("#log .line.here")).to_contain_text("web-1 · check failed")
    page.keyboard.press("f")
    expect(page.locator("#log .line.here")).to_contain_text("web-2 · check failed")
    page.keyboard.press("F")
    expect(page.locator("#log .line.here")).to_contain_text("web-1 · check failed")
    page.keyboard.press("/")
    page.keyboard.type("web-2 line 77")
    expect(page.locator("#log-matches")).to_have_text("1 of 1")
    expect(page.locator("#log .line.now mark")).to_have_text("web-2 line 77")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("#log-follow")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("2")
    cell = page.locator(".matrix .cell[data-status=failed]").first
    expect(cell).to_contain_text("exit 3")
    cell.click()
    expect(page.locator("#log-filter")).to_contain_text("web-1 · check")
    expect(page.locator("#log-count")).to_have_text("102 of 206 lines")
    page.keyboard.press("?")
    expect(page.locator("#dialog-keys")).to_be_visible()


def test_a_link_to_a_line_leads_to_that_line(open_page: OpenPage, alice: User) -> None:
    execution = make_execution(alice)
    print_out(target_of(execution), [f"line {n}\n" for n in range(2, 3000)])
    page = open_page(f"/executions/{execution.pk}/#L2500")
    expect(page.locator("#log .line.here")).to_contain_text("line 2500")
    expect(page.locator("#log .line.here")).to_be_in_viewport()
    expect(page.locator("#log-follow")).to_have_attribute("aria-pressed", "false")


def test_what_a_machine_prints_is_shown_and_never_run(open_page: OpenPage, alice: User) -> None:
    execution = make_execution(alice)
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    print_out(
        target_of(execution),
        [
            f"{evil}\n",
            "\x1b[1;31mred\x1b[0m plain\n",
            "\x1b]0;title\x07\x1b[2Jscreen\n",
            "10%\r50%\r100%\n",
            "a\x07b\u202ec\n",
        ],
    )
    page = open_page(f"/executions/{execution.pk}/")
    lines = page.locator("#log .line:not(.event) .tx")
    expect(lines).to_have_text([evil, "red plain", "screen", "100%", "a\ufffdb[U+202E]c"])
    expect(page.locator("#log .f1.b")).to_have_text("red")
    assert "owned" not in page.title()
    assert page.locator("#log img").count() == 0


def test_a_log_of_100_000_lines_keeps_the_document_small(open_page: OpenPage, alice: User) -> None:
    execution = make_execution(alice, status="succeeded", step_status="succeeded")
    chunks = ["".join(f"document {chunk * 100 + n} indexed\n" for n in range(100)) for chunk in range(1000)]
    print_out(target_of(execution), chunks)
    began = time.monotonic()
    page = open_page(f"/executions/{execution.pk}/")
    expect(page.locator("#log-count")).to_have_text("100,001 lines")
    opened = time.monotonic() - began
    assert page.locator("#log .line").count() < 150
    page.keyboard.press("/")
    page.keyboard.type("document 98765 ")
    expect(page.locator("#log .line.now")).to_contain_text("document 98765 indexed")
    assert opened < 10  # a second on a machine of its own; this one may be busy


def test_a_thousand_hosts_are_a_small_document_too(open_page: OpenPage, alice: User) -> None:
    hosts = [f"host-{n:04}" for n in range(1000)]
    execution = make_execution(alice, steps=[f"s{n}" for n in range(10)], hosts=hosts, step_status="succeeded")
    StepTarget.objects.filter(execution=execution, name="host-0777", step__key="s4").update(
        status="failed", exit_code=9
    )
    page = open_page(f"/executions/{execution.pk}/#hosts")
    expect(page.locator("#hosts-count")).to_have_text("1,000 of 1,000 hosts, 1 with a failure")
    expect(page.locator(".matrix-row").first).to_contain_text("host-0777")
    assert page.locator(".matrix .cell").count() < 600
    page.keyboard.press("/")
    page.keyboard.type("0042")
    expect(page.locator(".matrix-row")).to_have_count(1)


def test_the_page_can_be_used_on_a_narrow_screen(open_page: OpenPage, alice: User) -> None:
    execution = make_execution(alice, hosts=["a-host-with-a-rather-long-name.example.org"])
    page = open_page(f"/executions/{execution.pk}/")
    for width in (900, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        expect(page.locator("button", has_text="Cancel").first).to_be_in_viewport()


def test_a_log_that_retention_removed_says_so_instead_of_being_empty(open_page: OpenPage, alice: User) -> None:
    execution = old_execution(alice, 100)
    prune(Pace(pause_seconds=0))
    execution.refresh_from_db()
    page = open_page(f"/executions/{execution.pk}/")
    expect(page.locator("#log-state")).to_have_text(execution.removal_notice)
    expect(page.locator("#log .log-empty")).to_have_text(execution.removal_notice)
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "ended")
    page.locator("#tab-audit").click()
    expect(page.locator("#panel-audit [data-removed]")).to_have_text(execution.removal_notice)


def test_the_hosts_of_a_wave_and_the_unreachable_can_be_shown_alone(open_page: OpenPage, alice: User) -> None:
    names = [f"web-{number:02}" for number in range(1, 41)]
    execution = make_execution(alice, steps=["roll-out", "check"], hosts=names, status="failed")
    Step.objects.filter(execution=execution, key="roll-out").update(waves=[1, 10, 29], status="failed")
    rows = StepTarget.objects.filter(execution=execution, step__key="roll-out")
    rows.filter(position__lte=11).update(status="succeeded", attempt=1)
    rows.filter(name="web-04").update(status="failed", error_code="unreachable", error="No route to it.", attempt=3)
    rows.filter(name="web-05").update(status="failed", error_code="exit_code", exit_code=7, error="It ended with 7.")
    rows.filter(position__gt=11).update(status="skipped")
    page = open_page(f"/executions/{execution.pk}/")
    expect(page.locator(".rail .step").first).to_contain_text("1 failed · 1 unreachable · wave 2 of 3")
    page.locator("#tab-hosts").press("Enter")
    expect(page.locator("#hosts-count")).to_have_text("40 of 40 hosts, 2 with a failure")
    cell = page.locator(".matrix-row", has_text="web-04").locator(".cell").first
    expect(cell).to_have_text("Unreachable ×3 · w2")
    show = page.locator("#hosts-show")
    show.select_option(label="only unreachable")
    expect(page.locator("#hosts-count")).to_contain_text("1 of 40 hosts")
    show.select_option(label="wave 2 of 3")
    expect(page.locator("#hosts-count")).to_contain_text("10 of 40 hosts")
    page.locator("button", has_text="Retry 40 hosts").click()
    where = page.locator("#dialog-retry select[name=only]")
    expect(where.locator("option")).to_have_text(
        ["on all 40 hosts that are left", "on the 1 that could not be reached", "on the 1 that were reached and failed"]
    )
