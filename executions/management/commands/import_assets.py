"""Import assets from a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from executions.inventory_files import COLUMNS
from executions.inventory_import import ImportRefused, ImportResult, import_assets
from safety.management.example_help import ExampleCommand
from safety.models import DEFAULT_TENANT, Tenant


class Command(ExampleCommand):
    help = (
        "Imports assets from a CSV file: all of them, or none when a line is bad. An asset is known by its name; one"
        " that exists is changed only with --update, and then only in the cells that are not empty."
    )
    example = f"""\
  manage.py import_assets machines.csv --dry-run
  manage.py import_assets machines.csv --update

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
        parser.add_argument("file", metavar="FILE", help="a .csv file")
        parser.add_argument("--tenant", default=DEFAULT_TENANT, help="whose assets they are (%(default)s)")
        parser.add_argument("--dry-run", action="store_true", help="check and count, change nothing")
        parser.add_argument("--update", action="store_true", help="change assets that exist and differ")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            known = ", ".join(Tenant.objects.order_by("name").values_list("name", flat=True)[:20])
            raise CommandError(f"There is no tenant {options['tenant']!r}; there are {known}.")
        try:
            result = import_assets(
                Path(options["file"]).read_bytes(),
                file_name=options["file"],
                tenant=tenant,
                update=options["update"],
                dry_run=options["dry_run"],
                progress=self._progress,
            )
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from None
        except ImportRefused as refused:
            lines = "\n".join(f"  {problem}" for problem in refused.problems)
            raise CommandError(f"Nothing was imported from {options['file']}:\n{lines}") from None
        self._report(result, options["dry_run"])

    def _progress(self, done: int, total: int) -> None:
        if sys.stderr.isatty() and total > 1000:
            self.stderr.write(f"\r{done} of {total}", ending="" if done < total else "\n")

    def _report(self, result: ImportResult, dry_run: bool) -> None:
        self.stdout.write(
            f"{'Would be: ' if dry_run else ''}{len(result.created)} created, {len(result.updated)} updated,"
            f" {len(result.unchanged)} unchanged."
        )
        if result.groups_created:
            self.stdout.write(f"New groups: {', '.join(result.groups_created)}.")
