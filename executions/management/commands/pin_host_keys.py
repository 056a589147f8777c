"""Pin the SSH host keys of assets, after somebody has compared them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser

from executions.host_keys import Finding, Standing, look_at, pin
from executions.live.lines import visible
from executions.management.inventory_source import tenant_named
from executions.models import Asset, AssetGroup, Connection
from safety.management.example_help import ExampleCommand
from safety.models import DEFAULT_TENANT, Tenant


class Command(ExampleCommand):
    help = (
        "Asks assets with the connection ssh for their host keys, shows the fingerprints, and after a yes stores them"
        " in the inventory. Compare them with what the machines' consoles say (ssh-keygen -lf"
        " /etc/ssh/ssh_host_ed25519_key.pub): whoever answers in a machine's place shows a key as well. One that"
        " differs from what is known is left alone without --replace. Ends with 1 when a machine showed"
        " none, or one is left."
    )
    example = """\
  manage.py pin_host_keys --unpinned --dry-run
  manage.py pin_host_keys web-1 web-2
  manage.py pin_host_keys --group databases --yes
  manage.py pin_host_keys web-1 --replace
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("assets", metavar="ASSET", nargs="*", help="names of assets")
        parser.add_argument("--group", help="all of this group")
        parser.add_argument("--unpinned", action="store_true", help="all whose host key nobody has said")
        parser.add_argument("--replace", action="store_true", help="also where another key is known")
        parser.add_argument("--tenant", default=DEFAULT_TENANT, help="whose assets they are (%(default)s)")
        parser.add_argument("--yes", action="store_true", help="do not ask: the fingerprints have been compared")
        parser.add_argument("--dry-run", action="store_true", help="only show them")

    def handle(self, *args: Any, **options: Any) -> None:
        assets = self._chosen(tenant_named(options["tenant"]), options)
        findings = asyncio.run(look_at(assets, progress=self._progress))
        for finding in findings:
            self._show(finding)
        wanted = [one for one in findings if one.standing == Standing.NEW]
        if options["replace"]:
            wanted += [one for one in findings if one.standing == Standing.CHANGED]
        if options["dry_run"]:
            self.stdout.write(f"Would pin {len(wanted)} of {len(findings)}. Nothing was changed.")
            return
        if wanted and not options["yes"]:
            self._ask(wanted)
        pinned = [one for one in wanted if pin(one.asset, one.shown.keys[0])]
        same = sum(one.standing == Standing.SAME for one in findings)
        self.stdout.write(f"{len(pinned)} pinned, {same} known already, {len(findings) - len(pinned) - same} left.")
        if len(pinned) + same < len(findings):
            sys.exit(1)

    def _chosen(self, tenant: Tenant, options: dict[str, Any]) -> Sequence[Asset]:
        if sum(map(bool, (options["assets"], options["group"], options["unpinned"]))) != 1:
            raise CommandError("Give the names of assets, or --group, or --unpinned: one of the three.")
        every = Asset.objects.filter(tenant=tenant).order_by("name")
        if options["assets"]:
            names = list(dict.fromkeys(options["assets"]))
            chosen = list(every.filter(name__in=names))
            found = {asset.name for asset in chosen}
            if missing := [name for name in names if name not in found]:
                raise CommandError(f"There is no asset {', '.join(map(visible, missing[:10]))}.")
            if other := [asset.name for asset in chosen if asset.connection != Connection.SSH]:
                raise CommandError(f"Not reached by ssh, so without a host key: {', '.join(map(visible, other[:10]))}.")
            return chosen
        if options["group"]:
            group = AssetGroup.objects.filter(tenant=tenant, name=options["group"]).first()
            if group is None:
                raise CommandError(f"There is no group {visible(options['group'])}.")
            every = every.filter(groups=group)
        else:
            every = every.filter(host_key="")
        return list(every.filter(connection=Connection.SSH))

    def _show(self, finding: Finding) -> None:
        asset, shown = finding.asset, finding.shown
        lines = [f"{key.kind} {key.fingerprint}" for key in shown.keys] or [shown.error]
        self.stdout.write(f"{visible(asset.name):<30} {finding.standing:<10} {visible(lines[0])}")
        for other in lines[1:]:
            self.stdout.write(f"{'':<41} also {visible(other)}")

    def _progress(self, done: int, total: int) -> None:
        if sys.stderr.isatty() and total > 1:
            self.stderr.write(f"\r{done} of {total}", ending="" if done < total else "\n")

    def _ask(self, wanted: Sequence[Finding]) -> None:
        if not sys.stdin.isatty():
            raise CommandError(f"This would pin {len(wanted)} host keys: give --yes if they have been compared.")
        question = f"Are these {len(wanted)} fingerprints those of the machines themselves? Pin them? [y/N] "
        if input(question).strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was pinned.")
