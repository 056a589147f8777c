"""Walking the chains: every record is what was sealed, none is missing, none came in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from safety.audit.chain import COLUMNS, FIRST_PREVIOUS, INSTALLATION, hash_of
from safety.audit.recording import record
from safety.audit.report import ChainReport, Fault, Head, Report
from safety.audit.sealing import seal_all

TELL_EVERY = 5000
# So far around a place it is looked whether its record stands at another one.
REORDER_WINDOW = 500

# A seal with its record, or with nulls when that is gone.
_WALK = f"""
SELECT s.number, s.hash, s.record_id, r.id, coalesce(r.tenant_id, 0), {COLUMNS}
  FROM safety_auditseal s LEFT JOIN safety_auditrecord r ON r.id = s.record_id
 WHERE s.chain = %s ORDER BY s.number
"""
_AROUND = f"""
SELECT r.id, coalesce(r.tenant_id, 0), {COLUMNS} FROM safety_auditrecord r
 WHERE r.id BETWEEN %s AND %s AND coalesce(r.tenant_id, 0) = %s
"""
# A record comes with its outbox row, and that goes when its seal comes: one of the two is always there.
_OUTSIDE = """
SELECT r.id, coalesce(r.tenant_id, 0), r.action FROM safety_auditrecord r
 WHERE NOT EXISTS (SELECT FROM safety_auditseal s WHERE s.record_id = r.id)
   AND NOT EXISTS (SELECT FROM safety_auditoutbox o WHERE o.record_id = r.id)
   AND (%(chains)s::bigint[] IS NULL OR coalesce(r.tenant_id, 0) = ANY (%(chains)s)) ORDER BY r.id
"""
_LOST = """
SELECT o.record_id FROM safety_auditoutbox o
 WHERE NOT EXISTS (SELECT FROM safety_auditrecord r WHERE r.id = o.record_id) ORDER BY o.record_id
"""
_SEAL = "SELECT hash FROM safety_auditseal WHERE chain = %s AND number = %s"
# What earlier runs found, and where `prune_audit` cut a chain off. Both are records of the installation's own chain.
_NOTED_HEADS = """
SELECT data -> 'heads' FROM safety_auditrecord
 WHERE action = 'audit.verify' AND tenant_id IS NULL ORDER BY id DESC LIMIT 1
"""
_ANCHOR = """
SELECT (data ->> 'number')::bigint, data ->> 'hash' FROM safety_auditrecord
 WHERE action = 'audit.prune' AND tenant_id IS NULL AND object_type = 'chain' AND object_id = %s
 ORDER BY id DESC LIMIT 1
