"""Import assets from a file."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from executions.inventory_files import COLUMNS
from executions.inventory_formats import FORMATS
from executions.inventory_import import ImportRefused, ImportResult, import_assets
from executions.live.lines import visible
from executions.management.inventory_source import read_source, tenant_named
from safety.management.example_help import ExampleCommand
from safety.models import DEFAULT_TENANT

SHOWN_CHANGES = 50


class Command(ExampleCommand):
    help = (
        "Imports assets from a CSV file, or from an inventory of Ansible (INI, YAML, the JSON of `ansible-inventory"
        " --list`, or a folder of them): all of them, or none when a line is bad. An asset is known by its name; one"
        " that exists is changed only with --update, and then only in the cells that are not empty."
    )
    example = f"""\
  manage.py import_assets machines.csv --dry-run
  manage.py import_assets machines.csv --update
  manage.py import_assets inventories/production/ --dry-run
  ansible-inventory --list | manage.py import_assets - --format ansible-json

machines.csv:
  name,hostname,ip_address,environment,connection,port,credential,tags,groups
  db-1,db-1.example.com,192.0.2.10,production,ssh,22,db/orders/login,postgres;linux,databases
  web-1,web-1.example.com,192.0.2.20,staging,ssh,,web/login,nginx,web servers;front

columns:
  {", ".join(COLUMNS[:10])},
  {", ".join(COLUMNS[10:18])},
  {", ".join(COLUMNS[18:])}
  Only name is needed, and connection (local, ssh, powershell, api) for new ones, unless service_type is ssh, winrm,
  http or https. tags and groups: several with ; between them. credential: the path of a secret, never the secret.
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help=".csv, .ini, .yml or .json, a folder of Ansible's, or -")
        parser.add_argument("--format", choices=list(FORMATS), help="instead of what the ending of the name says")
        parser.add_argument("--tenant", default=DEFAULT_TENANT, help="whose assets they are (%(default)s)")
        parser.add_argument("--dry-run", action="store_true", help="check and count, change nothing")
        parser.add_argument("--update", action="store_true", help="change assets that exist and differ")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = tenant_named(options["tenant"])
        try:
            result = import_assets(
                read_source(options["file"], options["format"]),
                file_name=options["file"],
                tenant=tenant,
                update=options["update"],
                dry_run=options["dry_run"],
                progress=self._progress,
            )
        except ImportRefused as refused:
            lines = "\n".join(f"  {problem}" for problem in refused.problems)
            raise CommandError(f"Nothing was imported from {options['file']}:\n{lines}") from None
        self._report(result, options["dry_run"])

    def _progress(self, done: int, total: int) -> None:
        if sys.stderr.isatty() and total > 1000:
            self.stderr.write(f"\r{done} of {total}", ending="" if done < total else "\n")

    def _report(self, result: ImportResult, dry_run: bool) -> None:
        for name, fields in list(result.changes.items())[:SHOWN_CHANGES]:
            self.stdout.write(f"  {visible(name)}: {', '.join(fields)}")
        for remark in result.remarks:
            self.stderr.write(visible(remark))
        self.stdout.write(
            f"{'Would be: ' if dry_run else ''}{len(result.created)} created, {len(result.updated)} updated,"
            f" {len(result.unchanged)} unchanged."
        )
        if result.groups_created:
            self.stdout.write(f"New groups: {', '.join(result.groups_created)}.")
