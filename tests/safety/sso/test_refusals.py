"""What is not to be believed is not believed, and whoever is refused is told how to go on."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client

from safety.models import AuditRecord, Session, User
from safety.sso import client
from safety.sso.faults import FAULTS
from tests.safety.sso.provider import ROOT, ProviderProcess, configured, sign_in, way_back


def refused(answer: Any, status: int, code: str) -> None:
    page = answer.content.decode()
    assert (answer.status_code, code in page) == (status, True), page
    assert 'href="/login/sso/"' in page
    assert 'href="/login/"' in page
    assert "no-store" in answer.headers["Cache-Control"]
    assert not User.objects.exists()
    assert not Session.objects.filter(user__isnull=False).exists()
    row = AuditRecord.objects.latest("pk")
    assert (row.action, row.code, row.allowed, row.data) == ("session.sign_in", code, False, {"method": "sso"})


def test_every_code_is_in_the_reference_with_its_way_out() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    for code, (status, title, way_out) in FAULTS.items():
        assert f"| `{code}` | {status} | {title} | {way_out} |" in text


def test_a_state_that_was_not_given_out_here_is_refused(provider: ProviderProcess) -> None:
    refused(Client().get(way_back(Client(), "r-1")), 400, "sso_stale")  # begun in another browser
    browser = Client()
    location = way_back(browser, "r-1")
    refused(browser.get(location.replace("state=", "state=x")), 400, "sso_stale")
    refused(browser.get("/login/sso/back/?code=x"), 400, "sso_stale")


def test_what_anybody_can_send_fills_no_audit_and_people_of_the_provider_are_told_apart(
    provider: ProviderProcess,
) -> None:
    for _ in range(5):
        refused(Client().get("/login/sso/back/?error=access_denied"), 403, "sso_denied")
    assert AuditRecord.objects.count() == 1
    for person in ("r-20", "r-21", "r-21"):
        sign_in(Client(), person)
    User.objects.update(is_active=False)
    for person in ("r-20", "r-21", "r-21"):
        assert sign_in(Client(), person).status_code == 403
    assert AuditRecord.objects.filter(code="sso_closed").count() == 2


def test_an_answer_counts_once(provider: ProviderProcess) -> None:
    browser = Client()
    location = way_back(browser, "r-2")
    assert browser.get(location).status_code == 302
    browser.post("/logout/")
    User.objects.all().delete()
    refused(browser.get(location), 400, "sso_stale")


def test_an_answer_that_was_refused_counts_no_second_time(provider: ProviderProcess) -> None:
    browser = Client()
    location = way_back(browser, "r-12")
    provider.be_rough(claims={"aud": "another client"})
    refused(browser.get(location), 403, "sso_bad_token")
    provider.be_rough()
    refused(browser.get(location), 400, "sso_stale")


def test_a_token_of_another_sign_in_is_refused(provider: ProviderProcess) -> None:
    """Its nonce is not that of this browser's: a token that was caught cannot be put under somebody else."""
    provider.be_rough(claims={"nonce": "that of another sign-in"})
    refused(sign_in(Client(), "r-3"), 403, "sso_bad_token")
    provider.be_rough(drop=["nonce"])
    refused(sign_in(Client(), "r-3"), 403, "sso_bad_token")


def test_a_code_without_its_verifier_is_worth_nothing(provider: ProviderProcess) -> None:
    browser = Client()
    location = way_back(browser, "r-4")
    session = browser.session
    for begun in session["sso_begun"].values():
        begun["verifier"] = "guessed"
    session.save()
    refused(browser.get(location), 403, "sso_denied")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "another client"},
        {"aud": ["another client"]},
        {"aud": ["opsconductor", "another client"]},
        {"aud": ["opsconductor", "another client"], "azp": "another client"},
        {"azp": "another client"},
        {"exp": 1_600_000_000},
        {"exp": "never"},
        {"iat": 32_503_680_000},
        {"nbf": 32_503_680_000},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
    ],
)
def test_claims_that_are_not_for_us_and_now_are_refused(provider: ProviderProcess, claims: dict[str, Any]) -> None:
    provider.be_rough(claims=claims)
    refused(sign_in(Client(), "r-5"), 403, "sso_bad_token")


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "iat", "sub"])
def test_claims_that_are_missing_are_refused(provider: ProviderProcess, name: str) -> None:
    provider.be_rough(drop=[name])
    refused(sign_in(Client(), "r-6"), 403, "sso_bad_token")


@pytest.mark.parametrize("sign", ["none", "public key", "another key"])
def test_a_token_that_the_provider_did_not_sign_is_refused(provider: ProviderProcess, sign: str) -> None:
    sign_in(Client(), "r-0")  # the keys are known
    User.objects.all().delete()
    provider.be_rough(sign=sign)
    refused(sign_in(Client(), "r-7"), 403, "sso_bad_token")


@pytest.mark.parametrize("how", [{}, {"kid": "same"}])
def test_the_provider_may_change_its_keys(provider: ProviderProcess, how: dict[str, str]) -> None:
    assert sign_in(Client(), "r-8").status_code == 302
    provider.rotate(**how)
    assert sign_in(Client(), "r-8").status_code == 302
    assert User.objects.count() == 1


def test_who_says_no_at_the_provider_is_not_signed_in(provider: ProviderProcess) -> None:
    browser = Client()
    begun = browser.get("/login/sso/").headers["Location"]
    state = begun.split("state=")[1].split("&")[0]
    refused(browser.get(f"/login/sso/back/?error=access_denied&state={state}"), 403, "sso_denied")
    refused(Client().get("/login/sso/back/?error=access_denied"), 403, "sso_denied")  # also without its state


def test_a_provider_that_is_down_costs_nobody_their_local_account(
    provider: ProviderProcess, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with ProviderProcess() as other:
        settings.OIDC = configured(other)
        location = way_back(browser := Client(), "r-9")
    refused(browser.get(location), 502, "sso_unreachable")
    settings.OIDC = configured(other, name="never asked before")
    began = time.monotonic()
    refused(Client().get("/login/sso/"), 502, "sso_unreachable")
    assert time.monotonic() - began < client.TIMEOUT_SECONDS
    assert "Could not ask discovery" in caplog.text
    User.objects.create_user("local", password="correct horse battery staple")
    fields = {"username": "local", "password": "correct horse battery staple"}
    assert Client().post("/login/", fields).status_code == 302


def test_a_provider_that_fails_gives_a_readable_page(provider: ProviderProcess) -> None:
    provider.be_rough(status=500)
    answer = sign_in(Client(), "r-10")
    assert answer.status_code in (403, 502)
    assert "You are not signed in" in answer.content.decode()


def test_discovery_of_another_issuer_is_refused(provider: ProviderProcess, settings: Any) -> None:
    settings.OIDC = configured(provider, issuer=f"{provider.issuer}/")
    refused(Client().get("/login/sso/"), 502, "sso_unreachable")


def test_neither_code_nor_token_is_ever_logged_or_shown(
    provider: ProviderProcess, caplog: pytest.LogCaptureFixture
) -> None:
    provider.be_rough(claims={"aud": "another client"})
    browser = Client()
    location = way_back(browser, "r-11")
    code = location.split("code=")[1].split("&")[0]
    answer = browser.get(location)
    told = caplog.text + answer.content.decode() + repr(list(AuditRecord.objects.values()))
    assert code not in told
    assert "eyJ" not in told
    assert "a secret of the client" not in told + repr(configured(provider))