"""

Tell = Callable[[int], None]


def verify(
    chains: Collection[int] | None = None, *, expected: Sequence[Head] = (), tell: Tell = lambda checked: None
) -> Report:
    """Walk these chains (all of them without) and return what was found. Seals first what waits for it.

    Compares with the heads that were `expected` and with those that the last run noted. `tell` is called with the
    number of records looked at so far.
    """
    seal_all()
    with _one_view():
        walker = _Walker(tell)
        found = {chain: walker.walk(chain) for chain in _chains(chains, expected)}
        _look_outside(found, chains)
        for head in {*expected, *_noted_heads(chains)}:
            there = _rows(_SEAL, [head.chain, head.number])
            found.setdefault(head.chain, ChainReport(head.chain)).compare(head, there[0][0] if there else None)
    return Report([found[chain] for chain in sorted(found)])


def note(report: Report) -> None:
    """Record that the audit was verified, with the heads that were found: the next run compares with them.

    Of a chain that is broken the head that was noted before stays: a tail that was cut off is told again.
    """
    heads = {
        str(chain.chain): [chain.head.number, chain.head.hash]
        for chain in report.chains
        if chain.head and not chain.broken
    }
    record(
        "audit.verify",
        object_type="audit",
        allowed=report.ok,
        code="" if report.ok else "audit_broken",
        reason=report.first.sentence if report.first else "",
        data={"heads": _earlier_heads() | heads, "records": report.checked},
    )


@contextmanager
def _one_view() -> Iterator[None]:
    """All that is read within is of one moment: a record is never seen without its seal because both came meanwhile."""
    fresh = not connection.in_atomic_block
    with transaction.atomic():
        if fresh:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def _rows(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _chains(wanted: Collection[int] | None, expected: Sequence[Head]) -> list[int]:
    if wanted is not None:
        return sorted(set(wanted))
    there = {chain for (chain,) in _rows("SELECT DISTINCT chain FROM safety_auditseal")}
    return sorted(there | {head.chain for head in expected})


class _Walker:
    """Goes along one chain after the other."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._looked_at = 0

    def walk(self, chain: int) -> ChainReport:
        report = ChainReport(chain)
        previous, expected_number = FIRST_PREVIOUS, 1
        with connection.chunked_cursor() as cursor:
            cursor.execute(_WALK, [chain])
            for number, digest, record_id, there, of_chain, *fields in cursor:
                self._looked_at += 1
                if self._looked_at % TELL_EVERY == 0:
                    self._tell(self._looked_at)
                report.note_head(number, digest)
                # Retention removed the record of the first seal that is left, and all before it, and wrote that down.
                first = expected_number == 1 and there is None
                if first and self._is_anchor(Head(chain, number, digest)):
                    report.pruned_to, previous, expected_number = number, digest, number + 1
                    continue
                if number != expected_number:
                    report.add_gap(expected_number, number)
                self._check(report, number, digest, record_id, there, of_chain, fields, previous)
                previous, expected_number = digest, number + 1
        return report

    def _is_anchor(self, head: Head) -> bool:
        return (head.number, head.hash) in _rows(_ANCHOR, [str(head.chain)])

    def _check(
        self, report: ChainReport, number: int, digest: str, record_id: int, there: int | None, of_chain: int,
        fields: list[Any], previous: str,
    ) -> None:  # fmt: skip
        if there is None:
            report.add(
                Fault.MISSING, number, record_id, f"Record {record_id} (#{number}) is gone: only its seal is left."
            )
            return
        *plain, data = fields
        if hash_of(of_chain, number, previous, record_id, tuple(plain), data) == digest:
            report.checked += 1
            return
        rightful = _rightful(report.chain, number, digest, record_id, previous)
        if rightful is not None:
            report.add(
                Fault.REORDERED, number, record_id,
                f"Record {record_id} stands at #{number}, where record {rightful} was sealed: they were reordered.",
            )  # fmt: skip
        else:
            report.add(
                Fault.CHANGED, number, record_id,
                f"Record {record_id} (#{number}) is not what was sealed: it, or its seal, was changed.",
            )  # fmt: skip


def _rightful(chain: int, number: int, digest: str, record_id: int, previous: str) -> int | None:
    """Return the record near by that belongs to this seal, if it is not the one that it names."""
    near = _rows(_AROUND, [record_id - REORDER_WINDOW, record_id + REORDER_WINDOW, chain])
    for other_id, of_chain, *plain, data in near:
        if other_id != record_id and hash_of(of_chain, number, previous, other_id, tuple(plain), data) == digest:
            return int(other_id)
    return None


def _look_outside(found: dict[int, ChainReport], chains: Collection[int] | None) -> None:
    """Records that no chain holds, and noted ones that are gone before they were sealed."""
    for record_id, chain, action in _rows(_OUTSIDE, {"chains": None if chains is None else list(chains)}):
        found.setdefault(chain, ChainReport(chain)).add(
            Fault.INSERTED, None, record_id, f"Record {record_id} ({action}) is in no chain: it was inserted past"
            " it, or its seal was removed.",
        )  # fmt: skip
    for (record_id,) in _rows(_LOST) if chains is None else []:
        found.setdefault(INSTALLATION, ChainReport(INSTALLATION)).add(
            Fault.MISSING, None, record_id, f"Record {record_id} is gone before it was sealed.",
        )  # fmt: skip


def _earlier_heads() -> dict[str, Any]:
    rows = _rows(_NOTED_HEADS)
    heads: dict[str, Any] = json.loads(rows[0][0]) if rows and rows[0][0] else {}
    return heads


def _noted_heads(chains: Collection[int] | None) -> list[Head]:
    heads = [Head(int(chain), number, digest) for chain, (number, digest) in _earlier_heads().items()]
    return [head for head in heads if chains is None or head.chain in chains]
