"""`manage.py scale_workers`: how many worker processes there are, by hand or by themselves; and what there is now."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from queueing import pool
from queueing.management.by import command_actor
from queueing.models import Autoscale, QueueControl, ScalingDecision, Worker
from queueing.pool import PoolRefused
from safety.management.example_help import ExampleCommand

LOOK_SECONDS = 0.2
EXIT_NOT_THERE_YET = 4
DECISIONS_SHOWN = 10
MODES = {"on": Autoscale.ON, "dry-run": Autoscale.DRY_RUN, "off": Autoscale.OFF}


class Command(ExampleCommand):
    help = (
        "Sets how many worker processes all clusters together have (a cluster is one `manage.py worker` on a host);"
        " they share the number evenly, as far as each has room (WORKER_MAX_PROCESSES). Those that are too many hand"
        " back what they run between two steps; nothing is lost. With --auto each cluster decides for itself between"
        " --min and --max, from what waits and for how long. Without anything, or with --show, it shows clusters,"
        " workers and the last decisions with their reasons."
    )
    example = """\
  manage.py scale_workers
  manage.py scale_workers 6 --reason "patch night" --wait 60
  manage.py scale_workers 2 --dry-run
  manage.py scale_workers --auto dry-run --min 2 --max 6
  manage.py scale_workers --auto on --min 2 --max 6
  manage.py scale_workers --auto off
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "processes", metavar="N", nargs="?", type=int, help="worker processes of all clusters together"
        )
        parser.add_argument(
            "--auto", choices=MODES, help="on: clusters decide; dry-run: they only say what they would do"
        )
        parser.add_argument("--min", type=int, metavar="A", help="with --auto: at least so many processes a cluster")
        parser.add_argument("--max", type=int, metavar="B", help="with --auto: at most so many processes a cluster")
        parser.add_argument("--reason", default="", help="kept with the decision")
        parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait until they are there; exit 4 if not")
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")
        parser.add_argument("--yes", action="store_true", help="do not ask before processes are ended")
        parser.add_argument("--show", action="store_true", help="only show what there is")
        parser.add_argument("--json", action="store_true", help="with --show: as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        number, mode = options["processes"], options["auto"]
        _insist_on_one_thing(options)
        try:
            if mode is not None:
                self._set_auto(mode, options)
            elif number is not None:
                self._scale(number, options)
            else:
                self._show(as_json=options["json"])
        except PoolRefused as refused:
            raise CommandError(f"{refused} {refused.how_to_fix}") from None

    def _scale(self, number: int, options: dict[str, Any]) -> None:
        by, reason = command_actor(), options["reason"]
        would = pool.scale(number, by=by, dry_run=True)
        change = f"{would.before} to {number} worker processes on {_clusters(would.clusters)}"
        automatic = QueueControl.objects.exclude(autoscale=Autoscale.OFF).exists()
        ends = " Autoscaling ends with it." if automatic else ""
        if options["dry_run"]:
            self.stdout.write(f"Would go from {change}.{ends} Nothing was changed.")
            return
        # From a script the number alone is an order: it can be taken back at any time, and nothing is lost by it.
        if number < would.before and not options["yes"] and sys.stdin.isatty():
            answer = input(f"Go from {change}?{ends} [y/N] ").strip().lower()
            if answer not in ("y", "yes"):
                raise CommandError("Nothing was changed.")
        done = pool.scale(number, by=by, reason=reason)
        self.stdout.write(f"From {done.before} to {done.after} worker processes on {_clusters(done.clusters)}.{ends}")
        if options["wait"] is not None:
            self._wait(number, options["wait"])

    def _wait(self, number: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        told = ""
        while True:
            manned = pool.manned_clusters()
            alive, stopping = sum(one.alive for one in manned), sum(one.stopping for one in manned)
            if alive == number and not stopping:
                self.stdout.write(f"{number} worker processes are there.")
                return
            state = f"{alive} of {number} worker processes are there" + (
                f", {stopping} hand back and end" * bool(stopping)
            )
            if time.monotonic() >= deadline:
                self.stderr.write(f"{state}. The number stays as it was set; look again with --show.")
                raise SystemExit(EXIT_NOT_THERE_YET)
            if state != told:
                self.stdout.write(f"{state}.")
                self.stdout.flush()
                told = state
            time.sleep(LOOK_SECONDS)

    def _set_auto(self, word: str, options: dict[str, Any]) -> None:
        control = QueueControl.objects.get()
        low = control.min_processes if options["min"] is None else options["min"]
        high = control.max_processes if options["max"] is None else options["max"]
        if options["dry_run"]:
            raise CommandError("For a dry run of autoscaling give --auto dry-run: it decides, and only says what.")
        pool.autoscale(MODES[word], minimum=low, maximum=high, by=command_actor(), reason=options["reason"])
        self.stdout.write(f"{_MODE_SAID[MODES[word]].format(low=low, high=high)}")

    def _show(self, *, as_json: bool) -> None:
        shown = _as_dict()
        if as_json:
            self.stdout.write(json.dumps(shown, indent=2, default=_seconds))
            return
        self.stdout.write(_MODE_SAID[shown["autoscale"]].format(low=shown["min"], high=shown["max"]))
        if shown["processes"] is not None:
            self.stdout.write(f"Set by hand: {shown['processes']} worker processes in all.")
        if not shown["clusters"]:
            self.stdout.write("No host runs workers. Start `manage.py worker` on a host, or `make serve`.")
        else:
            self.stdout.write("\n" + "{:<24} {:>7} {:>5} {:>5} {:>5} {:>5} {:>6} {:>7} {:>6}  {}".format(*_HEADING))
        for one in shown["clusters"]:
            self.stdout.write(
                f"{one['host']:<24} {one['pid']:>7} {one['processes']:>5} {one['max_processes']:>5} {one['alive']:>5}"
                f" {one['draining']:>5} {one['stopping']:>6} {one['running']:>7} {one['slots']:>6}"
                f"  pools {','.join(one['pools'])}; regions {','.join(one['regions'])}"
                + ("; SILENT" if one["silent"] else "")
            )
        for one in shown["workers"]:
            self.stdout.write(
                f"  worker {one['id']:<8} pid {one['pid']:<8} {one['state']}{', draining' if one['draining'] else ''}"
                f"{', runs suspects apart' if one['isolation'] else ''}; runs {one['running']} of {one['slots']}"
                f" on {one['host']}"
            )
        if shown["decisions"]:
            self.stdout.write("\nLast decisions, newest first:")
        for one in shown["decisions"]:
            dry = "" if one["applied"] else " (dry run)"
            change = f"{one['before']} to {one['after']}{dry}"
            self.stdout.write(f"  {_seconds(one['at'])}  {one['host']}: {change}, by {one['by']}: {one['reason']}")


_HEADING = ("host", "pid", "share", "room", "alive", "drain", "ending", "running", "slots", "serves")
_MODE_SAID = {
    Autoscale.ON: "Autoscaling is on: each cluster decides between {low} and {high} worker processes.",
    Autoscale.DRY_RUN: "Autoscaling runs dry between {low} and {high}: it says what it would do, and changes nothing.",
    Autoscale.OFF: "Autoscaling is off.",
}


def _insist_on_one_thing(options: dict[str, Any]) -> None:
    number, mode = options["processes"], options["auto"]
    shows = options["show"] or (number is None and mode is None)
    if sum((number is not None, mode is not None, options["show"])) > 1:
        raise CommandError("Give a number, or --auto, or --show: one of them.")
    if options["json"] and not shows:
        raise CommandError("--json goes with --show.")
    if mode is None and (options["min"] is not None or options["max"] is not None):
        raise CommandError("--min and --max go with --auto.")
    if number is None and (options["wait"] is not None or options["dry_run"]) and mode is None:
        raise CommandError("Give the number of worker processes, such as `manage.py scale_workers 4 --dry-run`.")
    if options["wait"] is not None and (number is None or not 0 <= options["wait"] < float("inf")):
        raise CommandError("--wait goes with a number of worker processes, and takes the seconds to wait, such as 60.")


def _as_dict() -> dict[str, Any]:
    workers = Worker.objects.filter(stopped_at=None).order_by("host", "pk")
    return {
        **pool.sizing(),
        "clusters": [one.as_dict() for one in pool.manned_clusters()],
        "workers": [
            {
                "id": worker.pk,
                "host": worker.host,
                "pid": worker.pid,
                "state": worker.state,
                "draining": worker.draining,
                "isolation": worker.isolation,
                "running": worker.running,
                "slots": worker.slots,
            }
            for worker in workers
        ],
        "decisions": [pool.decision_as_dict(one) for one in ScalingDecision.objects.order_by("-pk")[:DECISIONS_SHOWN]],
    }


def _clusters(count: int) -> str:
    return f"{count} {'cluster' if count == 1 else 'clusters'}"


def _seconds(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
