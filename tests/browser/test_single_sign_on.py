"""Signing in at a provider with a real browser: there, back, and out again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from safety.models import ExternalIdentity, User
from tests.executions.live.web import WebProcess
from tests.safety.sso.provider import ProviderProcess

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.fixture
def provider() -> Iterator[ProviderProcess]:
    with ProviderProcess() as process:
        yield process


def test_a_person_signs_in_with_the_keyboard_works_and_signs_out(
    browser: Browser, provider: ProviderProcess, monkeypatch: pytest.MonkeyPatch, alice: User
) -> None:
    provider.person("b-1", preferred_username="bea", groups=["ops"])
    for name, value in {
        "OIDC_ISSUER": provider.issuer,
        "OIDC_CLIENT_ID": "opsconductor",
        "OIDC_CLIENT_SECRET": "a secret of the client",
        "OIDC_NAME": "Example ID",
        "OIDC_GROUP_ROLES": "ops=operator",
    }.items():
        monkeypatch.setenv(name, value)
    with WebProcess() as web:
        context = browser.new_context(base_url=web.url)
        page = context.new_page()
        page.goto("/executions/assets/")
        page.get_by_role("link", name="Sign in with Example ID").focus()
        page.keyboard.press("Enter")
        page.wait_for_url(f"{provider.issuer}/**")
        page.get_by_role("button", name="Deny").click()
        expect(page.get_by_role("alert")).to_contain_text("did not let you in")
        page.keyboard.press("Enter")  # the way out has the focus
        page.wait_for_url(f"{provider.issuer}/**")
        page.fill("[name=sub]", "b-1")
        page.keyboard.press("Enter")
        page.wait_for_url("**/executions/")
        expect(page.locator(".topbar")).to_contain_text("bea")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("status")).to_contain_text("You are signed out here")
        page.get_by_role("link", name="sign out there too").click()
        page.wait_for_url(f"{provider.issuer}/oauth2/end_session**")
        context.close()
    assert ExternalIdentity.objects.get().user.username == "bea"
