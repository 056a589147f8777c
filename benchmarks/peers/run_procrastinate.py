"""procrastinate: let one worker process do a queue of no-ops, then enqueue more of them one by one and in batches.

The rate is the database's own: from the first "started" event to the last "succeeded" one, both written by
procrastinate's triggers. So the start of the worker is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from datetime import datetime
from typing import Any

import psycopg
from procrastinate import App, PsycopgConnector

from benchmarks.peers.report import report

BATCH = 1000


async def finished(app: Any, queue: str) -> int:
    """How many jobs of the queue ended well."""
    row = await app.connector.execute_query_one_async(
        "SELECT count(*) AS done FROM procrastinate_jobs WHERE queue_name = %(queue)s AND status = 'succeeded'",
        queue=queue,
    )
    return int(row["done"])


async def enqueue_rates(task: Any, singles: int, jobs: int) -> tuple[float, float]:
    """Jobs per second deferred one by one and in batches; on a queue that no worker reads."""
    deferrer = task.configure(queue="unread")
    began = time.perf_counter()
    for _ in range(singles):
        await deferrer.defer_async()
    single = singles / (time.perf_counter() - began)
    began = time.perf_counter()
    for start in range(0, jobs, BATCH):
        await deferrer.batch_defer_async(*[{}] * min(BATCH, jobs - start))
    return single, jobs / (time.perf_counter() - began)


async def process(app: Any, task: Any, jobs: int, concurrency: int, deadline_seconds: float) -> None:
    """Fill the queue "work", start a worker on it, wait until all are done."""
    await task.configure(queue="work").batch_defer_async(*[{}] * jobs)
    # Autovacuum would do it within a minute; without statistics the worker's search takes twice as long.
    await app.connector.execute_query_async("ANALYZE")
    worker = asyncio.create_task(
        app.run_worker_async(queues=["work"], concurrency=concurrency, install_signal_handlers=False)
    )
    deadline = time.monotonic() + deadline_seconds
    while await finished(app, "work") < jobs:
        if time.monotonic() > deadline or worker.done():
            raise SystemExit(f"{await finished(app, 'work')} of {jobs} jobs done when the time was over")
        await asyncio.sleep(0.1)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


def seconds_of_work(database_url: str) -> float:
    """From the first start to the last success, as the events of queue "work" have it."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT min(at) FILTER (WHERE type = 'started'), max(at) FILTER (WHERE type = 'succeeded')"
            " FROM procrastinate_events JOIN procrastinate_jobs AS job ON job.id = job_id WHERE queue_name = 'work'"
        ).fetchone()
    first: datetime
    last: datetime
    first, last = row  # type: ignore[misc]
    return (last - first).total_seconds()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--deadline-seconds", type=float, default=60.0)
    args = parser.parse_args()

    app = App(connector=PsycopgConnector(conninfo=args.database_url))

    @app.task(name="noop")
    async def noop() -> None:
        return None

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await process(app, noop, args.jobs, args.concurrency, args.deadline_seconds)
        # Afterwards: jobs that wait in another queue would slow the worker's search for its own.
        single, bulk = await enqueue_rates(noop, min(500, args.jobs), args.jobs)
    report(
        jobs=args.jobs,
        enqueue_per_second=single,
        bulk_enqueue_per_second=bulk,
        process_per_second=args.jobs / seconds_of_work(args.database_url),
        details={"concurrency": args.concurrency, "processes": 1},
    )


if __name__ == "__main__":
    asyncio.run(main())
