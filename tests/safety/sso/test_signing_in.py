"""Who the people of a provider are here, and what they may do."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from safety.models import AuditRecord, ExternalIdentity, Session, Tenant, User
from safety.rbac import roles_of
from tests.safety.sso.provider import ProviderProcess, configured, sign_in, way_back


def audited() -> list[tuple[str, str, bool]]:
    rows = AuditRecord.objects.filter(action="session.sign_in").order_by("pk")
    return list(rows.values_list("actor", "code", "allowed"))


def test_somebody_signs_in_gets_the_roles_of_their_groups_and_goes_where_they_wanted(provider: ProviderProcess) -> None:
    browser = Client()
    provider.person("s-1", preferred_username="alice", given_name="Alice", email="a@example.org", groups=["ops", "x"])
    answer = sign_in(browser, "s-1", "/executions/assets/")
    assert answer.headers["Location"] == "/executions/assets/"
    user = User.objects.get()
    assert (user.username, user.first_name, user.email, user.is_staff) == ("alice", "Alice", "a@example.org", True)
    assert roles_of(user) == {"operator", "viewer"}
    assert not user.has_usable_password()
    identity = ExternalIdentity.objects.get()
    assert (identity.issuer, identity.subject, identity.user) == (provider.issuer, "s-1", user)
    assert Session.objects.get().method == "sso"
    assert browser.get("/executions/").status_code == 200
    assert audited() == [("user:alice", "", True)]


def test_the_same_person_is_the_same_user_whatever_they_are_called_today(provider: ProviderProcess) -> None:
    provider.person("s-2", preferred_username="bob", groups=["readers"])
    sign_in(Client(), "s-2")
    provider.person("s-2", preferred_username="robert", email="new@example.org", groups=["readers"])
    sign_in(Client(), "s-2")
    assert User.objects.get().username == "bob"
    assert User.objects.get().email == "new@example.org"


def test_an_equal_name_or_address_takes_no_local_account_over(provider: ProviderProcess) -> None:
    local = User.objects.create_superuser("admin", email="admin@example.org", password="correct horse battery staple")
    provider.person("s-3", preferred_username="Admin", email="admin@example.org")
    sign_in(Client(), "s-3")
    other = ExternalIdentity.objects.get().user
    assert other != local
    assert other.username.startswith("Admin-")
    assert not other.is_superuser
    assert roles_of(other) == frozenset()


def test_roles_withdrawn_at_the_provider_are_gone_with_the_next_sign_in(provider: ProviderProcess) -> None:
    local = User.objects.create_user("local")
    provider.person("s-4", preferred_username="carol", groups=["ops-admins"])
    sign_in(Client(), "s-4")
    carol = User.objects.get(username="carol")
    assert "admin" in roles_of(carol)
    provider.person("s-4", preferred_username="carol", groups=["readers"])
    sign_in(Client(), "s-4")
    carol.refresh_from_db()
    assert roles_of(carol) == {"viewer"}
    assert not carol.is_staff
    assert roles_of(local) == frozenset()


def test_who_is_in_no_group_that_counts_is_told_so(provider: ProviderProcess) -> None:
    browser = Client()
    provider.person("s-5", preferred_username="dave", groups=["something else"])
    page = browser.get(way_back(browser, "s-5"), follow=True)
    assert "You have no role here yet" in page.content.decode()


def test_groups_may_come_from_userinfo(provider: ProviderProcess) -> None:
    provider.person("s-6", preferred_username="erin", groups=["ops"])
    provider.be_rough(drop=["groups"])
    sign_in(Client(), "s-6")
    assert roles_of(User.objects.get()) == {"operator", "viewer"}


def test_an_account_that_is_closed_here_stays_closed(provider: ProviderProcess) -> None:
    provider.person("s-7", preferred_username="frank", groups=["ops"])
    browser = Client()
    sign_in(browser, "s-7")
    User.objects.update(is_active=False)
    assert browser.get("/executions/").status_code == 302
    answer = sign_in(Client(), "s-7")
    assert answer.status_code == 403
    assert "account here is closed" in answer.content.decode()
    assert audited()[-1] == ("anonymous", "sso_closed", False)


def test_the_tenant_may_come_from_a_claim_and_never_changes(provider: ProviderProcess, settings: Any) -> None:
    settings.OIDC = configured(provider, tenant="", tenant_claim="org")
    Tenant.objects.create(name="one")
    Tenant.objects.create(name="two")
    provider.person("s-8", preferred_username="grace", org="one")
    sign_in(Client(), "s-8")
    assert User.objects.get().tenant.name == "one"
    provider.person("s-8", preferred_username="grace", org="two")
    assert "belongs to another tenant" in sign_in(Client(), "s-8").content.decode()
    provider.person("s-9", preferred_username="heidi", org="three")
    assert "Nobody says where you belong" in sign_in(Client(), "s-9").content.decode()
    provider.person("s-10", preferred_username="ivan")
    assert sign_in(Client(), "s-10").status_code == 403
    assert User.objects.get().tenant.name == "one"


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:x"])
def test_nobody_is_led_to_another_site(provider: ProviderProcess, wanted: str) -> None:
    provider.person("s-11", preferred_username="judy")
    assert sign_in(Client(), "s-11", wanted).headers["Location"] == "/executions/"


def test_the_sign_in_page_offers_it_only_where_it_is_set_up(provider: ProviderProcess, settings: Any) -> None:
    page = Client().get("/login/?next=/executions/new/").content.decode()
    assert 'href="/login/sso/?next=/executions/new/">Sign in with Example ID</a>' in page
    settings.OIDC = None
    assert "sso" not in Client().get("/login/").content.decode()
    for path in ("/login/sso/", "/login/sso/back/?code=x&state=y", "/login/sso/end/"):
        assert Client().get(path).status_code == 404


def test_signing_out_offers_to_sign_out_at_the_provider_too(provider: ProviderProcess) -> None:
    browser = Client()
    provider.person("s-12", preferred_username="ken")
    sign_in(browser, "s-12")
    answer = browser.post("/logout/", follow=True)
    assert 'href="/login/sso/end/"' in answer.content.decode()
    assert browser.get("/executions/").status_code == 302
    out = browser.get("/login/sso/end/").headers["Location"]
    assert out.startswith(f"{provider.issuer}/oauth2/end_session?client_id=opsconductor&post_logout_redirect_uri=")


def test_a_local_account_signs_in_beside_it(provider: ProviderProcess) -> None:
    User.objects.create_user("local", password="correct horse battery staple")
    browser = Client()
    fields = {"username": "local", "password": "correct horse battery staple"}
    assert browser.post("/login/", fields).status_code == 302
    assert browser.post("/logout/").headers["Location"] == "/login/"
