"""Verify the audit: its chains, or an export of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import CommandError, CommandParser

from safety.audit.chain import INSTALLATION
from safety.audit.exporting import NotAnExport, verify_file
from safety.audit.report import ChainReport, Head, Report
from safety.audit.verifying import note, verify
from safety.management.example_help import ExampleCommand
from safety.models import Tenant

BROKEN = 1


class Command(ExampleCommand):
    help = (
        "Walks the chain of every tenant and says whether each record is what was sealed, none is missing and none came"
        " in between. Ends with the head of each chain: note it elsewhere, and give it with --expect-head later. The"
        " exit status is 1 when anything is wrong."
    )
    example = """\
  manage.py verify_audit
  manage.py verify_audit --tenant default --json
  manage.py verify_audit --expect-head 1:1204:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8
  manage.py verify_audit --file audit-2026-10.jsonl    # an export in JSON lines; needs no database
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", help="the chain of this tenant only")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")
        parser.add_argument("--file", metavar="EXPORT", help="verify this export instead (- is standard input)")
        parser.add_argument(
            "--expect-head",
            action="append",
            default=[],
            metavar="CHAIN:NUMBER:HASH",
            help="a head that was noted earlier: the chain must still hold it; repeatable",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        expected = [self._head(text) for text in options["expect_head"]]
        if options["file"] is not None:
            if options["tenant"]:
                raise CommandError("--tenant and --file do not go together: an export holds what it holds.")
            report = self._verify_file(options["file"], expected)
            names: dict[int, str] = {}
        else:
            names = dict(Tenant.objects.values_list("pk", "name"))
            report = verify(self._chains(options["tenant"], names), expected=expected, tell=self._tell)
            note(report)
        if options["json"]:
            self.stdout.write(json.dumps(_as_dict(report, names)))
        else:
            self._say(report, names)
        if not report.ok:
            sys.exit(BROKEN)

    def _head(self, text: str) -> Head:
        try:
            return Head.parse(text)
        except ValueError:
            raise CommandError(
                f"--expect-head {text} is not a head: give CHAIN:NUMBER:HASH as verify_audit printed it."
            ) from None

    def _chains(self, tenant: str | None, names: dict[int, str]) -> list[int] | None:
        if tenant is None:
            return None
        chains = [pk for pk, name in names.items() if name == tenant]
        if not chains:
            raise CommandError(f"There is no tenant {tenant!r}; there are {', '.join(sorted(names.values())[:20])}.")
        return chains

    def _verify_file(self, name: str, expected: list[Head]) -> Report:
        try:
            with _opened(name) as lines:
                return verify_file(lines, expected=expected, tell=self._tell)
        except OSError as error:
            raise CommandError(f"{name} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise CommandError(f"{name} is not in UTF-8: this is no export in JSON lines.") from None
        except NotAnExport as refusal:
            raise CommandError(f"{name}: {refusal}") from None

    def _tell(self, looked_at: int) -> None:
        self.stderr.write(f"{looked_at:,} records looked at.", ending="\r" if self.stderr.isatty() else "\n")

    def _say(self, report: Report, names: dict[int, str]) -> None:
        for chain in report.chains:
            self.stdout.write(f"{_name(chain.chain, names)}: {_in_words(chain)}")
            for fault in chain.faults:
                self.stdout.write(f"  {fault.fault}: {fault.sentence}")
            if chain.broken > len(chain.faults):
                self.stdout.write(f"  and {chain.broken - len(chain.faults):,} more")
            if chain.head is not None:
                self.stdout.write(f"  head {chain.head}")
        if not report.chains:
            self.stdout.write("There are no records yet.")
        elif report.ok:
            self.stdout.write(f"{report.checked:,} records verified: nothing is wrong.")
        else:
            first = report.first
            self.stdout.write(f"BROKEN. The first fault: {first.sentence if first else ''}")


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    if name == "-":
        yield sys.stdin
        return
    with Path(name).open(encoding="utf-8") as lines:
        yield lines


def _name(chain: int, names: dict[int, str]) -> str:
    return "installation" if chain == INSTALLATION else f"tenant {names.get(chain, chain)}"


def _in_words(chain: ChainReport) -> str:
    older = f", #1 to #{chain.pruned_to:,} were removed by retention" if chain.pruned_to else ""
    wrong = f", {chain.broken:,} faults" if chain.broken else ""
    return f"{chain.checked:,} records are as they were sealed{older}{wrong}"


def _as_dict(report: Report, names: dict[int, str]) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "records": report.checked,
        "chains": [
            {
                "chain": chain.chain,
                "name": _name(chain.chain, names),
                "records": chain.checked,
                "removed_by_retention_to": chain.pruned_to,
                "head": str(chain.head) if chain.head else None,
                "faults": chain.broken,
                "first_faults": [
                    {
                        "fault": fault.fault.value,
                        "number": fault.number,
                        "record": fault.record_id,
                        "sentence": fault.sentence,
                    }
                    for fault in chain.faults
                ],
            }
            for chain in report.chains
        ],
    }
