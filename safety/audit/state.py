"""How the chains stand, in sentences: how many records, sealed up to where, verified when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.utils.timesince import timesince

from safety.audit.chain import INSTALLATION
from safety.audit.reading import chains_for
from safety.models import User

# Seals have no gap, so the last number is how many there are; what waits is a page at most, or something is wrong.
_STATE = """
SELECT wanted.chain,
       (SELECT number FROM safety_auditseal s WHERE s.chain = wanted.chain ORDER BY number DESC LIMIT 1),
       (SELECT count(*) FROM (SELECT FROM safety_auditoutbox o JOIN safety_auditrecord r ON r.id = o.record_id
          WHERE coalesce(r.tenant_id, 0) = wanted.chain LIMIT 10001) w)
  FROM unnest(%s::bigint[]) AS wanted (chain) ORDER BY wanted.chain DESC
"""
_VERIFIED = """
SELECT at, allowed, reason FROM safety_auditrecord
 WHERE object_type = 'audit' AND object_id = '' AND action = 'audit.verify' ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class ChainState:
    """One chain. `verified_at`: when verify_audit last looked at all of them; `is_whole`: what it found."""

    name: str
    sealed: int
    waiting: int
    verified_at: datetime | None
    is_whole: bool
    fault: str

    @property
    def words(self) -> str:
        return f"{self._sealed()}; {self._verified()}"

    def _sealed(self) -> str:
        said = f"{self.sealed:,} record{'' if self.sealed == 1 else 's'} sealed"
        if self.waiting == 1:
            return f"{said}, 1 waits for its seal"
        return f"{said}, {self.waiting:,} wait for their seals" if self.waiting else said

    def _verified(self) -> str:
        if self.verified_at is None:
            return "never verified: run `manage.py verify_audit`."
        ago = timesince(self.verified_at, depth=1)
        if self.is_whole:
            return f"verified {ago} ago, nothing was wrong."
        return f"BROKEN, found {ago} ago. {self.fault}".rstrip()


def state_of(user: User) -> list[ChainState]:
    """Return how the chains stand that `user` may read: the tenant's first."""
    with connection.cursor() as cursor:
        cursor.execute(_VERIFIED)
        at, is_whole, fault = cursor.fetchone() or (None, True, "")
        cursor.execute(_STATE, [list(chains_for(user))])
        return [
            ChainState(
                name="The installation:" if chain == INSTALLATION else f"Tenant {user.tenant.name}:",
                sealed=number or 0,
                waiting=waiting,
                verified_at=at,
                is_whole=is_whole,
                fault=fault if chain == INSTALLATION or is_whole else "Ask who runs the installation.",
            )
            for chain, number, waiting in cursor.fetchall()
        ]
