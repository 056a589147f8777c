"""The rounds in which notices are sent: what is bad, or slow, in one of them; the mail server is one in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.core.mail.backends.locmem import EmailBackend
from django.db.models import F
from django.utils import timezone
from pytest_django import Settings

from executions.models import ExecutionPlan, PendingApproval
from executions.services.notices import MOST_TRIES, send_due
from safety.models import User
from tests.executions.services.requests import ask_new, make_asset, make_user, waiting_on_wave

pytestmark = [pytest.mark.django_db]

MESSAGE_TAKES = timedelta(seconds=40)


class SlowServer(EmailBackend):
    """Takes its time for each message of the first worker; another one comes by after each of them."""

    busy = False

    def send_messages(self, messages: Sequence[EmailMessage]) -> int:
        sent = super().send_messages(messages)
        if not SlowServer.busy:
            SlowServer.busy = True
            PendingApproval.objects.update(notice_due_at=F("notice_due_at") - MESSAGE_TAKES)
            send_due()
            SlowServer.busy = False
        return sent


@pytest.fixture
def waiting(alice: User) -> list[int]:
    """Three executions that wait, each for either of two people."""
    make_asset("prod1")
    for name in ("anna", "ben"):
        make_user(name, "approver", email=f"{name}@example.com")
    ids = [ask_new(alice, "prod1") for _ in range(3)]
    for minutes, one in zip((3, 2, 1), ids, strict=True):
        PendingApproval.objects.filter(pk=one).update(notice_due_at=timezone.now() - timedelta(minutes=minutes))
    return ids


def test_a_notice_that_cannot_be_written_stops_none_behind_it_and_is_given_up_in_the_end(waiting: list[int]) -> None:
    bad = waiting[0]
    ExecutionPlan.objects.filter(pk=bad).update(document={})
    assert send_due() == 4
    row = PendingApproval.objects.get(pk=bad)
    assert (row.notice_error, row.notice_tries) == ("KeyError: 'steps'", 1)
    assert row.notice_due_at is not None
    assert row.notice_due_at > timezone.now()
    assert set(PendingApproval.objects.exclude(pk=bad).values_list("notice_due_at", "notice_error")) == {(None, "")}
    for _ in range(MOST_TRIES):
        PendingApproval.objects.filter(pk=bad, notice_due_at__isnull=False).update(notice_due_at=timezone.now())
        assert send_due() == 0
    given_up = PendingApproval.objects.get(pk=bad)
    assert (given_up.notice_due_at, given_up.notice_tries) == (None, MOST_TRIES)


def test_the_notice_of_a_wave_says_what_became_of_those_before(alice: User) -> None:
    make_user("anna", "approver", email="anna@example.com")
    hosts = [make_asset(f"web-{number}").name for number in range(6)]
    one = waiting_on_wave(alice, make_user("ben", "approver"), hosts, failed=1)
    PendingApproval.objects.update(notice_due_at=timezone.now())
    assert send_due() == 1
    (sent,) = mail.outbox
    assert sent.subject.startswith(f"Approval wanted: wave 2 of step 'roll-out' of #{one}")
    assert "What: wave 2 of step 'roll-out'\nBefore: 1 of 2 targets of step 'roll-out' succeeded, 1 failed" in sent.body
    assert "On: web-2, web-3\n" in sent.body


def test_a_slow_round_is_not_sent_twice(waiting: list[int], settings: Settings) -> None:
    """All messages together take longer than the pause before the next try; each alone does not."""
    settings.EMAIL_BACKEND = f"{__name__}.SlowServer"
    send_due()
    told = sorted((message.to[0], message.subject.split()[2]) for message in mail.outbox)
    assert told == [(f"{name}@example.com", f"#{one}") for name in ("anna", "ben") for one in waiting]
