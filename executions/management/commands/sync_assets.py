"""Bring the inventory up to date with what owns it."""

from __future__ import annotations

import json
import sys
from pathlib import PurePath
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from executions.clients import ServiceTrouble, asset_service
from executions.inventory_formats import FORMATS
from executions.inventory_import import ImportRefused
from executions.inventory_sync import SERVICE, SyncResult, sync_file, sync_service
from executions.live.lines import visible
from executions.management.inventory_source import read_source, tenant_named
from safety.management.example_help import ExampleCommand
from safety.models import DEFAULT_TENANT

SHOWN = 50


class Command(ExampleCommand):
    help = (
        "Brings assets up to date with their source: the asset service, or a file (CSV, or an inventory of Ansible)"
        " that is read again and again. What the source does not have any more is marked as missing, and stays in use"
        " unless --remove-missing takes it out of use. Nothing is ever deleted; assets that others keep are left alone."
    )
    example = """\
  manage.py sync_assets --from asset-service --dry-run
  manage.py sync_assets --from inventories/production/ --source production
  manage.py sync_assets --from machines.csv --source cmdb --remove-missing --yes

exit status:
  0  all is as the source has it
  1  nothing was changed: the reason is told
  3  some assets were refused, and are as they were; the others are up to date
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="origin", required=True, metavar="FILE", help=f"a file, or {SERVICE}")
        parser.add_argument("--format", choices=list(FORMATS), help="instead of what the ending of the name says")
        parser.add_argument("--source", metavar="NAME", help="what the file is called as owner (its name)")
        parser.add_argument("--tenant", default=DEFAULT_TENANT, help="whose assets they are (%(default)s)")
        parser.add_argument("--adopt", action="store_true", help="take over assets of these names kept by hand so far")
        parser.add_argument("--remove-missing", action="store_true", help="take what is missing out of use")
        parser.add_argument("--dry-run", action="store_true", help="say what would change, change nothing")
        parser.add_argument("--yes", action="store_true", help="do not ask before assets are taken out of use")
        parser.add_argument("--json", action="store_true", help="print one JSON object at the end")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["remove_missing"] and not (options["yes"] or options["dry_run"]):
            _ask(self._sync({**options, "dry_run": True}))
        result = self._sync(options)
        self._show(result, options)
        if result.refused:
            raise SystemExit(3)

    def _sync(self, options: dict[str, Any]) -> SyncResult:
        how = {"remove_missing": options["remove_missing"], "dry_run": options["dry_run"]}
        try:
            if options["origin"] == SERVICE:
                service = asset_service()
                if service is None:
                    raise CommandError("There is no asset service: set ASSET_SERVICE_URL.")
                return sync_service(service, tenant=tenant_named(settings.ASSET_SERVICE_TENANT), **how)
            source = options["source"] or PurePath(options["origin"]).name
            if not 0 < len(source) <= 60 or source in (SERVICE, "-"):
                raise CommandError(f"--source must be a name of 1 to 60 characters, and not {SERVICE!r}.")
            content = read_source(options["origin"], options["format"])
            tenant = tenant_named(options["tenant"])
            return sync_file(content, source=source, tenant=tenant, adopt=options["adopt"], **how)
        except ServiceTrouble as trouble:
            raise CommandError(f"Nothing was changed: {trouble}") from None
        except ImportRefused as refused:
            lines = "\n".join(f"  {visible(str(problem))}" for problem in refused.problems)
            raise CommandError(f"Nothing was changed by {options['origin']}:\n{lines}") from None

    def _show(self, result: SyncResult, options: dict[str, Any]) -> None:
        if options["json"]:
            told = {**result.figures(), "source": result.source, "dry_run": options["dry_run"]}
            told |= {"names": {word: getattr(result, word) for word in _WORDS}, "remarks": result.remarks}
            told["problems"] = [str(problem) for problem in result.refused]
            self.stdout.write(json.dumps(told))
            return
        for word, said in _WORDS.items():
            names = getattr(result, word)
            for name in names[:SHOWN]:
                fields = f": {', '.join(result.changes[name])}" if word == "updated" and name in result.changes else ""
                self.stdout.write(f"  {said:<18} {visible(name)}{fields}")
            if len(names) > SHOWN:
                self.stdout.write(f"  {said:<18} and {len(names) - SHOWN} more")
        for problem in result.refused:
            self.stderr.write(f"  refused: {visible(str(problem))}")
        for remark in result.remarks:
            self.stderr.write(visible(remark))
        counted = ", ".join(f"{count} {word}" for word, count in result.figures().items())
        self.stdout.write(f"{'Would be: ' if options['dry_run'] else ''}{result.source}: {counted}.")


_WORDS = {
    "created": "created", "updated": "updated", "returned": "there again", "missing": "missing now",
    "deactivated": "taken out of use",
}  # fmt: skip


def _ask(planned: SyncResult) -> None:
    """Raises CommandError unless somebody says yes to what would be taken out of use; nothing to ask, no question."""
    count = len(planned.deactivated)
    if not count:
        return
    named = ", ".join(visible(name) for name in planned.deactivated[:10])
    what = f"{count} assets would be taken out of use: {named}{', ...' if count > 10 else ''}."
    if not sys.stdin.isatty():
        raise CommandError(f"{what} Give --yes if that is meant.")
    if input(f"{what} Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was changed.")
