"""Telling those who may approve, by e-mail, that something waits for them.

Every row of PendingApproval says when its notice is due: it is written with the wait itself, so a submit neither waits
for a mail server nor fails with one, and no crash forgets a notice. A worker takes what is due, one after the other, by
moving the time on, sends, and then says that it was sent: should it die in between, the notice is sent again. At least
once, then; and while it lives once, because it moves the time on again before each message.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from smtplib import SMTPException

from django.conf import settings
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import InterfaceError, OperationalError, connection
from django.db.models import F, QuerySet
from django.db.models.functions import Greatest, Now

from executions.approval_asks import Ask, asks_of
from executions.approval_points import named
from executions.gate_views import GateView
from executions.models import Execution, PendingApproval
from executions.states import ExecutionStatus
from safety import masking, rbac
from safety.models import User

log = logging.getLogger(__name__)

AT_ONCE = 20  # waits of one round
MOST_TRIES = 8  # the pauses between them grow from two minutes to two hours; what waits is on the page in any case
MOST_NAMED = 10

# One that another worker takes in this moment is skipped; one that is taken is due again, later, until it was sent.
TAKE = """
UPDATE executions_pendingapproval
   SET notice_tries = notice_tries + 1,
       notice_due_at = statement_timestamp() + interval '1 minute' * power(2, notice_tries)
 WHERE execution_id = (
       SELECT p.execution_id FROM executions_pendingapproval p
        WHERE p.notice_due_at <= statement_timestamp()
        ORDER BY p.notice_due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING execution_id, asked_at, notice_tries
"""
# Longer than to connect, or one message, takes at a server that answers each word only just before EMAIL_TIMEOUT.
HOLD = timedelta(minutes=2)
DUE = "SELECT EXISTS (SELECT FROM executions_pendingapproval WHERE notice_due_at <= statement_timestamp())"


@dataclass(slots=True)
class Sent:
    """What became of one notice: to how many it went, and what stood in the way of others."""

    count: int = 0
    error: str = ""

    def note(self, error: Exception) -> None:
        self.error = f"{type(error).__name__}: {masking.mask_text(str(error))}"[:1000]


@dataclass(frozen=True, slots=True)
class Taken:
    """One notice that is this worker's to send, until it is due again."""

    execution_id: int
    asked_at: datetime
    tries: int

    @property
    def row(self) -> QuerySet[PendingApproval]:
        """Of this very wait and try: it may have been decided meanwhile, and wait before another step by now."""
        return PendingApproval.objects.filter(pk=self.execution_id, asked_at=self.asked_at, notice_tries=self.tries)

    def hold(self) -> bool:
        """Keep others from it for one more message; return whether it is still to be sent, and by us."""
        return self.row.update(notice_due_at=Greatest(F("notice_due_at"), Now() + HOLD)) == 1


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
    total = 0
    for _ in range(AT_ONCE):
        taken = _take()
        if taken is None:
            break
        total += _send_taken(taken)
    return total


def _take() -> Taken | None:
    with connection.cursor() as cursor:
        cursor.execute(TAKE)
        row = cursor.fetchone()
    return Taken(*row) if row else None


def _send_taken(taken: Taken) -> int:
    """Send one notice and write what became of it; return how many messages went out.

    A fault in it is written like one of the mail server, and counts as a try: it must not stop those behind it.
    """
    rows = Execution.objects.filter(
        pk=taken.execution_id, status=ExecutionStatus.PENDING_APPROVAL, pending_approval__isnull=False
    ).select_related("actor", "plan", "pending_approval")
    sent = Sent()
    try:
        for ask in asks_of(list(rows), with_gates=True):
            _send(ask, taken, sent)
    except (OperationalError, InterfaceError):
        raise  # the database's: it is due again by itself
    except Exception as error:
        log.exception("The notice of execution %s could not be sent.", taken.execution_id)
        sent.note(error)
    over = sent.count > 0 or not sent.error or taken.tries >= MOST_TRIES
    taken.row.update(notice_error=sent.error, **({"notice_due_at": None} if over else {}))
    return sent.count


def recipients_of(ask: Ask) -> list[User]:
    """Return who is to be told: may approve it and see it, has an address, did not ask for it, has not decided."""
    execution = ask.execution
    decided = {approval.by_id for approval in ask.given} if not ask.points else set()
    users = User.objects.filter(tenant_id=execution.tenant_id, is_active=True).exclude(email="")
    asked = [user for user in users.order_by("pk") if user.pk != execution.actor_id and user.pk not in decided]
    able = {user_id for user_id, _ in rbac.approvers_among([(user.pk, execution.pk) for user in asked])}
    return [
        user
        for user in asked
        if user.pk in able and Execution.objects.visible_to(user).filter(pk=execution.pk).exists()
    ]


def _send(ask: Ask, taken: Taken, sent: Sent) -> None:
    """Send one message to each, so that nobody reads who else was told, and one bad address harms no other."""
    people = recipients_of(ask)
    if not people or not taken.hold():
        return
    subject, body = _subject(ask), _body(ask)
    server: BaseEmailBackend = mail.get_connection()
    try:
        server.open()
        for user in people:
            if not taken.hold():
                break
            message = mail.EmailMessage(subject, body, settings.DEFAULT_FROM_EMAIL, [user.email], connection=server)
            try:
                sent.count += message.send()
            except (SMTPException, ValueError) as error:
                sent.note(error)
    except (SMTPException, OSError) as error:
        sent.note(error)
        log.warning("The mail server %s:%s does not take notices: %s", settings.EMAIL_HOST, settings.EMAIL_PORT, error)
    finally:
        server.close()


def _subject(ask: Ask) -> str:
    what = f"{named(ask.open_points)} of " if ask.points else ""
    text = masking.mask_text(f"Approval wanted: {what}#{ask.execution.pk} {ask.execution.title}")
    return " ".join(text.split())[:200]  # a line end in a header would begin another header


def _body(ask: Ask) -> str:
    execution = ask.execution
    until = execution.approval_expires_at
    lines = [
        f"{execution.actor.username} asks for approval of #{execution.pk} {execution.title}.",
        f"Why: {execution.reason or 'no reason given'}",
        "",
        f"What: {named(ask.open_points) if ask.points else 'the whole plan'}",
        *(f"Before: {_so_far(gate)}" for gate in ask.open_gates),
        f"On: {_named([str(machine['name']) for machine in ask.machines]) or 'no machine'}",
        f"Risk: level {execution.approval_level}; {', '.join(ask.reasons)}",
        f"Approvals: {len(ask.given)} of {ask.needed}",
        f"Decide until: {until:%Y-%m-%d %H:%M:%S} UTC" if until else "",
        "",
        f"{settings.PUBLIC_URL}/approvals/" if settings.PUBLIC_URL else "Decide on the page Approvals.",
    ]
    return masking.mask_text("\n".join(lines))


def _so_far(gate: GateView) -> str:
    tally = gate.so_far
    faults = f", {tally.faults}" if tally.faults else ""
    return f"{tally.ok:,} of {tally.total:,} targets of step '{gate.point.step}' succeeded{faults}"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
