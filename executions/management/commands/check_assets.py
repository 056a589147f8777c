"""Check whether assets can be reached and signed in to."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser

from executions.inventory import TenantInventory
from executions.live.following import follow
from executions.live.lines import visible
from executions.management.acting_user import acting_user, add_acting_user
from executions.models import Asset, Execution, StepTarget
from executions.services import Accepted, Refused, check_assets
from executions.services.checks import TIMEOUT_SECONDS
from executions.states import FINAL_STEP
from safety.management.example_help import ExampleCommand
from safety.models import User
from safety.rbac import visible_assets

ALL_HEALTHY, SOME_NOT, REFUSED, _, STILL_GOING = range(5)


class Command(ExampleCommand):
    help = (
        "Has workers connect and sign in to assets, no more, and says what they found. What they found is kept as the"
        " health of the assets. Ctrl-C stops waiting, never the checks."
    )
    example = """\
  manage.py check_assets db-1 web-1.example.com
  manage.py check_assets --group databases --json
  manage.py check_assets --all --timeout 5 --wait 300

exit status:
  0  every asset answered and let us sign in
  1  some did not
  2  refused: nothing was checked
  4  still going after --wait, or after Ctrl-C
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="assets, as plans name them")
        parser.add_argument("--group", metavar="G", help="every asset in use of this group")
        parser.add_argument("--all", action="store_true", help="every asset in use")
        parser.add_argument(
            "--timeout", type=int, default=TIMEOUT_SECONDS, metavar="S", help="seconds for each asset (%(default)s)"
        )
        parser.add_argument("--wait", type=float, metavar="N", help="wait at most N seconds (until all have ended)")
        parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
        add_acting_user(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["timeout"] <= 300:
            raise CommandError("--timeout must be a whole number of seconds from 1 to 300.")
        user = acting_user(options)
        assets = self._selected(options, user)
        try:
            answers = check_assets(assets, by=user, timeout_seconds=options["timeout"])
        except Refused as refused:
            answers = [refused]
        accepted = [one.execution_id for one in answers if isinstance(one, Accepted)]
        problems = [problem for one in answers if isinstance(one, Refused) for problem in one.problems()]
        for problem in problems:
            self.stderr.write(f"{problem['code']}: {problem['message']} {problem['how_to_fix']}")
        complete = self._wait(accepted, options["wait"])
        rows = list(StepTarget.objects.filter(execution__in=accepted).order_by("name", "pk"))
        self._show(rows, accepted, as_json=options["json"])
        if len(accepted) < len(answers):
            raise SystemExit(REFUSED)
        if not complete:
            raise SystemExit(STILL_GOING)
        raise SystemExit(ALL_HEALTHY if all(row.status == "succeeded" for row in rows) else SOME_NOT)

    def _selected(self, options: dict[str, Any], user: User) -> list[Asset]:
        """Return the assets that the options name. Raises CommandError."""
        if sum(map(bool, (options["names"], options["group"], options["all"]))) != 1:
            raise CommandError("Give the names of assets, or --group, or --all.")
        seen = Asset.objects.filter(visible_assets(user), is_active=True).order_by("name")
        inventory = TenantInventory(user.tenant_id)
        if options["names"]:
            numbers = set()
            for name in options["names"]:
                found = inventory.lookup(name)
                if len(found) != 1:
                    listed = f": {', '.join(one.name for one in found)}" if found else ""
                    raise CommandError(f"There are {len(found)} assets {visible(name)!r}{listed}. Name one of them.")
                numbers.add(found[0].asset_id)
            seen = seen.filter(pk__in=numbers)
        elif options["group"]:
            seen = seen.filter(groups__name=options["group"])
        assets = list(seen)
        if not assets:
            raise CommandError("There is no asset in use among these.")
        return assets

    def _wait(self, executions: Sequence[int], seconds: float | None) -> bool:
        """Wait for the end of all; False when some have not ended in time."""
        until = None if seconds is None else time.monotonic() + seconds
        try:
            for done, number in enumerate(executions):
                if sys.stderr.isatty() and len(executions) > 1:
                    self.stderr.write(f"\r{done} of {len(executions)} parts", ending="")
                left = None if until is None else max(0.0, until - time.monotonic())
                follow(number, timeout_seconds=left, remark=self.stderr.write)
        except KeyboardInterrupt:
            self.stderr.write("\nNo longer waiting; the checks go on.")
        return not Execution.objects.unfinished().filter(pk__in=executions).exists()

    def _show(self, rows: Sequence[StepTarget], executions: Sequence[int], *, as_json: bool) -> None:
        if as_json:
            assets = [
                {
                    "name": row.name,
                    "healthy": row.status == "succeeded",
                    "status": row.status,
                    "error_code": row.error_code or None,
                    "error": row.error or None,
                    "response_ms": (row.data or {}).get("response_ms"),
                }
                for row in rows
            ]
            self.stdout.write(json.dumps({"executions": list(executions), "assets": assets}))
            return
        for row in rows:
            if row.status == "succeeded":
                self.stdout.write(f"  ok    {visible(row.name)}  {(row.data or {}).get('response_ms')} ms")
            elif row.status in FINAL_STEP:
                self.stdout.write(self.style.WARNING(f"  {row.status}  {visible(row.name)}: {visible(row.error)}"))
            else:
                self.stdout.write(f"  {row.status}  {visible(row.name)}")
        healthy = sum(row.status == "succeeded" for row in rows)
        self.stdout.write(f"{healthy} of {len(rows)} answered and let us sign in.")
