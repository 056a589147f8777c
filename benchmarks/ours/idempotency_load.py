"""Program: ask the idempotency guard about keys, over several connections of several processes; the rates.

Each check is a call in a transaction of its own, as a submit makes it. A miss takes the key, durably; a hit learns the
execution that the key stands for. The reference does what is usually done: Django's get_or_create.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django

from benchmarks.peers.report import report

TAKE = "SELECT * FROM idempotency_take(%b::bigint[], %b::text[], %b::text[], %b::bigint[], '24 hours')"
TENANT = 1
HASH = "0" * 64
THREADS = 4
BATCH = 200

Check = Callable[[list[str]], int]  # keys -> how many of them had been taken before


def guard() -> Check:
    """The guard, on a connection for each thread."""
    from queueing.connections import connect

    here = threading.local()

    def check(keys: list[str]) -> int:
        if not hasattr(here, "connection"):
            here.connection = connect("benchmark")
        many = len(keys)
        arguments = ([TENANT] * many, keys, [HASH] * many, list(range(many)))
        return len(here.connection.execute(TAKE, arguments, prepare=True).fetchall())

    return check


def get_or_create() -> Check:
    """What Django does: look, insert, and look again when somebody was faster."""
    from django.db.models.functions import Now

    from safety.models import IdempotencyKey

    def check(keys: list[str]) -> int:
        values: dict[str, Any] = {"execution_id": 1, "request_hash": HASH, "blocks_until": Now()}
        return sum(
            not IdempotencyKey.objects.get_or_create(tenant_id=TENANT, key=key, defaults=values)[1] for key in keys
        )

    return check


def rates(kind: Callable[[], Check], prefix: str, checks: int, processes: int, size: int) -> tuple[float, float]:
    """Misses a second and hits a second, all processes together. Ends the program when one is not what it has to be."""
    from benchmarks.ours.together import together
    from safety.models import IdempotencyKey

    def ask(keys: Callable[[], list[str]], ready: Callable[[], None]) -> int:
        check, asked = kind(), keys()
        groups = [asked[start : start + size] for start in range(0, len(asked), size)]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(check, [[f"warm-{os.getpid()}-{number}"] for number in range(THREADS * 8)]))
            ready()
            return sum(pool.map(check, groups))

    def misses(ready: Callable[[], None]) -> tuple[int, list[float]]:
        found = ask(lambda: [f"{prefix}-{os.getpid()}-{number}" for number in range(checks)], ready)
        if found:
            raise SystemExit(f"{found} of {checks} new keys had been taken")
        return checks, []

    def hits(ready: Callable[[], None]) -> tuple[int, list[float]]:
        taken = IdempotencyKey.objects.filter(key__startswith=prefix).values_list("key", flat=True)
        found = ask(lambda: list(taken[:checks]), ready)
        if found != checks:
            raise SystemExit(f"{checks - found} of {checks} known keys were taken again")
        return checks, []

    answers = []
    for work in (misses, hits):
        done, seconds, _ = together(processes, work)
        answers.append(done / seconds)
    return answers[0], answers[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, required=True, help="of each kind, by each process")
    parser.add_argument("--processes", type=int, required=True)
    args = parser.parse_args()
    django.setup()
    figures: dict[str, float] = {}
    for name, kind, size in (("single", guard, 1), ("batch", guard, BATCH), ("reference", get_or_create, 1)):
        checks = args.checks * (5 if size > 1 else 1)
        miss, hit = rates(kind, f"{name}-", checks, args.processes, size)
        figures |= {f"{name}_misses_per_second": miss, f"{name}_hits_per_second": hit}
    report(checks=args.checks, processes=args.processes, threads=THREADS, batch=BATCH, **figures)


if __name__ == "__main__":
    main()
