"""Telling those who may approve, by e-mail, that something waits for them.

Every row of PendingApproval says when its notice is due: it is written with the wait itself, so a submit neither waits
for a mail server nor fails with one, and no crash forgets a notice. A worker takes what is due by moving the time on,
sends, and then says that it was sent: should it die in between, the notice is sent again. At least once, then.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from smtplib import SMTPException

from django.conf import settings
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection

from executions.approval_asks import Ask, asks_of
from executions.models import Execution, PendingApproval
from executions.states import ExecutionStatus
from safety import masking, rbac
from safety.models import User

log = logging.getLogger(__name__)

AT_ONCE = 20  # waits of one round
MOST_TRIES = 8  # the pauses between them double from a minute; what waits is on the page in any case
MOST_NAMED = 10

# Rows that another worker takes in this moment are skipped; one that is taken is due again, later, until it was sent.
TAKE = """
UPDATE executions_pendingapproval
   SET notice_tries = notice_tries + 1,
       notice_due_at = statement_timestamp() + interval '1 minute' * power(2, notice_tries)
 WHERE execution_id IN (
       SELECT p.execution_id FROM executions_pendingapproval p
        WHERE p.notice_due_at <= statement_timestamp()
        ORDER BY p.notice_due_at LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING execution_id
"""
DUE = "SELECT EXISTS (SELECT FROM executions_pendingapproval WHERE notice_due_at <= statement_timestamp())"


@dataclass(slots=True)
class Sent:
    """What became of one notice: to how many it went, and what stood in the way of others."""

    count: int = 0
    error: str = ""


class NoticeSender:
    """Sends in a thread of its own: a mail server that is slow keeps no worker from its work."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def nudge(self) -> None:
        """Begin to send if something is due and nothing is being sent: one small question, no waiting."""
        if not settings.EMAIL_HOST or (self._thread is not None and self._thread.is_alive()):
            return
        with connection.cursor() as cursor:
            cursor.execute(DUE)
            row = cursor.fetchone()
        if row and row[0]:
            self._thread = threading.Thread(target=_send_in_thread, name="notices", daemon=True)
            self._thread.start()


def _send_in_thread() -> None:
    try:
        send_due()
    except Exception:
        log.exception("Notices could not be sent.")
    finally:
        connection.close()


def send_due() -> int:
    """Send what is due; return how many messages went out."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE, [AT_ONCE])
        taken = [execution_id for (execution_id,) in cursor.fetchall()]
    rows = Execution.objects.filter(
        pk__in=taken, status=ExecutionStatus.PENDING_APPROVAL, pending_approval__isnull=False
    ).select_related("actor", "plan", "pending_approval")
    total = 0
    for ask in asks_of(list(rows)):
        sent = _send(ask)
        total += sent.count
        pending = ask.execution.pending_approval
        over = sent.count > 0 or not sent.error or pending.notice_tries >= MOST_TRIES
        # Only of this very wait: it may have been decided meanwhile, and wait before another step by now.
        changes = {"notice_error": sent.error, **({"notice_due_at": None} if over else {})}
        PendingApproval.objects.filter(pk=pending.pk, asked_at=pending.asked_at).update(**changes)
    return total


def recipients_of(ask: Ask) -> list[User]:
    """Return who is to be told: may approve it and see it, has an address, did not ask for it, has not decided."""
    execution = ask.execution
    decided = {approval.by_id for approval in ask.given} if not ask.steps else set()
    users = User.objects.filter(tenant_id=execution.tenant_id, is_active=True).exclude(email="")
    asked = [user for user in users.order_by("pk") if user.pk != execution.actor_id and user.pk not in decided]
    able = {user_id for user_id, _ in rbac.approvers_among([(user.pk, execution.pk) for user in asked])}
    return [
        user
        for user in asked
        if user.pk in able and Execution.objects.visible_to(user).filter(pk=execution.pk).exists()
    ]


def _send(ask: Ask) -> Sent:
    """Send one message to each, so that nobody reads who else was told, and one bad address harms no other."""
    sent = Sent()
    people = recipients_of(ask)
    if not people:
        return sent
    subject, body = _subject(ask), _body(ask)
    server: BaseEmailBackend = mail.get_connection()
    try:
        server.open()
        for user in people:
            message = mail.EmailMessage(subject, body, settings.DEFAULT_FROM_EMAIL, [user.email], connection=server)
            try:
                sent.count += message.send()
            except (SMTPException, ValueError) as error:
                sent.error = f"{type(error).__name__}: {masking.mask_text(str(error))}"[:1000]
    except (SMTPException, OSError) as error:
        sent.error = f"{type(error).__name__}: {masking.mask_text(str(error))}"[:1000]
        log.warning("The mail server %s:%s does not take notices: %s", settings.EMAIL_HOST, settings.EMAIL_PORT, error)
    finally:
        server.close()
    return sent


def _subject(ask: Ask) -> str:
    what = f"step {', '.join(ask.open_steps)} of " if ask.steps else ""
    text = masking.mask_text(f"Approval wanted: {what}#{ask.execution.pk} {ask.execution.title}")
    return " ".join(text.split())[:200]  # a line end in a header would begin another header


def _body(ask: Ask) -> str:
    execution = ask.execution
    until = execution.approval_expires_at
    lines = [
        f"{execution.actor.username} asks for approval of #{execution.pk} {execution.title}.",
        f"Why: {execution.reason or 'no reason given'}",
        "",
        f"What: {_named(ask.open_steps, 'step') if ask.steps else 'the whole plan'}",
        f"On: {_named([str(machine['name']) for machine in ask.machines]) or 'no machine'}",
        f"Risk: level {execution.approval_level}; {', '.join(ask.reasons)}",
        f"Approvals: {len(ask.given)} of {ask.needed}",
        f"Decide until: {until:%Y-%m-%d %H:%M:%S} UTC" if until else "",
        "",
        f"{settings.PUBLIC_URL}/approvals/" if settings.PUBLIC_URL else "Decide on the page Approvals.",
    ]
    return masking.mask_text("\n".join(lines))


def _named(names: Sequence[str], noun: str = "") -> str:
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    return f"{noun} {shown}".strip()
