"""`manage.py drain`: take in and hand out nothing more."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand

from queueing import control


class Command(BaseCommand):
    help = "Stop intake (503) and hand out nothing more; what runs goes on. With --wait, until nothing runs any more."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name,
            subcommand,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog='example:\n  manage.py drain --wait 600 --reason "kernel update"\n',
            **kwargs,
        )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "--wait", type=float, default=0, help="seconds to wait for what runs; exit 4 if it still runs"
        )
        parser.add_argument("--reason", default="", help="shown to whoever is refused meanwhile")

    def handle(self, *args: Any, **options: Any) -> None:
        control.drain(by="command", reason=options["reason"])
        deadline = time.monotonic() + options["wait"]
        told = -1
        while (running := control.queue_figures()["by_state"].get("leased", 0)) and time.monotonic() < deadline:
            if running != told:
                self.stdout.write(f"{running} executions are still running.")
                told = running
            time.sleep(0.2)
        if running and options["wait"]:
            self.stderr.write(f"{running} executions are still running. The queue stays drained; look again later.")
            sys.exit(4)
        self.stdout.write("The queue is drained." if not running else f"Draining; {running} executions still run.")
