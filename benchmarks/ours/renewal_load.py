"""Program: renew the leases of one worker again and again, in one statement and one by one; how long each took."""

from __future__ import annotations

import argparse
import os
import time
from datetime import timedelta

import django

from benchmarks.machine import percentile
from benchmarks.ours.queue_load import fill
from benchmarks.peers.report import report

LEASE = timedelta(seconds=600)
ONE = """
UPDATE queueing_queueentry SET lease_expires_at = statement_timestamp() + %s
 WHERE execution_id = %s AND token = %s AND state = 'leased' AND lease_expires_at > statement_timestamp()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leases", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    django.setup()
    from benchmarks.ours.together import analyze, register
    from queueing import fleet, queue
    from queueing.connections import connect

    os.environ[fleet.CLUSTER_VARIABLE] = "benchmark"
    fill(args.leases, 0)
    analyze()
    beat: queue.Figures = {
        "running": args.leases, "finished": 0, "failed": 0, "rss_bytes": 0, "loop_lag_ms": 0, "renewal_ms": 0,
    }  # fmt: skip
    together, one_by_one = [], []
    with connect("benchmark") as connection:
        worker_id = register(connection, args.leases)
        leases = queue.claim(connection, worker_id, args.leases, LEASE).leases
        ids = [lease.execution_id for lease in leases]
        for _ in range(args.rounds):
            # In turn, so that both have the same table.
            began = time.perf_counter()
            renewed = queue.renew(connection, worker_id, ids, LEASE, beat)
            together.append(time.perf_counter() - began)
            if len(renewed.held) != args.leases:
                raise SystemExit(f"{len(renewed.held)} of {args.leases} leases were renewed")
            began = time.perf_counter()
            with connection.transaction():
                for lease in leases:
                    connection.execute(ONE, (LEASE, lease.execution_id, lease.token), prepare=True)
            one_by_one.append(time.perf_counter() - began)
    report(
        leases=args.leases,
        rounds=args.rounds,
        together_ms_p50=percentile(together, 50) * 1000,
        together_ms_p99=percentile(together, 99) * 1000,
        one_by_one_ms_p50=percentile(one_by_one, 50) * 1000,
        one_by_one_ms_p99=percentile(one_by_one, 99) * 1000,
    )


if __name__ == "__main__":
    main()
