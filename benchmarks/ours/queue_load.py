"""Program: put no-op entries into the queue, then claim and finish them all in several processes; report the rates.

Finish is what the ledger does to an entry: lock its row, compare the token, free its locks, wake who waits for them,
delete it. Every claim and every finish is a durable transaction of its own.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django
import psycopg

from benchmarks.machine import percentile
from benchmarks.peers.report import report

FILL = 1000
# A token is never given twice, so to find it among ours is to compare it. The rows are found by id alone: given state
# or tokens too, the planner, whose statistics know of no leased entry, joins every lease with every entry.
FINISH = """
WITH locked AS (
    SELECT execution_id, token FROM queueing_queueentry
     WHERE execution_id = ANY (%b::bigint[]) ORDER BY execution_id FOR NO KEY UPDATE
), mine AS (SELECT array_agg(execution_id) AS ids FROM locked WHERE token = ANY (%b::bigint[]))
SELECT cardinality(ids), queue_release(ids) FROM mine
"""


def fill(entries: int, assets: int) -> float:
    """Enqueue `entries`, each with the exclusive lock of one of `assets` assets (0: no locks); entries a second."""
    from queueing import queue

    began = time.perf_counter()
    for start in range(1, entries + 1, FILL):
        queue.enqueue(
            [
                {
                    "execution_id": number,
                    "tenant_id": 1,
                    "priority": 5,
                    "not_before": None,
                    "max_attempts": 3,
                    "locks": [{"asset_id": number % assets + 1, "exclusive": True}] if assets else [],
                }
                for number in range(start, min(start + FILL, entries + 1))
            ]
        )
    return entries / (time.perf_counter() - began)


def drain(connection: psycopg.Connection[Any], worker_id: int, batch: int) -> tuple[int, list[float]]:
    """Claim and finish until nothing is left; the entries finished, and the seconds each claim took."""
    from queueing import queue

    finished, claims = 0, []
    while True:
        began = time.perf_counter()
        claim = queue.claim(connection, worker_id, batch, timedelta(seconds=30))
        claims.append(time.perf_counter() - began)
        if not claim.leases:
            if claim.looked == 0 and not left(connection):
                return finished, claims
            time.sleep(0.001)
            continue
        ids, tokens = [lease.execution_id for lease in claim.leases], [lease.token for lease in claim.leases]
        row = connection.execute(FINISH, (ids, tokens), prepare=True).fetchone()
        if row is None or row[0] != len(ids):
            raise SystemExit(f"a lease was lost: {row} of {len(ids)} entries were finished")
        finished += len(ids)


def left(connection: psycopg.Connection[Any]) -> bool:
    """Whether the queue holds any entry still."""
    row = connection.execute("SELECT EXISTS (SELECT FROM queueing_queueentry)").fetchone()
    return bool(row and row[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--assets", type=int, default=0)
    args = parser.parse_args()

    django.setup()
    from benchmarks.ours.together import analyze, register, together
    from queueing import fleet
    from queueing.connections import connect

    os.environ[fleet.CLUSTER_VARIABLE] = "benchmark"
    enqueued = fill(args.entries, args.assets)
    analyze()

    def work(ready: Callable[[], None]) -> tuple[int, list[float]]:
        connection = connect("benchmark")
        worker_id = register(connection, args.batch)
        ready()
        return drain(connection, worker_id, args.batch)

    finished, seconds, claims = together(args.processes, work)
    if finished != args.entries:
        raise SystemExit(f"{args.entries} entries were put in, {finished} finished")
    report(
        enqueue_per_second=enqueued,
        process_per_second=finished / seconds,
        claim_ms_p50=percentile(claims, 50) * 1000,
        claim_ms_p99=percentile(claims, 99) * 1000,
        entries=args.entries,
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
