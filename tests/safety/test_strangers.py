"""Who is not signed in cannot fill the audit: of what they are refused there is one record in a while, with a count."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client

from safety import audit
from safety.models import AuditRecord, StrangerRefusals, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


def forge(address: str = "192.0.2.1", path: str = "/login/", client: Client | None = None) -> None:
    """Send a form without its token."""
    client = client or Client(enforce_csrf_checks=True)
    assert client.post(path, {"username": "x"}, REMOTE_ADDR=address).status_code == 403


def refuse(code: str = "forbidden", address: str = "192.0.2.1") -> None:
    with audit.origin("page", address):
        audit.record_strangers_refusal("access.use", code=code, reason="No.")


def let_windows_end(ago: timedelta = timedelta()) -> None:
    StrangerRefusals.objects.update(until=Now() - ago)


def test_of_any_number_of_forged_forms_one_is_recorded_and_the_next_record_has_the_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "safety.audit.strangers")
    for number in range(20):
        forge(path=f"/login/?{number}")
    kept = AuditRecord.objects.get()
    assert (kept.actor, kept.action, kept.code, kept.address, kept.data) == (
        "anonymous", "access.use", "forbidden", "192.0.2.1", {},
    )  # fmt: skip
    told = [line for line in caplog.messages if "not in the audit" in line]
    assert len(told) == 19
    assert "access.use: forbidden, from 192.0.2.1" in told[0]
    for left_out in ({"left_out": 19}, {}):
        let_windows_end()
        forge()
        assert AuditRecord.objects.latest("pk").data == left_out
    assert AuditRecord.objects.count() == 3


def test_the_window_is_a_quarter_of_an_hour_and_does_not_move_with_what_comes() -> None:
    refuse()
    end = StrangerRefusals.objects.get().until
    for _ in range(3):
        refuse()
    assert StrangerRefusals.objects.get().until == end
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s - clock_timestamp() BETWEEN interval '14 minutes' AND interval '15 minutes'", [end])
        assert cursor.fetchone() == (True,)


def test_each_network_and_each_code_has_its_own_record() -> None:
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"):
        for code in ("forbidden", "csrf_failed"):
            refuse(code, address)
            refuse(code, address)
    assert AuditRecord.objects.count() == 8  # an IPv6 neighbour is the same network


def test_every_refusal_of_somebody_who_is_signed_in_is_recorded(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice, backend="safety.backends.PasswordBackend")
    for _ in range(3):
        forge(path="/account/password/", client=client)
    assert list(AuditRecord.objects.filter(allowed=False).values_list("actor", flat=True)) == ["user:alice"] * 3


@pytest.mark.django_db(transaction=True)
def test_of_refusals_at_the_same_moment_one_is_recorded_and_all_others_are_counted() -> None:
    barrier = threading.Barrier(8)

    def work(_: int) -> None:
        try:
            barrier.wait(timeout=20)
            refuse()
        finally:
            connection.close()

    for round_number in range(1, 6):
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))
        assert AuditRecord.objects.count() == round_number
        assert StrangerRefusals.objects.get().left_out == 7
        let_windows_end()
    assert set(AuditRecord.objects.order_by("pk").values_list("data__left_out", flat=True)) == {None, 7}


def test_a_record_that_could_not_be_written_is_written_the_next_time(caplog: pytest.LogCaptureFixture) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE safety_auditrecord ADD CONSTRAINT nothing_more CHECK (false) NOT VALID")
        forge()
        assert not StrangerRefusals.objects.exists()
        assert "could not be recorded" in caplog.text
        cursor.execute("ALTER TABLE safety_auditrecord DROP CONSTRAINT nothing_more")
    forge()
    assert AuditRecord.objects.count() == 1


def test_rows_of_yesterday_are_taken_away_by_those_who_make_new_ones() -> None:
    for number in range(30):
        refuse(address=f"198.51.100.{number}")
    let_windows_end(timedelta(hours=23))
    refuse(address="192.0.2.1")
    assert StrangerRefusals.objects.count() == 31
    let_windows_end(timedelta(hours=25))
    for number in range(5):
        refuse(address=f"203.0.113.{number}")
    assert StrangerRefusals.objects.count() == 5
