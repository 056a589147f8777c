"""Guessing passwords and tokens is slow, for everybody at once, and locks nobody out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth import authenticate
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client, override_settings

from safety import guessing
from safety.accounts import issue_token
from safety.models import AuditRecord, FailedTries, User

PASSWORD = "correct horse battery staple"


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", password=PASSWORD)


def attempt(password: str, name: str = "alice", address: str = "192.0.2.1", client: Client | None = None) -> int:
    """Try to sign in from this address; return the status: 302 in, 200 wrong, 429 wait."""
    fields = {"username": name, "password": password}
    return (client or Client()).post("/login/", fields, REMOTE_ADDR=address).status_code


def let_waits_end() -> None:
    FailedTries.objects.update(wait_until=Now())


def test_after_five_wrong_passwords_even_the_right_one_must_wait_and_is_told_how_long(alice: User) -> None:
    assert [attempt("wrong") for _ in range(5)] == [200] * 5
    answer = Client().post("/login/", {"username": "alice", "password": PASSWORD}, REMOTE_ADDR="192.0.2.1")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 2
    assert "too many wrong tries. Try again in" in answer.content.decode()
    let_waits_end()
    assert attempt(PASSWORD) == 302


def test_the_wait_doubles_with_each_wrong_password_up_to_a_quarter_of_an_hour(alice: User) -> None:
    waits = []
    for _ in range(16):
        let_waits_end()
        assert attempt("wrong") == 200
        row = FailedTries.objects.filter(kind="account at address").values_list(F("wait_until") - F("last_at"))
        waits.append(round(row.get()[0].total_seconds()))
    assert waits == [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


def test_tries_while_waiting_do_not_make_the_wait_longer(alice: User) -> None:
    for _ in range(5):
        attempt("wrong")
    before = FailedTries.objects.order_by("digest").values_list("digest", "failures", "wait_until")
    known = list(before)
    assert [attempt("wrong") for _ in range(5)] == [429] * 5
    assert list(before.all()) == known


def test_being_wrong_elsewhere_does_not_keep_the_owner_out(alice: User) -> None:
    assert attempt(PASSWORD, address="192.0.2.1") == 302
    for number in range(60):
        attempt("wrong", address=f"198.51.100.{number}")
    assert attempt(PASSWORD, address="203.0.113.9") == 429  # never seen there: waits, for half a minute at most
    wait = FailedTries.objects.filter(kind="account").values_list(F("wait_until") - Now()).get()[0]
    assert wait <= timedelta(seconds=30)
    assert attempt(PASSWORD, address="192.0.2.1") == 302  # signed in from there before: waits for nobody


def test_an_address_that_tries_many_accounts_must_wait(alice: User) -> None:
    tried = [attempt("wrong", name=f"user{number}") for number in range(55)]
    assert tried[:50] == [200] * 50
    assert tried[50:] == [429] * 5
    assert attempt(PASSWORD, address="192.0.2.2") == 302


def test_a_right_password_is_no_failure(alice: User) -> None:
    for _ in range(30):
        assert attempt(PASSWORD) == 302
    for _ in range(4):
        attempt("wrong")
    assert attempt(PASSWORD) == 302
    assert set(FailedTries.objects.filter(kind="account at address").values_list("failures")) == {(0,)}


@override_settings(PASSWORD_HASHERS=settings.PASSWORD_HASHERS)
def test_nothing_tells_an_account_that_is_there_from_one_that_is_not(alice: User) -> None:
    User.objects.create_user("gone", password=PASSWORD, is_active=False)
    User.objects.create_user("sso")
    pages = set()
    for name in ("alice", "nobody", "gone", "sso"):
        answers = [
            Client().post("/login/", {"username": name, "password": "wrong"}, REMOTE_ADDR="192.0.2.7") for _ in range(6)
        ]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429], name
        pages.add(answers[0].content.decode().split('role="alert"')[1].split("</p>")[0])
    assert len(pages) == 1


@pytest.mark.django_db(transaction=True)
def test_fifty_guesses_at_once_are_not_fifty_tries() -> None:
    barrier = threading.Barrier(10)

    def guess(number: int) -> bool:
        try:
            if number < 10:
                barrier.wait(timeout=20)
            guessing.begin_try("alice", "192.0.2.1")
        except guessing.MustWait:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(10) as threads:
        checked = sum(threads.map(guess, range(50)))
    assert checked == 5


def test_an_ipv6_neighbour_is_the_same_address(alice: User) -> None:
    for number in range(5):
        attempt("wrong", address=f"2001:db8::{number}")
    assert attempt("wrong", address="2001:db8::ffff") == 429
    assert attempt("wrong", address="2001:db8:0:1::1") == 200


def test_an_hour_of_quiet_forgets_and_takes_old_rows_away(alice: User) -> None:
    for _ in range(5):
        attempt("wrong")
    attempt("wrong", name="typed-my-password-here", address="192.0.2.99")
    FailedTries.objects.update(last_at=Now() - timedelta(hours=1, seconds=1), wait_until=Now())
    assert [attempt("wrong") for _ in range(5)] == [200] * 5
    assert FailedTries.objects.count() == 3


def test_who_is_refused_is_in_the_audit_but_never_a_name_that_is_none(alice: User) -> None:
    for _ in range(9):  # of the tries that must wait, and are not checked, the first is
        attempt("wrong")
    attempt("wrong", name="hunter2-typed-into-the-wrong-field", address="192.0.2.5")
    found = AuditRecord.objects.filter(action="session.sign_in").order_by("pk")
    assert [(row.code, row.object_name, row.allowed) for row in found] == [
        *[("wrong_password", "alice", False)] * 5,
        ("must_wait", "alice", False),
        ("wrong_password", "", False),
    ]
    assert "hunter2" not in repr(list(found.values()))
    assert attempt(PASSWORD, address="192.0.2.8") == 302
    last = AuditRecord.objects.filter(action="session.sign_in").latest("pk")
    assert (last.actor, last.allowed, last.data) == ("user:alice", True, {"method": "password"})


def test_checks_that_no_request_asks_for_are_not_slowed_down(alice: User) -> None:
    for _ in range(10):
        assert authenticate(username="alice", password="wrong") is None
    assert authenticate(username="alice", password=PASSWORD) == alice
    assert not FailedTries.objects.exists()


def test_bad_tokens_are_slowed_by_address_and_cost_good_ones_nothing(alice: User) -> None:
    good = {"Authorization": f"Bearer {issue_token(alice)}"}

    def ask(token: str) -> int:
        return Client().get("/api/v1/executions/", headers={"Authorization": f"Bearer {token}"}).status_code

    assert [ask(f"oc_{number}") for number in range(31)] == [401] * 30 + [429]
    answer = Client().get("/api/v1/executions/", headers={"Authorization": "Bearer oc_wrong"})
    assert answer.json()["code"] == "throttled"
    assert int(answer.headers["Retry-After"]) >= 1
    rows = list(FailedTries.objects.values())
    assert Client().get("/api/v1/executions/", headers=good).status_code == 200
    assert list(FailedTries.objects.values()) == rows
