"""One's own account: sessions, password, tokens."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.test import Client

from safety import accounts
from safety.models import ApiToken, AuditRecord, FailedTries, Session, User
from safety.scopes import ALL_SCOPES

pytestmark = pytest.mark.django_db

OLD, NEW = "correct horse battery staple", "a staple for the battery horse"


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", password=OLD)


@pytest.fixture
def browser(alice: User) -> Client:
    return sign_in()


def sign_in(password: str = OLD, name: str = "alice") -> Client:
    client = Client(REMOTE_ADDR="192.0.2.4")
    assert client.post("/login/", {"username": name, "password": password}).status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


def test_the_page_says_who_one_is_and_where_one_is_signed_in_and_leaks_no_cookie(browser: Client) -> None:
    other = sign_in()
    page = browser.get("/account/").content.decode()
    assert "alice" in page
    assert "none: you see what you were given a right on" in page
    assert page.count("192.0.2.4</td>") == 2
    for client in (browser, other):
        assert client.cookies[settings.SESSION_COOKIE_NAME].value not in page
    assert 'href="/account/"' in browser.get("/executions/").content.decode()


def test_one_session_can_be_ended_or_all_others_or_all(browser: Client) -> None:
    second, third = sign_in(), sign_in()
    name = re.findall(r'name="which" value="([0-9a-f]{20})"', browser.get("/account/").content.decode())
    assert len(name) == 2
    browser.post("/account/sessions/end/", {"which": name[0]})
    assert (is_in(browser), is_in(second), is_in(third)) == (True, True, False)
    browser.post("/account/sessions/end/", {"which": "others"})
    assert (is_in(browser), is_in(second)) == (True, False)
    fourth = sign_in()
    assert browser.post("/account/sessions/end/", {"which": "all"}).headers["Location"] == "/login/"
    assert (is_in(browser), is_in(fourth)) == (False, False)
    ended = AuditRecord.objects.filter(action="session.end").order_by("pk").values_list("actor", "data")
    assert list(ended) == [
        ("user:alice", {"sessions": 1}),
        ("user:alice", {"sessions": 1}),
        ("user:alice", {"sessions": 2}),
    ]


def test_nobody_ends_a_session_of_somebody_else(browser: Client) -> None:
    User.objects.create_user("mallory", password=OLD)
    mallory = sign_in(name="mallory")
    (mine,) = re.findall(r'value="([0-9a-f]{20})"', sign_in().get("/account/").content.decode())
    mallory.post("/account/sessions/end/", {"which": mine})
    assert is_in(browser)
    mallory.post("/account/sessions/end/", {"which": "all"})
    assert is_in(browser)
    assert not is_in(mallory)


def test_a_new_password_keeps_this_session_and_ends_the_others(browser: Client, alice: User) -> None:
    other = sign_in()
    before = browser.cookies[settings.SESSION_COOKIE_NAME].value
    fields = {"old_password": OLD, "new_password1": NEW, "new_password2": NEW}
    assert browser.post("/account/password/", fields).headers["Location"] == "/account/"
    assert (is_in(browser), is_in(other)) == (True, False)
    assert browser.cookies[settings.SESSION_COOKIE_NAME].value != before
    assert Session.objects.filter(user=alice).count() == 1
    assert is_in(sign_in(NEW))
    assert AuditRecord.objects.filter(action="user.set_password", actor="user:alice").count() == 1


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_admin_has_no_other_way_to_a_new_password(alice: User, method: str) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    browser = sign_in()
    fields = {"old_password": OLD, "new_password1": NEW, "new_password2": NEW}
    answer = getattr(browser, method)("/admin/password_change/", fields)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/account/password/")
    alice.refresh_from_db()
    assert alice.check_password(OLD)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"old_password": "wrong"}, "Your old password was entered incorrectly"),
        ({"new_password2": "something else altogether"}, "didn’t match"),
        ({"new_password1": "short", "new_password2": "short"}, "at least 12 characters"),
        ({"new_password1": "493857203948", "new_password2": "493857203948"}, "entirely numeric"),
    ],
)
def test_a_password_that_cannot_be_is_refused_and_nothing_changes(
    browser: Client, fields: dict[str, str], says: str
) -> None:
    given = {"old_password": OLD, "new_password1": NEW, "new_password2": NEW, **fields}
    page = browser.post("/account/password/", given).content.decode()
    assert says in page
    assert not [value for value in fields.values() if f'value="{value}"' in page]
    assert is_in(sign_in(OLD))


def test_whoever_finds_an_open_browser_cannot_guess_the_password_quickly(browser: Client) -> None:
    fields = {"old_password": "wrong", "new_password1": NEW, "new_password2": NEW}
    pages = [browser.post("/account/password/", fields).content.decode() for _ in range(6)]
    assert "too many wrong tries" in pages[5]
    assert not any("too many wrong tries" in page for page in pages[:5])
    assert FailedTries.objects.get(kind="account at address").failures == 5


def test_who_has_no_password_here_is_offered_none(alice: User) -> None:
    alice.set_unusable_password()
    alice.save()
    client = Client()
    client.force_login(alice, backend="safety.backends.SsoBackend")
    assert "/account/password/" not in client.get("/account/").content.decode()
    assert client.get("/account/password/").status_code == 404


def test_a_token_is_made_shown_once_and_revoked(browser: Client, alice: User) -> None:
    made = browser.post("/account/tokens/", {"label": "ci", "scopes": ["read", "submit"], "days": "30"})
    (value,) = re.findall(r"oc_[\w-]{43}", made.content.decode())
    bearer = accounts.bearer_of(value)
    assert bearer is not None
    assert bearer.user == alice
    assert bearer.scopes == {"read", "submit"}
    assert value not in browser.get("/account/tokens/").content.decode()
    token = ApiToken.objects.get()
    assert token.expires_at is not None
    assert (token.label, (token.expires_at - token.created_at).days) == ("ci", 30)
    assert browser.post(f"/account/tokens/{token.pk}/revoke/").status_code == 302
    assert accounts.bearer_of(value) is None
    assert AuditRecord.objects.filter(actor="user:alice", action__startswith="token.").count() == 2


@pytest.mark.parametrize(
    "fields",
    [{"scopes": []}, {"scopes": ["everything"]}, {"days": "366"}, {"days": "0"}, {"days": "x"}, {"label": ""}],
)
def test_a_token_that_cannot_be_made_is_refused_and_what_was_typed_stays(
    browser: Client, fields: dict[str, object]
) -> None:
    given = {"label": "for the pipeline", "scopes": ["approve"], "days": "30", **fields}
    answer = browser.post("/account/tokens/", given)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.content.decode()
    assert str(given["label"]) in answer.content.decode()
    assert not ApiToken.objects.exists()


def test_a_token_of_somebody_else_cannot_be_seen_or_revoked(browser: Client) -> None:
    value = accounts.issue_token(User.objects.create_user("bob"), "bob's own")
    assert "bob" not in browser.get("/account/tokens/").content.decode()
    assert browser.post(f"/account/tokens/{ApiToken.objects.get().pk}/revoke/").status_code == 404
    assert accounts.bearer_of(value) is not None


def test_every_scope_has_its_meaning_on_the_page(browser: Client) -> None:
    page = browser.get("/account/tokens/").content.decode()
    assert all(f"<b>{scope}</b>: " in page for scope in ALL_SCOPES)


@pytest.mark.parametrize("path", ["/account/", "/account/password/", "/account/tokens/"])
def test_nobody_sees_these_pages_without_signing_in(path: str) -> None:
    assert Client().get(path).headers["Location"] == f"/login/?next={path}"
