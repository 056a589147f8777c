"""Export the audit."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.dateparse import parse_date, parse_datetime

from safety import audit
from safety.audit.exporting import FORMATS, export
from safety.management.example_help import ExampleCommand
from safety.models import Tenant

TELL_EVERY = 50_000


class Command(ExampleCommand):
    help = (
        "Writes the audit to a file: JSON lines, which `verify_audit --file` verifies without a database, or CSV for a"
        " spreadsheet. Of each chain it holds a part without a gap, so the first and last lines can lie a little"
        " outside of the period."
    )
    example = """\
  manage.py export_audit --output audit.jsonl
  manage.py export_audit --since 2026-10-01 --until 2026-11-01 --output audit-2026-10.jsonl
  manage.py export_audit --format csv --tenant default --output audit.csv
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=FORMATS, default="jsonl", help="%(default)s if nothing is said")
        parser.add_argument("--since", metavar="TIME", help="2026-10-01, or with a time and a zone; UTC without")
        parser.add_argument("--until", metavar="TIME", help="up to, and not with, this time")
        parser.add_argument("--tenant", help="the records of this tenant only")
        parser.add_argument("--output", metavar="FILE", default="-", help="a new file (%(default)s: standard output)")

    def handle(self, *args: Any, **options: Any) -> None:
        since, until = _time("--since", options["since"]), _time("--until", options["until"])
        tenant_id = _tenant(options["tenant"])
        lines = export(options["format"], chains=None if tenant_id is None else [tenant_id], since=since, until=until)
        if options["output"] == "-":
            written = self._write(lines, sys.stdout)
        else:
            written = self._write_file(lines, Path(options["output"]))
        records = written - (options["format"] == "csv")
        audit.record(
            "audit.export",
            actor="system",
            tenant_id=tenant_id,
            object_type="tenant" if tenant_id else "",
            object_id=tenant_id or "",
            object_name=options["tenant"] or "",
            data={
                "format": options["format"], "records": records,
                "since": since.isoformat() if since else None, "until": until.isoformat() if until else None,
            },
        )  # fmt: skip
        self.stderr.write(f"{records:,} records exported.")

    def _write_file(self, lines: Any, path: Path) -> int:
        """Write a file of ours alone, which appears whole or not at all and never takes another's place."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                    written = self._write(lines, file)
                os.link(draft, path)
            finally:
                draft.unlink()
        except FileExistsError:
            raise CommandError(f"{path} is there already: move it away, or name another file.") from None
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from None
        return written

    def _write(self, lines: Any, file: Any) -> int:
        written = 0
        for line in lines:
            file.write(line)
            written += 1
            if written % TELL_EVERY == 0:
                self.stderr.write(f"{written:,} lines so far.")
        return written


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        day = parse_date(text)
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC) if day else parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise CommandError(f"{option} {text} is no time: write 2026-10-01 or 2026-10-01T08:00:00+02:00.")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _tenant(name: str | None) -> int | None:
    if name is None:
        return None
    tenant = Tenant.objects.filter(name=name).first()
    if tenant is None:
        known = ", ".join(Tenant.objects.order_by("name").values_list("name", flat=True)[:20])
        raise CommandError(f"There is no tenant {name!r}; there are {known}.")
    return tenant.pk
