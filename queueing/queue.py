"""The queue's verbs in Python: thin calls of the functions in sql/queue.sql.

Doors use them through Django's connection, inside their own transaction. Workers have connections of their own and pass
them in (`connection=`); those are in autocommit, so each call is one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import psycopg
from django.conf import settings
from django.db import connection as django_connection
from django.db import transaction

from queueing.models import EntryState, QueueEntry

log = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to one execution. `token` is also the fencing number of its locks.

    attempt        number of this try, from 1
    attempts_left  below 0: every attempt that counts is used up; the execution must not run again
    """

    execution_id: int
    token: int
    attempt: int
    attempts_left: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim gave. `looked` entries were ready; those without a lease were parked, or are looked at elsewhere."""

    looked: int
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Renewal:
    """held: executions whose lease goes on; cancel: wishes to stop, by execution; state: the worker's, None if gone."""

    held: frozenset[int]
    cancel: dict[int, str]
    state: str | None


def enqueue(entries: Sequence[dict[str, Any]]) -> None:
    """Put executions into the queue; see queue_enqueue for the shape. Part of the caller's transaction."""
    with transaction.atomic(), django_connection.cursor() as cursor:
        cursor.execute(
            "SELECT queue_enqueue(%s::jsonb, %s::interval)",
            [orjson.dumps(list(entries)).decode(), str(settings.QUEUE_AGEING)],
        )


def remove(execution_ids: Sequence[int]) -> list[int]:
    """Take waiting executions out of the queue; return those that were waiting. Part of the caller's transaction."""
    with transaction.atomic(), django_connection.cursor() as cursor:
        cursor.execute("SELECT queue_remove(%s::bigint[])", [list(execution_ids)])
        row = cursor.fetchone()
    return list(row[0]) if row else []


def ask_to_cancel(execution_id: int, reason: str) -> int:
    """Leave the wish to stop with the lease and tell the worker, at commit. Return how many were leased: 0 or 1.

    The first wish stays. Part of the caller's transaction.
    """
    with transaction.atomic(), django_connection.cursor() as cursor:
        asked = QueueEntry.objects.filter(pk=execution_id, state=EntryState.LEASED, cancel_reason__isnull=True).update(
            cancel_reason=reason
        )
        if asked:
            cursor.execute("SELECT pg_notify('opsconductor_control', 'cancel')")
    return asked


def hasten(execution_id: int) -> bool:
    """Spare a waiting entry the rest of its backoff; return whether it waits. Part of the caller's transaction.

    Until that ends, nobody can claim it.
    """
    with transaction.atomic(), django_connection.cursor() as cursor:
        cursor.execute(
            "UPDATE queueing_queueentry SET available_at = least(available_at, statement_timestamp())"
            " WHERE execution_id = %s AND state <> 'leased'",
            [execution_id],
        )
        waits: bool = cursor.rowcount == 1
        if waits:
            cursor.execute("SELECT pg_notify('opsconductor_queue', '')")
    return waits


def claim(connection: Connection, worker_id: int, limit: int, lease: timedelta) -> Claim:
    """Lease up to `limit` ready entries to a worker, each with all its locks."""
    row = connection.execute("SELECT queue_claim(%s, %s, %s)::text", (worker_id, limit, lease), prepare=True).fetchone()
    answer: dict[str, Any] = orjson.loads(row[0]) if row else {"looked": 0, "leases": []}
    return Claim(
        answer["looked"],
        tuple(
            Lease(one["execution_id"], one["token"], one["attempt"], one["attempts_left"]) for one in answer["leases"]
        ),
    )


def renew(
    connection: Connection,
    worker_id: int,
    execution_ids: Sequence[int],
    lease: timedelta,
    *,
    running: int,
    finished: int,
    rss_bytes: int,
) -> Renewal:
    """Lengthen the leases that the worker knows of, beat, and learn what is wished of it."""
    row = connection.execute(
        "SELECT queue_renew(%s, %s::bigint[], %s, %s, %s, %s)::text",
        (worker_id, list(execution_ids), lease, running, finished, rss_bytes),
        prepare=True,
    ).fetchone()
    answer: dict[str, Any] = orjson.loads(row[0]) if row else {"held": [], "cancel": [], "state": None}
    return Renewal(
        frozenset(answer["held"]), {c["execution_id"]: c["reason"] for c in answer["cancel"]}, answer["state"]
    )


def cancel_wishes(connection: Connection, worker_id: int) -> dict[int, str]:
    """Return which of the worker's executions somebody wants stopped, and why."""
    rows = connection.execute(
        "SELECT execution_id, cancel_reason FROM queueing_queueentry"
        " WHERE worker_id = %s AND state = 'leased' AND cancel_reason IS NOT NULL",
        (worker_id,),
    ).fetchall()
    return dict(rows)


def reap(connection: Connection, limit: int = 500) -> list[int]:
    """Take away leases that ran out; return the executions. Their next attempt waits for its backoff."""
    row = connection.execute("SELECT queue_reap(%s, %s)", (limit, settings.QUEUE_AGEING)).fetchone()
    reaped = list(row[0]) if row else []
    if reaped:
        log.warning("Took %d executions back from workers whose lease ran out: %s", len(reaped), reaped[:20])
    return reaped


def promote(connection: Connection, limit: int = 500) -> int:
    """Bring delayed entries whose time has come into the line; return how many."""
    row = connection.execute("SELECT queue_promote(%s)", (limit,), prepare=True).fetchone()
    return row[0] if row else 0
