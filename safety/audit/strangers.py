"""Refusals of people who are not signed in: anybody can cause them, and what is written to the audit stays for ever.

Of each kind (what was asked, the code of the refusal) one record is kept for each network and quarter of an hour. It
says in its data how many were left out before it; those are in the log, each. An IPv6 address stands for its /64.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError, connection, transaction

from safety.audit.recording import record
from safety.client_address import network_of
from safety.origin import current_origin

log = logging.getLogger(__name__)

WINDOW = timedelta(minutes=15)
KEPT = timedelta(hours=24)  # after its window, so that the next record can say how many were left out
SWEPT_AT_ONCE = 20

# Of any number at the same moment one writes the record: the first makes or moves the row, and the others, which wait
# for its lock, find a window that ends later than their own statement began. Should it fail to write, its transaction
# is undone with the row, and the next one is the first. A count of nothing left out says that it was this one.
_COUNT = """
INSERT INTO safety_strangerrefusals AS kept (digest, until, left_out, left_out_before)
VALUES (%(digest)s, statement_timestamp() + %(window)s::interval, 0, 0)
    ON CONFLICT (digest) DO UPDATE
   SET left_out_before = CASE WHEN kept.until <= statement_timestamp() THEN kept.left_out ELSE kept.left_out_before END,
       left_out = CASE WHEN kept.until <= statement_timestamp() THEN 0 ELSE kept.left_out + 1 END,
       until = CASE WHEN kept.until <= statement_timestamp() THEN excluded.until ELSE kept.until END
RETURNING left_out = 0, left_out_before
"""
# Strangers can make rows: whoever makes one takes a few old ones away. Locked ones are in use, and so not old.
_SWEEP = """
DELETE FROM safety_strangerrefusals WHERE digest IN (
    SELECT digest FROM safety_strangerrefusals WHERE until < statement_timestamp() - %s::interval
     ORDER BY until LIMIT %s FOR UPDATE SKIP LOCKED)
"""


def record_strangers_refusal(
    action: str, *, code: str, reason: str, about: str = "", data: Mapping[str, Any] | None = None, **named: Any
) -> None:
    """Write, or count, what somebody was refused who is not signed in; `named` as for `record`.

    `about` tells apart what strangers cannot make up: people whom the provider has vouched for.

    Like `record_refusal` it leaves the refusal alone, whatever the database says.
    """
    here = current_origin()
    here.refusal_is_recorded = True
    try:
        if connection.needs_rollback:
            raise InterfaceError("its transaction is being rolled back")
        with transaction.atomic():
            is_first, left_out = _count(network_of(here.address), action, code, about)
            if is_first:
                told = {**(data or {}), **({"left_out": left_out} if left_out else {})}
                record(action, actor="anonymous", allowed=False, code=code, reason=reason, data=told, **named)
    except (DatabaseError, InterfaceError) as error:
        why = str(error).partition("\n")[0]
        log.error("A refusal (%s: %s, from %s) could not be recorded: %s", action, code, here.address, why)
        return
    if not is_first:
        log.info("Refused and not in the audit, where one like it is: %s: %s, from %s.", action, code, here.address)


def _count(*kind: str) -> tuple[bool, int]:
    """Count one of this kind. Return whether it is the first of its window, and how many the window before left out."""
    digest = hashlib.sha256("\0".join(kind).encode("utf-8", "surrogatepass")).hexdigest()
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"digest": digest, "window": str(WINDOW)})
        is_first, left_out = cursor.fetchone() or (True, 0)
        if is_first:
            cursor.execute(_SWEEP, [str(KEPT), SWEPT_AT_ONCE])
    return is_first, left_out
