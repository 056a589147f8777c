"""Several processes that begin a piece of work at the same moment."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from queue import Empty

import psycopg
from django.conf import settings
from django.db import connections

TIMEOUT_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one process did: so many pieces, from when to when (monotonic clock), and how long each of some took."""

    done: int
    began: float
    ended: float
    seconds: list[float]


# Gets ready, calls the function it is given to wait for the others, and returns pieces done and single durations.
Work = Callable[[Callable[[], None]], tuple[int, list[float]]]


def _process(work: Work, start: Barrier, shares: Queue[Share]) -> None:
    began = 0.0

    def ready() -> None:
        nonlocal began
        start.wait(TIMEOUT_SECONDS)
        began = time.monotonic()

    done, seconds = work(ready)
    shares.put(Share(done, began, time.monotonic(), seconds))


def together(processes: int, work: Work) -> tuple[int, float, list[float]]:
    """Run `work` in so many forked processes; pieces done, seconds from first start to last end, single durations.

    Ends the program when one of them does not answer in time. Django's connections are closed first: no two processes
    may share one.
    """
    connections.close_all()
    connections["default"].close_pool()  # type: ignore[attr-defined]
    context = multiprocessing.get_context("fork")
    start = context.Barrier(processes)
    shares: Queue[Share] = context.Queue()
    children = [context.Process(target=_process, args=(work, start, shares), daemon=True) for _ in range(processes)]
    for child in children:
        child.start()
    try:
        answers = [shares.get(timeout=TIMEOUT_SECONDS) for _ in children]
    except Empty:
        raise SystemExit("one of the processes did not answer in time") from None
    for child in children:
        child.join(10)
    seconds = max(share.ended for share in answers) - min(share.began for share in answers)
    return sum(share.done for share in answers), seconds, [one for share in answers for one in share.seconds]


def analyze() -> None:
    """Gather statistics, as autovacuum would within a minute."""
    from queueing.connections import connect

    with connect("benchmark") as connection:
        connection.execute("ANALYZE")


def register(connection: psycopg.Connection[object], slots: int) -> int:
    """Join the fleet of the benchmark's own cluster; return the worker's id."""
    from queueing import fleet

    fleet.open_cluster(connection)
    registration = fleet.register(connection, slots, (), isolation=False)
    if registration is None:
        raise SystemExit(f"the fleet is complete with {settings.WORKER_PROCESSES} workers")
    return registration.worker_id
