"""The audit as a file: JSON lines that can be verified without this database, or CSV for a spreadsheet.

Each line is a record with its place in its chain. Of every chain an export holds a part without a gap: from the first
record that is in the period to the last one, so a line may be a little older or younger than what was asked for.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from safety.audit.chain import COLUMNS, FIRST_PREVIOUS, PLAIN_FIELDS, hash_of, spelled
from safety.audit.report import ChainReport, Fault, Head, Report
from safety.audit.sealing import seal_all

FORMATS = ("jsonl", "csv")
CSV_COLUMNS = ("chain", "number", "id", "tenant", *PLAIN_FIELDS, "data", "hash", "previous")
# What a spreadsheet takes for a formula, or strips to get at one.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_PARTS = """
SELECT s.chain, min(s.number), max(s.number) FROM safety_auditseal s JOIN safety_auditrecord r ON r.id = s.record_id
 WHERE (%(chains)s::bigint[] IS NULL OR s.chain = ANY (%(chains)s))
   AND (%(since)s::timestamptz IS NULL OR r.at >= %(since)s) AND (%(until)s::timestamptz IS NULL OR r.at < %(until)s)
 GROUP BY s.chain ORDER BY s.chain
"""
_LINES = f"""
SELECT s.chain, s.number, s.record_id, coalesce(t.name, ''), s.hash, p.hash, {COLUMNS}
  FROM safety_auditseal s
  JOIN safety_auditrecord r ON r.id = s.record_id
  LEFT JOIN safety_tenant t ON t.id = r.tenant_id
  LEFT JOIN safety_auditseal p ON p.chain = s.chain AND p.number = s.number - 1
 WHERE s.chain = %s AND s.number BETWEEN %s AND %s ORDER BY s.number
"""


PAGE = 2000  # records read at once


@dataclass(frozen=True, slots=True)
class Part:
    """A part of one chain without a gap, from one number to another."""

    chain: int
    first: int
    last: int


def parts_of(
    *, chains: Collection[int] | None = None, since: datetime | None = None, until: datetime | None = None
) -> list[Part]:
    """Return what an export of this period holds; seals first what waits for it."""
    seal_all()
    with connection.cursor() as cursor:
        cursor.execute(_PARTS, {"chains": None if chains is None else list(chains), "since": since, "until": until})
        return [Part(*row) for row in cursor.fetchall()]


def pages_of(parts: Iterable[Part]) -> Iterator[Part]:
    """Cut the parts into such as are read at once."""
    for part in parts:
        for first in range(part.first, part.last + 1, PAGE):
            yield Part(part.chain, first, min(first + PAGE - 1, part.last))


def header(form: str) -> str:
    """Return what an export begins with. `form` is one of FORMATS."""
    return _csv_line(CSV_COLUMNS) if form == "csv" else ""


def lines_of(form: str, page: Part) -> list[str]:
    """Return the lines of one page. What is sealed stays as it is, so pages need no transaction around them."""
    write = _WRITERS[form]
    with connection.cursor() as cursor:
        cursor.execute(_LINES, [page.chain, page.first, page.last])
        return [write(*row) for row in cursor.fetchall()]


def export(
    form: str, *, chains: Collection[int] | None = None, since: datetime | None = None, until: datetime | None = None
) -> Iterator[str]:
    """Yield the lines of a whole export, oldest first; one page of it is in memory at a time."""
    if begin := header(form):
        yield begin
    for page in pages_of(parts_of(chains=chains, since=since, until=until)):
        yield from lines_of(form, page)


def _json_line(
    chain: int, number: int, record_id: int, tenant: str, digest: str, previous: str | None, *fields: Any
) -> str:
    *plain, data = fields
    line = {
        "chain": chain, "number": number, "id": record_id, "tenant": tenant,
        **dict(zip(PLAIN_FIELDS, plain, strict=True)),
        "data": json.loads(data), "previous": previous or FIRST_PREVIOUS, "hash": digest,
    }  # fmt: skip
    return json.dumps(line, ensure_ascii=False) + "\n"


def _csv_row(
    chain: int, number: int, record_id: int, tenant: str, digest: str, previous: str | None, *fields: Any
) -> str:
    return _csv_line([chain, number, record_id, tenant, *fields, digest, previous or FIRST_PREVIOUS])


_WRITERS: dict[str, Callable[..., str]] = {"jsonl": _json_line, "csv": _csv_row}


def _csv_line(values: Iterable[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([_cell(value) for value in values])
    return out.getvalue()


def _cell(value: Any) -> str:
    """Return the cell's text; one that a spreadsheet would take for a formula gets a quote before it."""
    text = "" if value is None else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA_STARTS) else text


class NotAnExport(Exception):
    """A line of the file is not one of an export in JSON lines. The message names the line and says what it lacks."""


def verify_file(
    lines: Iterable[str], *, expected: Sequence[Head] = (), tell: Callable[[int], None] = lambda checked: None
) -> Report:
    """Walk an export in JSON lines, without any database, and compare it with noted heads. Raises NotAnExport.

    The first line of a chain is taken at its word for what came before it; a head that was noted says more.
    """
    reports: dict[int, ChainReport] = {}
    heads: dict[int, tuple[int, str]] = {}
    noted: dict[tuple[int, int], str | None] = {(head.chain, head.number): None for head in expected}
    for place, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        line = _read(place, text)
        chain, number = line["chain"], line["number"]
        report = reports.setdefault(chain, ChainReport(chain))
        _check_line(report, line, heads.get(chain))
        heads[chain] = (number, line["hash"])
        report.note_head(number, line["hash"])
        if (chain, number) in noted:
            noted[chain, number] = line["hash"]
        if place % 5000 == 0:
            tell(place)
    for head in expected:
        reports.setdefault(head.chain, ChainReport(head.chain)).compare(head, noted[head.chain, head.number])
    return Report([reports[chain] for chain in sorted(reports)])


def _read(place: int, text: str) -> dict[str, Any]:
    try:
        line: dict[str, Any] = json.loads(text)
        missing = {"chain", "number", "id", "data", "previous", "hash", *PLAIN_FIELDS} - line.keys()
    except (ValueError, AttributeError, TypeError):
        raise NotAnExport(f"Line {place} is no JSON object: this is no export in JSON lines.") from None
    if missing:
        raise NotAnExport(f"Line {place} lacks {', '.join(sorted(missing))}: this is no export in JSON lines.")
    if not isinstance(line["chain"], int) or not isinstance(line["number"], int):
        raise NotAnExport(f"Line {place}: chain and number must be whole numbers.")
    return line


def _check_line(report: ChainReport, line: dict[str, Any], before: tuple[int, str] | None) -> None:
    number, record_id = line["number"], line["id"]
    if before is not None and number != before[0] + 1:
        report.add_gap(before[0] + 1, number)
    elif before is not None and line["previous"] != before[1]:
        report.add(Fault.CHANGED, number, record_id, f"#{number} does not follow on #{before[0]}: a hash was changed.")
        return
    plain = tuple(line[name] for name in PLAIN_FIELDS)
    if hash_of(report.chain, number, line["previous"], record_id, plain, spelled(line["data"])) != line["hash"]:
        report.add(
            Fault.CHANGED, number, record_id, f"Record {record_id} (#{number}) is not what was sealed: it was changed."
        )
        return
    report.checked += 1
