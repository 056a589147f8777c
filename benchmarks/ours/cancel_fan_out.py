"""Program: cancel the one execution, and watch its commands on this machine until none is left."""

from __future__ import annotations

import argparse
import contextlib
import os
import time

import django
import psutil

from benchmarks.children import ChildFailed, wait_until
from benchmarks.peers.report import report

WATCH_SECONDS = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, required=True)
    parser.add_argument("command", nargs="+", help="what runs on each of them")
    args = parser.parse_args()
    django.setup()
    from executions.models import Execution
    from executions.services.stop import cancel
    from safety.accounts import FIRST_ADMIN
    from safety.models import User

    by = User.objects.select_related("tenant").get(username=FIRST_ADMIN)
    (execution_id,) = Execution.objects.values_list("pk", flat=True)
    wait_until(lambda: len(_pids(args.command)) >= args.targets, timeout_seconds=WATCH_SECONDS, what="all commands run")
    left = _pids(args.command)
    in_real_time = _watch_in_real_time()
    asked_at, began = time.time(), time.monotonic()
    cancel(execution_id, by=by, reason="measured")
    while left := {pid for pid in left if _lives(pid)}:
        if time.monotonic() - began > WATCH_SECONDS:
            raise ChildFailed(f"{len(left)} commands still ran {WATCH_SECONDS:.0f} s after the cancel")
        time.sleep(0.02)
    report(gone_seconds=time.monotonic() - began, asked_at=asked_at, in_real_time=in_real_time)


def _watch_in_real_time() -> bool:
    """Go before all others, so that a machine with no time left delays the commands' ends, and not the look at them."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return True
    return False


def _pids(command: list[str]) -> set[int]:
    return {process.pid for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == command}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
