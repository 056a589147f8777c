"""Sessions end when they should, on the server."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher, identify_hasher
from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.backends.base import UpdateError
from django.core.exceptions import ValidationError
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client, override_settings

from opsconductor import settings as project
from safety import sessions
from safety.models import AuditRecord, Session, User

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery staple"
PAGE = "/executions/"


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", password=PASSWORD)


@pytest.fixture
def browser(alice: User) -> Client:
    return sign_in()


def sign_in() -> Client:
    client = Client(REMOTE_ADDR="192.0.2.4", headers={"User-Agent": "Firefox"})
    assert client.post("/login/", {"username": "alice", "password": PASSWORD}).status_code == 302
    return client


def key_of(client: Client) -> str:
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def is_in(client: Client) -> bool:
    return client.get(PAGE).status_code == 200


def make_time_pass(**time: float) -> None:
    passed = timedelta(**time)
    Session.objects.update(
        started_at=F("started_at") - passed,
        last_seen_at=F("last_seen_at") - passed,
        expire_date=F("expire_date") - passed,
    )


def test_a_session_says_whose_it_is_how_and_from_where(browser: Client, alice: User) -> None:
    row = Session.objects.get()
    assert (row.user, row.method, row.address, row.agent) == (alice, "password", "192.0.2.4", "Firefox")
    assert row.auth_hash == alice.get_session_auth_hash()


def test_signing_in_gives_a_new_session_id(alice: User) -> None:
    planted = Client()
    session = planted.session
    session["planted"] = True
    session.save()
    before = session.session_key
    planted.cookies[settings.SESSION_COOKIE_NAME] = before or ""
    planted.post("/login/", {"username": "alice", "password": PASSWORD})
    assert key_of(planted) != before
    assert not Session.objects.filter(session_key=before).exists()


def test_a_session_that_nobody_uses_ends(browser: Client) -> None:
    make_time_pass(minutes=119)
    assert is_in(browser)
    make_time_pass(minutes=119)
    assert is_in(browser)
    make_time_pass(minutes=121)
    assert not is_in(browser)


def test_a_session_ends_after_its_longest_time_though_it_is_used(browser: Client) -> None:
    for _ in range(11):
        make_time_pass(hours=1)
        assert is_in(browser)
    make_time_pass(minutes=59)
    assert is_in(browser)
    make_time_pass(minutes=2)
    assert not is_in(browser)


def test_a_page_that_refreshes_itself_keeps_no_session_alive(browser: Client) -> None:
    make_time_pass(minutes=119)
    assert browser.get(PAGE, headers={"Sec-Fetch-Dest": "empty"}).status_code == 200
    make_time_pass(minutes=2)
    assert not is_in(browser)


def test_use_is_noted_at_most_once_a_minute(browser: Client, django_assert_num_queries: Any) -> None:
    browser.get(PAGE)
    first = Session.objects.get().last_seen_at
    browser.get(PAGE)
    assert Session.objects.get().last_seen_at == first
    make_time_pass(seconds=61)
    browser.get(PAGE)
    assert Session.objects.get().last_seen_at > first


def test_the_limits_are_kept_by_the_clock_of_the_database(browser: Client) -> None:
    row = Session.objects.values_list(F("expire_date") - F("started_at"), F("started_at") - Now()).get()
    assert abs(row[0] - settings.SESSION_IDLE) < timedelta(seconds=1)
    assert abs(row[1]) < timedelta(seconds=5)


def test_a_new_password_ends_every_session_that_the_old_one_began(browser: Client, alice: User) -> None:
    assert sessions.signed_in(key_of(browser), alice.pk) == alice
    alice.set_password("another password of hers")
    alice.save()
    assert sessions.signed_in(key_of(browser), alice.pk) is None
    assert not is_in(browser)


def test_an_inactive_user_is_out_at_once(browser: Client, alice: User) -> None:
    User.objects.update(is_active=False)
    assert sessions.signed_in(key_of(browser), alice.pk) is None
    assert not is_in(browser)


def test_sessions_are_ended_all_but_one_or_one_alone(browser: Client, alice: User) -> None:
    second, third = sign_in(), sign_in()
    assert sessions.end_sessions(alice, only=key_of(third)) == 1
    assert sessions.end_sessions(alice, keep=key_of(browser)) == 1
    assert (is_in(browser), is_in(second), is_in(third)) == (True, False, False)
    assert sessions.end_sessions(alice) == 1
    assert not is_in(browser)


def test_a_request_that_is_under_way_does_not_bring_an_ended_session_back(browser: Client, alice: User) -> None:
    store = sessions.SessionStore(key_of(browser))
    store["something"] = 1
    sessions.end_sessions(alice)
    with pytest.raises(UpdateError):
        store.save()
    assert not Session.objects.exists()


def test_signing_out_ends_the_session_and_is_audited(browser: Client) -> None:
    assert browser.get("/logout/").status_code == 405
    assert browser.post("/logout/").headers["Location"] == "/login/"
    assert not Session.objects.exists()
    assert AuditRecord.objects.latest("pk").action == "session.sign_out"


def test_the_cookie_is_for_the_server_alone_and_lasts_no_longer_than_the_session(browser: Client) -> None:
    cookie = browser.cookies[settings.SESSION_COOKIE_NAME]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["max-age"] == settings.SESSION_MAX.total_seconds()


def test_who_is_led_from_the_admin_to_the_sign_in_and_may_not_go_there_is_told(browser: Client) -> None:
    answer = browser.get("/admin/", follow=True)
    assert [where for where, _ in answer.redirect_chain] == ["/admin/login/?next=/admin/", "/executions/"]
    assert "for operators and administrators" in answer.content.decode()


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "/\\evil.example"]
)
def test_nobody_is_led_to_another_site_after_signing_in(alice: User, address: str) -> None:
    fields = {"username": "alice", "password": PASSWORD, "next": address}
    assert Client().post("/login/", fields).headers["Location"] == "/executions/"


@pytest.mark.parametrize("password", ["short", "password1234", "123456789012", "alice.miller.2"])
def test_a_weak_password_is_refused(password: str) -> None:
    with pytest.raises(ValidationError):
        validate_password(password, User(username="alice.miller"))


@override_settings(PASSWORD_HASHERS=project.PASSWORD_HASHERS)
def test_passwords_are_hashed_with_argon2_and_older_hashes_replaced_when_used(db: None) -> None:
    user = User.objects.create_user("bob", password=PASSWORD)
    assert identify_hasher(user.password).algorithm == "argon2"
    User.objects.update(password=PBKDF2PasswordHasher().encode(PASSWORD, "salt", 1000))
    assert Client().post("/login/", {"username": "bob", "password": PASSWORD}).status_code == 302
    assert User.objects.get().password.startswith("argon2$argon2id$")
