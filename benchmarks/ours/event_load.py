"""Program: write durable events through the ledger, in several processes that each hold many executions; the rate.

An event counts when the ledger says that it is committed. A round is one event for each execution of the process,
handed over one by one as running executions do it; the next round begins when the last is durable.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Callable
from datetime import timedelta

import django

from benchmarks.machine import percentile
from benchmarks.peers.report import report


async def write(worker_id: int, leases: list[tuple[int, int]], rounds: int) -> list[float]:
    """Write `rounds` events for each of the leases (execution, token); the seconds that each round took."""
    from executions.engine.ledger import Ledger, Record

    lost: list[int] = []
    ledger = Ledger(worker_id, lost.append)
    seconds = []
    try:
        for number in range(rounds):
            began = time.perf_counter()
            records = [
                Record(
                    execution_id,
                    token,
                    events=[{"kind": "benchmark.event", "actor": "benchmark", "reason": "", "data": {"round": number}}],
                )
                for execution_id, token in leases
            ]
            await asyncio.gather(*(ledger.commit(record) for record in records))
            seconds.append(time.perf_counter() - began)
    finally:
        await ledger.close()
    if lost:
        raise SystemExit(f"{len(lost)} leases were lost")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, required=True, help="held by each process")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    django.setup()
    from benchmarks.ours.together import register, together
    from queueing import fleet, queue
    from queueing.connections import connect

    os.environ[fleet.CLUSTER_VARIABLE] = "benchmark"

    def work(ready: Callable[[], None]) -> tuple[int, list[float]]:
        with connect("benchmark") as connection:
            worker_id = register(connection, args.executions)
            claim = queue.claim(connection, worker_id, args.executions, timedelta(seconds=120))
        leases = [(lease.execution_id, lease.token) for lease in claim.leases]
        ready()
        return len(leases) * args.rounds, asyncio.run(write(worker_id, leases, args.rounds))

    events, seconds, rounds = together(args.processes, work)
    expected = args.processes * args.executions * args.rounds
    if events != expected:
        raise SystemExit(f"{events} events were written, {expected} expected: were too few executions claimed?")
    report(
        events=events,
        seconds=seconds,
        events_per_second=events / seconds,
        round_ms_p50=percentile(rounds, 50) * 1000,
        round_ms_p99=percentile(rounds, 99) * 1000,
        executions=args.processes * args.executions,
        processes=args.processes,
    )


if __name__ == "__main__":
    main()
