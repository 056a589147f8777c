"""Every page and every admin page in a real browser: nothing on it breaks its Content-Security-Policy, and it works."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin import site
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from executions.models import Asset, AssetGroup
from queueing.models import Cluster, DeadLetter, DeadLetterBatch, Pool, QueueControl, ScalingDecision, Worker
from safety.accounts import issue_token
from safety.models import User
from tests.executions.live.rows import make_execution, print_out
from tests.executions.live.web import WebProcess

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
OpenPage = Callable[[str], Page]

# Noted before anything of the page runs, and kept over all pages of a tab.
LISTEN = """
addEventListener("securitypolicyviolation", event => console.error(
  "CSP", event.effectiveDirective, event.blockedURI, event.sourceFile, event.lineNumber, event.sample));
"""
INJECT = """
() => {
  const script = document.createElement("script");
  script.textContent = "window.ran = true";
  document.body.append(script);
  document.body.insertAdjacentHTML("beforeend", "<b style='color: red'>x</b>"
    + "<img src='data:,' onerror='window.ran = true'><form id=elsewhere action='https://elsewhere.example/'><button></button></form>");
  document.getElementById("elsewhere").submit();
}
"""


@pytest.fixture
def things(alice: User) -> dict[str, int]:
    """One row of everything that a page can show."""
    QueueControl.objects.get_or_create(pk=1)
    running = make_execution(alice, status="running")
    print_out(running.step_targets.all()[0], ["hello\n"])
    for status in ("succeeded", "failed", "pending_approval"):
        make_execution(alice, status=status)
    attention = make_execution(alice, status="needs_attention", step_status="unknown")
    letter = DeadLetter.objects.create(
        execution_id=attention.pk, tenant_id=alice.tenant_id, reason="attempts_exhausted", error="lost", attempts=3
    )
    DeadLetterBatch.objects.create(
        tenant_id=alice.tenant_id, actor_id=alice.pk, by=alice.actor, verb="requeue", reason="why", filter={},
        per_second=1, paced_until=timezone.now(), matched=1,
    )  # fmt: skip
    group = AssetGroup.objects.create(tenant=alice.tenant, name="web")
    group.assets.add(Asset.objects.get(name="localhost"))
    later = timezone.now() + timedelta(minutes=10)
    Cluster.objects.create(
        name="c", host="h", pid=1, version="0", processes=1, initial_processes=1, max_processes=8, last_beat_at=later
    )
    Worker.objects.create(cluster="c", host="h", pid=1, version="0", slots=10, last_beat_at=later)
    Pool.objects.create(name="somewhere", paused=True)
    ScalingDecision.objects.create(
        cluster="c", host="h", before=1, after=2, reason="more to do", by="autoscale", applied=True, depth=1,
        waiting_seconds=1.0, running=1, slots=10,
    )  # fmt: skip
    issue_token(alice, "a token")
    return {"running": running.pk, "attention": attention.pk, "letter": letter.pk}


@pytest.fixture
def watched(open_page: OpenPage) -> Callable[[str], Page]:
    """Opens a path in one and the same tab, which counts every violation and every fault of a script as a failure."""
    page = open_page("/executions/")
    page.add_init_script(LISTEN)
    faults: list[str] = []

    def note(said: ConsoleMessage) -> None:
        if said.type == "error":
            faults.append(f"{page.url}: {said.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))

    def go(path: str) -> Page:
        response = page.goto(path)
        assert response is not None
        assert response.status == 200, path
        assert "unsafe-inline" not in response.headers["content-security-policy"].replace(
            "style-src-attr 'unsafe-inline'", ""
        )
        page.wait_for_load_state("networkidle")
        assert faults == []
        return page

    return go


def test_a_violation_is_seen(browser: Browser, web: WebProcess) -> None:
    """Nothing of the other tests would fail if the browser enforced nothing: so here something is broken."""
    page = browser.new_page()
    page.add_init_script(LISTEN)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{web.url}/login/")
    page.evaluate(INJECT)
    page.wait_for_function("() => document.images.length > 1 && document.images[1].complete")
    assert page.evaluate("() => window.ran") is None
    assert {text.split()[1] for text in said if text.startswith("CSP ")} >= {
        "script-src-elem", "script-src-attr", "style-src-attr", "form-action",
    }  # fmt: skip
    page.close()


def test_our_own_pages_keep_their_policy(watched: OpenPage, things: dict[str, int]) -> None:
    page = watched("/executions/")
    before = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.click("[data-theme-toggle]")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != before
    watched("/executions/assets/").click("a:has-text('localhost')")
    page = watched("/executions/assets/import/")
    page.fill("[name=text]", "name,connection\nm,ssh\n")
    page.click("button:has-text('Preview')")
    expect(page.locator("#preview")).to_be_visible()
    page = watched("/executions/new/")
    page.click("button:has-text('Preview')")
    expect(page.locator("#preview")).to_be_visible()
    page = watched(f"/executions/{things['running']}/")
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live", timeout=15_000)
    expect(page.locator("#log")).to_contain_text("hello")
    for tab in ("hosts", "waterfall", "plan", "audit", "log"):
        page.click(f"#tab-{tab}")
    page.click("[data-dialog=keys]")
    page.keyboard.press("Escape")
    watched(f"/executions/{things['attention']}/")


def test_the_api_s_own_page_keeps_its_policy_and_can_be_tried_out(watched: OpenPage, things: dict[str, int]) -> None:
    page = watched("/api/docs/")
    expect(page.locator(".opblock").first).to_be_visible(timeout=20_000)
    call = page.locator("[id$=tools_list]")
    call.locator("button").first.click()
    call.locator("button:has-text('Try it out')").click()
    call.locator("button.execute").click()
    expect(call.locator(".live-responses-table")).to_contain_text("200", timeout=20_000)
    watched("/api/docs/")


def admin_pages() -> list[str]:
    """The list, the form for a new row and the page of one row of every model, and what the admin has besides."""
    pages = [reverse("admin:index")]
    for model in site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        pages.append(reverse(f"admin:{name}_changelist"))
        first = model._default_manager.order_by("pk").first()
        if first is not None:
            pages.append(reverse(f"admin:{name}_change", args=[first.pk]))
        if name in ("executions_asset", "executions_assetgroup", "safety_user", "auth_group"):
            pages.append(reverse(f"admin:{name}_add"))
    return [*pages, reverse("admin:queueing_deadletter_decide")]


def test_the_admin_keeps_its_policy_on_every_page(watched: OpenPage, things: dict[str, int]) -> None:
    for path in admin_pages():
        watched(path)


def test_the_admin_s_menus_filters_actions_and_dialogs_work(watched: OpenPage, things: dict[str, int]) -> None:
    page = watched("/admin/executions/execution/")
    page.locator("input.action-select").first.check()
    expect(page.locator("#changelist-actions")).to_be_visible()
    page.locator("[x-on\\:click='filterOpen = true']").first.click()
    expect(page.locator("text=What needs me?").first).to_be_visible()
    page = watched("/admin/")
    page.locator("[x-on\\:click='openUserLinks = !openUserLinks']").first.click()
    page.locator("""[x-on\\:click="switchTheme('dark')"]""").first.click()
    expect(page.locator("html")).to_have_class(re.compile(r"\bdark\b"))
    page = watched("/admin/queueing/worker/")
    page.click("button:has-text('Drain the queue')")
    expect(page.locator("#dialog-drain [name=reason]")).to_be_focused()
    page.keyboard.press("Escape")
    watched("/admin/queueing/worker/")
