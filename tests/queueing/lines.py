"""Entries, lines and workers as the tests of the queue make and read them. Times are moved, not waited for."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F

from queueing import queue
from queueing.models import AssetLock, QueueEntry, Worker
from queueing.queue import Claim, Connection

# For tests with several connections: what they do is committed, and taken away afterwards.
several = pytest.mark.django_db(transaction=True)

LEASE = timedelta(seconds=30)
_pids = itertools.count(100_000)


def new_worker(**fields: Any) -> int:
    values = {"cluster": "test", "host": "host", "pid": next(_pids), "version": "0", "slots": 10, **fields}
    return Worker.objects.create(**values).pk


def entry(
    execution_id: int,
    *exclusive: int,
    shared: Iterable[int] = (),
    priority: int = 5,
    not_before: datetime | None = None,
    max_attempts: int = 3,
) -> dict[str, Any]:
    """An entry in the shape of queue_enqueue: `exclusive` and `shared` are assets."""
    locks = [{"asset_id": asset, "exclusive": True} for asset in exclusive]
    locks += [{"asset_id": asset, "exclusive": False} for asset in shared]
    return {
        "execution_id": execution_id,
        "tenant_id": 1,
        "priority": priority,
        "not_before": not_before.isoformat() if not_before else None,
        "max_attempts": max_attempts,
        "locks": locks,
    }


def enqueue(*entries: dict[str, Any]) -> None:
    """One after the other, so that each has a place of its own, in this order."""
    for one in entries:
        queue.enqueue([one])


def claim_ids(connection: Connection, worker: int, limit: int = 100) -> list[int]:
    return [lease.execution_id for lease in queue.claim(connection, worker, limit, LEASE).leases]


def claim_one(connection: Connection, worker: int) -> queue.Lease:
    claim: Claim = queue.claim(connection, worker, 1, LEASE)
    assert len(claim.leases) == 1, claim
    return claim.leases[0]


def finish(connection: Connection, *execution_ids: int) -> None:
    """End leased entries as the ledger does: their rows are locked, then they are released."""
    with connection.transaction():
        connection.execute(
            "SELECT FROM queueing_queueentry WHERE execution_id = ANY (%s) ORDER BY execution_id FOR NO KEY UPDATE",
            (list(execution_ids),),
        )
        connection.execute("SELECT queue_release(%s::bigint[])", (list(execution_ids),))


def give_back(connection: Connection, execution_id: int, *, delay: float = 0.0, attempt: bool = True) -> None:
    """Return a leased entry as the ledger does, with or without the attempt that its claim counted."""
    with connection.transaction():
        connection.execute("SELECT FROM queueing_queueentry WHERE execution_id = %s FOR NO KEY UPDATE", (execution_id,))
        connection.execute(
            "SELECT queue_return(jsonb_build_array(jsonb_build_object('execution_id', %s::bigint, 'delay_seconds',"
            " %s::float8, 'give_back', %s::bool)), %s)",
            (execution_id, delay, attempt, settings.QUEUE_AGEING),
        )


def move_back(seconds: float, *execution_ids: int) -> None:
    """Let entries be as they were, had they been put into the queue that much earlier."""
    for one in QueueEntry.objects.filter(pk__in=execution_ids):
        shift = timedelta(seconds=seconds)
        QueueEntry.objects.filter(pk=one.pk).update(
            place=one.place - shift, available_at=one.available_at - shift, ready_at=F("ready_at") - shift
        )
        AssetLock.objects.filter(execution_id=one.pk).update(place=one.place - shift)


def expire_leases(*execution_ids: int) -> None:
    for one in QueueEntry.objects.filter(pk__in=execution_ids, state="leased"):
        assert one.lease_expires_at is not None
        QueueEntry.objects.filter(pk=one.pk).update(lease_expires_at=one.lease_expires_at - timedelta(hours=1))


def states() -> dict[int, str]:
    return dict(QueueEntry.objects.values_list("execution_id", "state"))


def locks_of(execution_id: int) -> dict[int, str]:
    return dict(AssetLock.objects.filter(execution_id=execution_id).values_list("asset_id", "state"))


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Call all of them at the same moment, each in a thread; return what each returned or raised, in order."""
    barrier = threading.Barrier(len(calls))
    answers: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            barrier.wait(timeout=10)
            answers[number] = calls[number]()
        except BaseException as error:
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "one of the calls did not end within a minute"
    return answers
