"""Removing old records: by the owner of the tables alone, on a person's word, and so that the rest still verifies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from safety.audit.recording import record
from safety.audit.sealing import seal_all

# What is removed of each chain is a beginning without a gap: up to before the first record that is young enough. The
# newest record always stays. The last seal of what is removed stays too, as the anchor that the next hash builds on.
_DUE = """
SELECT c.chain, c.last_due, (SELECT hash FROM safety_auditseal s WHERE s.chain = c.chain AND s.number = c.last_due),
       (SELECT count(*) FROM safety_auditseal s JOIN safety_auditrecord r ON r.id = s.record_id
         WHERE s.chain = c.chain AND s.number <= c.last_due)
  FROM (SELECT s.chain,
               coalesce(min(s.number) FILTER (WHERE r.at >= %(before)s), max(s.number)) - 1 AS last_due
          FROM safety_auditseal s JOIN safety_auditrecord r ON r.id = s.record_id GROUP BY s.chain) c
 WHERE c.last_due > 0 ORDER BY c.chain
"""


@dataclass(frozen=True, slots=True)
class Due:
    """What can be removed of one chain: its records up to #`number`, whose seal has this hash."""

    chain: int
    number: int
    hash: str
    records: int


def due(before: datetime) -> list[Due]:
    """Return what was recorded before that time, by chain; chains of which something was removed earlier are there
    with 0 records when nothing more is due.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"before": before})
        return [Due(*row) for row in cursor.fetchall()]


def prune(before: datetime) -> list[Due]:
    """Remove what is due, and write down for each chain where it begins now. Return what was removed.

    One transaction. Raises ProgrammingError (insufficient privilege) for a role that may not, as web and workers.
    """
    seal_all()
    with transaction.atomic():
        chains = due(before)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL opsconductor.audit_maintenance = 'on'")
            for one in chains:
                cursor.execute(
                    "DELETE FROM safety_auditrecord r USING safety_auditseal s"
                    " WHERE s.record_id = r.id AND s.chain = %s AND s.number <= %s",
                    [one.chain, one.number],
                )
                cursor.execute("DELETE FROM safety_auditseal WHERE chain = %s AND number < %s", [one.chain, one.number])
            cursor.execute("SET LOCAL opsconductor.audit_maintenance = 'off'")
        # For every chain anew, also if nothing more was due: the earlier record of it may be among what was removed.
        for one in chains:
            record(
                "audit.prune", object_type="chain", object_id=one.chain,
                data={"number": one.number, "hash": one.hash, "records": one.records, "before": before.isoformat()},
            )  # fmt: skip
    seal_all()
    return [one for one in chains if one.records]
