"""The queue's verbs in Python: thin calls of the functions in sql/queue.sql.

Doors use them through Django's connection, inside their own transaction. Workers have connections of their own and pass
them in (`connection=`); those are in autocommit, so each call is one transaction.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict

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


class Figures(TypedDict):
    """What a worker says of itself with every beat.

    finished, failed  since it began; `failed` is those of `finished` that did not succeed
    loop_lag_ms       how late its event loop turned at worst since the last beat, in milliseconds
    renewal_ms        how long its last renewal took, in milliseconds
    """

    running: int
    finished: int
    failed: int
    rss_bytes: int
    loop_lag_ms: int
    renewal_ms: int


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is wished of a worker. cancel: executions to stop, and why.

    state: active, draining (claim nothing, go on), stopping (hand back and end); None: it was struck off the register.
    """

    cancel: dict[int, str]
    state: str | None


@dataclass(frozen=True, slots=True)
class Renewal(Wishes):
    """held: executions whose lease goes on."""

    held: frozenset[int]


class Suspects(enum.StrEnum):
    """Which entries a claim is for: NONE that a worker has died of; or only such, ANY, or with a SPARE attempt left."""

    NONE = ""
    SPARE = "spare"
    ANY = "any"


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


def revoke(execution_id: int, reason: str) -> bool:
    """Have the lease of an execution end, and with it its locks; return whether it was leased.

    Its worker is asked to stop it, and may renew the lease no longer than for another third of one: so nobody gets the
    locks while its commands could still run. Part of the caller's transaction.
    """
    with transaction.atomic(), django_connection.cursor() as cursor:
        cursor.execute("SELECT queue_revoke(%s, %s)", [execution_id, reason])
        row = cursor.fetchone()
    return bool(row and row[0])


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


def claim(
    connection: Connection, worker_id: int, limit: int, lease: timedelta, suspects: Suspects = Suspects.NONE
) -> Claim:
    """Lease up to `limit` ready entries that a worker serves to it, each with all its locks."""
    row = connection.execute(
        "SELECT queue_claim(%s, %s, %s, %s)::text", (worker_id, limit, lease, str(suspects)), prepare=True
    ).fetchone()
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
    figures: Figures,
) -> Renewal:
    """Lengthen the leases that the worker knows of, beat, and learn what is wished of it."""
    row = connection.execute(
        "SELECT queue_renew(%s, %s::bigint[], %s, %s::jsonb)::text",
        (worker_id, list(execution_ids), lease, orjson.dumps(figures).decode()),
        prepare=True,
    ).fetchone()
    answer: dict[str, Any] = orjson.loads(row[0]) if row else {"held": [], "cancel": [], "state": None}
    return Renewal(
        cancel={c["execution_id"]: c["reason"] for c in answer["cancel"]},
        state=answer["state"],
        held=frozenset(answer["held"]),
    )


def wishes(connection: Connection, worker_id: int) -> Wishes:
    """Return which of the worker's executions somebody wants stopped, and what is wished of the worker itself."""
    rows = connection.execute(
        "SELECT CASE WHEN w.state = 'active' AND w.draining THEN 'draining' ELSE w.state END, q.execution_id,"
        " q.cancel_reason FROM queueing_worker w LEFT JOIN queueing_queueentry q"
        " ON q.worker_id = w.id AND q.state = 'leased' AND q.cancel_reason IS NOT NULL"
        " WHERE w.id = %s AND w.stopped_at IS NULL",
        (worker_id,),
    ).fetchall()
    return Wishes({row[1]: row[2] for row in rows if row[1] is not None}, rows[0][0] if rows else None)


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
