"""celery on Redis: enqueue no-ops one by one, then let a running prefork worker do them.

The jobs wait in a queue that the worker does not read; the clock starts when it is told to read it, and stops when
the worker has counted all of them and Redis holds none, neither waiting nor unacknowledged. Results are not stored.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import redis  # type: ignore[import-not-found]
from celery import Celery

from benchmarks.peers.report import rate_of, report

QUEUE = "work"


def build_app(socket: str) -> Celery:
    """A celery application on the Redis behind a unix socket, which stores no results."""
    app = Celery("peer", broker=f"redis+socket://{socket}")
    app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)

    @app.task(name="noop")
    def noop() -> None:
        return None

    return app


def worker_ready(app: Celery, worker: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait until the worker answers a ping."""
    while not app.control.ping(timeout=0.3):
        if time.monotonic() > deadline or worker.poll() is not None:
            raise SystemExit("the celery worker did not come up")


def counted(app: Celery) -> int:
    """How many no-ops the worker says it was given."""
    answers = app.control.inspect(timeout=2.0).stats() or {}
    return sum(int(stats["total"].get("noop", 0)) for stats in answers.values())


def drain_seconds(app: Celery, store: redis.Redis, deadline: float) -> float:
    """Tell the worker to read the queue; return the seconds until nothing of it is left."""
    began = time.perf_counter()
    app.control.add_consumer(QUEUE)
    while store.llen(QUEUE) or store.hlen("unacked"):
        if time.monotonic() > deadline:
            raise SystemExit(f"{store.llen(QUEUE)} jobs were left when the time was over")
        time.sleep(0.002)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True, help="unix socket of the Redis server")
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--deadline-seconds", type=float, default=60.0)
    parser.add_argument("--worker", action="store_true", help="be the worker")
    args = parser.parse_args()
    app = build_app(args.socket)
    if args.worker:
        app.worker_main(
            [
                "worker",
                "--pool=prefork",
                f"--concurrency={args.processes}",
                "--queues=unused",
                "--loglevel=WARNING",
                "--without-gossip",
                "--without-mingle",
            ]
        )
        return

    deadline = time.monotonic() + args.deadline_seconds
    store = redis.Redis(unix_socket_path=args.socket)
    task = app.tasks["noop"]
    command = [sys.executable, "-m", "benchmarks.peers.run_celery", *sys.argv[1:], "--worker"]
    with subprocess.Popen(command) as worker:
        try:
            worker_ready(app, worker, deadline)
            rate = rate_of(args.jobs, lambda: [task.apply_async(queue=QUEUE) for _ in range(args.jobs)])
            seconds = drain_seconds(app, store, deadline)
            done = counted(app)
        finally:
            worker.terminate()
            worker.wait(15)
    if done != args.jobs:
        raise SystemExit(f"{args.jobs} jobs were put in, the worker counted {done}")
    report(
        jobs=args.jobs,
        enqueue_per_second=rate,
        process_per_second=args.jobs / seconds,
        details={"processes": args.processes, "pool": "prefork", "results": "ignored", "redis": "no persistence"},
    )


if __name__ == "__main__":
    main()
