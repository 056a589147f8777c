"""pgqueuer: enqueue no-ops one by one and in batches, then drain a filled queue in one process with one driver.

The drain runs from the first call of the no-op until `run` returns, when every job is logged as successful.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import asynccontextmanager
from typing import Any

import asyncpg  # type: ignore[import-not-found]
import psycopg
from pgqueuer import QueueManager
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from benchmarks.peers.report import report

ENQUEUE_BATCH = 1000


@asynccontextmanager
async def queries(driver: str, database_url: str) -> Any:
    """pgqueuer's queries over one connection of the given driver."""
    if driver == "asyncpg":
        connection = await asyncpg.connect(database_url)
        yield Queries.from_asyncpg_connection(connection)
        await connection.close()
    else:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
            yield Queries.from_psycopg_connection(other)


async def enqueue_rates(store: Any, singles: int, jobs: int) -> tuple[float, float]:
    """Jobs per second put in one by one (`singles` of them) and in batches (the rest of `jobs`)."""
    began = time.perf_counter()
    for _ in range(singles):
        await store.enqueue("noop", None)
    single = singles / (time.perf_counter() - began)
    rest = jobs - singles
    began = time.perf_counter()
    for start in range(0, rest, ENQUEUE_BATCH):
        size = min(ENQUEUE_BATCH, rest - start)
        await store.enqueue(["noop"] * size, [None] * size, [0] * size)
    return single, rest / (time.perf_counter() - began)


async def drain_seconds(store: Any, batch_size: int) -> tuple[float, int]:
    """Run the queue empty; return the seconds from the first call to the end, and the calls made."""
    manager = QueueManager(store)
    first: list[float] = []
    calls = 0

    @manager.entrypoint("noop")
    async def noop(job: Any) -> None:
        nonlocal calls
        calls += 1
        if not first:
            first.append(time.perf_counter())

    await manager.run(mode=QueueExecutionMode.drain, batch_size=batch_size)
    return time.perf_counter() - first[0], calls


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--driver", choices=["asyncpg", "psycopg"], required=True)
    parser.add_argument("--batch-size", type=int, default=100)
    args = parser.parse_args()

    async with queries(args.driver, args.database_url) as store:
        await store.install()
        single, bulk = await enqueue_rates(store, min(1000, args.jobs // 4), args.jobs)
    with psycopg.connect(args.database_url) as connection:
        connection.execute("ANALYZE")  # Autovacuum would do it within a minute.
    # `run` closes the connection it was given, so the drain has one of its own.
    async with queries(args.driver, args.database_url) as store:
        seconds, calls = await drain_seconds(store, args.batch_size)
    with psycopg.connect(args.database_url) as connection:
        rows = connection.execute("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'").fetchall()
    done = rows[0][0]
    if not calls == done == args.jobs:
        raise SystemExit(f"{args.jobs} jobs were put in, {calls} called, {done} logged as successful")
    report(
        jobs=args.jobs,
        enqueue_per_second=single,
        bulk_enqueue_per_second=bulk,
        process_per_second=args.jobs / seconds,
        details={"driver": args.driver, "batch_size": args.batch_size, "processes": 1},
    )


if __name__ == "__main__":
    asyncio.run(main())
