"""Program: claim batches of several sizes and say how long the claims took; what was claimed is finished."""

from __future__ import annotations

import argparse
import os
import time
from datetime import timedelta

import django

from benchmarks.machine import percentile
from benchmarks.ours.queue_load import FINISH
from benchmarks.peers.report import report

WARM_UP = 10  # the plans inside of the functions become generic ones after some calls
ALONE_FROM = 100_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument(
        "--alone", action="store_true", help="put in before each claim what it takes: nothing else waits"
    )
    args = parser.parse_args()
    django.setup()
    from benchmarks.ours.together import register
    from queueing import fleet, queue
    from queueing.connections import connect

    os.environ[fleet.CLUSTER_VARIABLE] = "benchmark"
    number = ALONE_FROM
    figures: dict[str, float] = {}
    with connect("benchmark") as connection:
        worker_id = register(connection, max(args.batches))
        for batch in args.batches:
            seconds = []
            for round_number in range(WARM_UP + args.rounds):
                if args.alone:
                    entries = [
                        {
                            "execution_id": number + n,
                            "tenant_id": 1,
                            "priority": 5,
                            "not_before": None,
                            "max_attempts": 3,
                            "locks": [{"asset_id": number + n, "exclusive": True}],
                        }
                        for n in range(batch)
                    ]
                    queue.enqueue(entries)
                    number += batch
                began = time.perf_counter()
                claim = queue.claim(connection, worker_id, batch, timedelta(seconds=60))
                if round_number >= WARM_UP:
                    seconds.append(time.perf_counter() - began)
                if len(claim.leases) != batch:
                    raise SystemExit(f"{len(claim.leases)} entries were claimed, {batch} expected")
                ids, tokens = [lease.execution_id for lease in claim.leases], [lease.token for lease in claim.leases]
                connection.execute(FINISH, (ids, tokens), prepare=True)
            figures[f"claim_{batch}_ms_p50"] = percentile(seconds, 50) * 1000
            figures[f"claim_{batch}_ms_p99"] = percentile(seconds, 99) * 1000
    report(rounds=args.rounds, **figures)


if __name__ == "__main__":
    main()
