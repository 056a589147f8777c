"""E-mails to those who may approve, with a real mail server and a real worker."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from email import message_from_bytes, policy
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.db import connection

from executions.approval_asks import asks_of
from executions.models import Asset, Execution, PendingApproval
from executions.services import approve
from executions.services.notices import recipients_of
from safety.models import User
from tests.executions.engine.conftest import Workers, ended, shell
from tests.executions.services.requests import make_user
from tests.installations import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


class Mailbox:
    """A mail server that keeps what it is given: (recipient, subject, text)."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str, str]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=policy.default)
        body = message.get_body()
        assert body is not None
        self.mails.append((envelope.rcpt_tos[0], str(message["subject"]), body.get_content()))
        return "250 OK"


@pytest.fixture
def port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_those_who_may_approve_are_told_by_e_mail_and_a_dead_server_delays_nothing(
    workers: Workers, begin: Begin, requester: User, port: int
) -> None:
    Asset.objects.filter(name="localhost").update(environment="production")
    User.objects.filter(pk=requester.pk).update(email="requester@example.com")
    anna = make_user("anna", "approver", email="anna@example.com")
    make_user("vera", "viewer", email="vera@example.com")
    make_user("gone", "approver", email="gone@example.com", is_active=False)
    make_user("mute", "approver")
    make_user("eve", "approver", email="eve@example.com", tenant="other")
    one = begin(shell("a", "true"), reason="ticket 1182")
    workers.start(
        WORKER_PROCESSES="1", EMAIL_HOST="127.0.0.1", EMAIL_PORT=str(port), PUBLIC_URL="https://ops.example.com/"
    )
    # Nobody listens there: it is noted, it is due again, and what needs no mail goes on.
    wait_until(lambda: PendingApproval.objects.get(pk=one).notice_error != "", what="the note that nobody listens")
    assert PendingApproval.objects.get(pk=one).notice_due_at is not None
    Asset.objects.create(tenant=requester.tenant, name="dev", connection="local", environment="development")
    assert ended(begin(shell("b", "true", targets=["dev"]))).status == "succeeded"

    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    try:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE executions_pendingapproval SET notice_due_at = now()")
        wait_until(lambda: PendingApproval.objects.get(pk=one).notice_due_at is None, what="the e-mail")
    finally:
        server.stop()
    execution = Execution.objects.get(pk=one)
    ((recipient, subject, text),) = box.mails
    assert (recipient, subject) == ("anna@example.com", f"Approval wanted: #{one} {execution.title}")
    for said in (
        "ticket 1182",
        "On: localhost",
        "level 2; production, 1 changing step",
        "https://ops.example.com/approvals/",
    ):
        assert said in text, said
    assert approve(one, by=anna) == "queued"
    assert ended(one).status == "succeeded"


def test_who_has_approved_is_not_told_again_but_is_of_a_step(begin: Begin, requester: User) -> None:
    Asset.objects.filter(name="localhost").update(environment="production", criticality="critical")
    people = [make_user(name, "approver", email=f"{name}@example.com") for name in ("anna", "ben")]
    one = begin(shell("a", "true", requires_approval=True))

    def told() -> list[str]:
        rows = Execution.objects.filter(pk=one).select_related("actor", "plan", "pending_approval")
        return [user.username for user in recipients_of(asks_of(list(rows))[0])]

    assert told() == ["anna", "ben"]
    approve(one, by=people[0])
    assert told() == ["ben"]
    PendingApproval.objects.filter(pk=one).update(steps=["a"])
    assert told() == ["anna", "ben"]
