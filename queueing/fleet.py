"""The register of workers: who is there, who has ended, who fell silent."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from django.conf import settings

from queueing.queue import Connection

# Names the django-q2 cluster that a process belongs to; set by `manage.py worker`, inherited by all its processes.
CLUSTER_VARIABLE = "OPSCONDUCTOR_CLUSTER"

# The lease of a worker whose process is known to be gone may end this soon: its warden kills what it left at once.
DEAD_LEASE_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Registration:
    worker_id: int
    cluster: str
    host: str
    pid: int

    @property
    def actor(self) -> str:
        """The name that events carry."""
        return f"worker:{self.host}/{self.pid}"


def cluster_name() -> str:
    return os.environ.get(CLUSTER_VARIABLE, "")


def register(connection: Connection, slots: int) -> Registration | None:
    """Add this process to the fleet, unless its cluster already has as many workers as it should have.

    The advisory lock makes two processes of one cluster take turns, so the count that each sees is true.
    """
    cluster, host, pid = cluster_name(), socket.gethostname(), os.getpid()
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('opsconductor fleet ' || %s, 0))", (cluster,))
        bury_dead(connection)
        row = connection.execute(
            "SELECT count(*) FROM queueing_worker WHERE cluster = %s AND stopped_at IS NULL", (cluster,)
        ).fetchone()
        if row and row[0] >= settings.WORKER_PROCESSES:
            return None
        row = connection.execute(
            "INSERT INTO queueing_worker (cluster, host, pid, version, slots) VALUES (%s, %s, %s, %s, %s) RETURNING id",
            (cluster, host, pid, settings.VERSION, slots),
        ).fetchone()
    assert row is not None
    return Registration(row[0], cluster, host, pid)


def standing(connection: Connection) -> int:
    """Return how many workers of this cluster are at work, after striking off those whose process is gone."""
    bury_dead(connection)
    row = connection.execute(
        "SELECT count(*) FROM queueing_worker WHERE cluster = %s AND stopped_at IS NULL", (cluster_name(),)
    ).fetchone()
    return row[0] if row else 0


def bury_dead(connection: Connection) -> None:
    """Strike off the workers of this cluster whose process is gone, and let their leases end at once.

    Process numbers are only compared within the cluster: its processes share a machine and a process table.
    """
    rows = connection.execute(
        "SELECT id, pid FROM queueing_worker WHERE cluster = %s AND stopped_at IS NULL", (cluster_name(),)
    ).fetchall()
    dead = [worker_id for worker_id, pid in rows if not _is_running(pid)]
    for worker_id in dead:
        strike_off(connection, worker_id, "Its process ended without a word.")


def strike_off(connection: Connection, worker_id: int, note: str) -> None:
    """Write that a worker is lost, and let its leases end as soon as its warden has killed what it ran."""
    end(connection, worker_id, "lost", note)
    # In the order of the ledger and of the heart, which may still be writing: see queue_renew.
    connection.execute(
        "WITH leased AS (SELECT execution_id FROM queueing_queueentry WHERE worker_id = %(worker)s"
        " AND state = 'leased' AND lease_expires_at > statement_timestamp() + make_interval(secs => %(seconds)s)"
        " ORDER BY execution_id FOR NO KEY UPDATE)"
        " UPDATE queueing_queueentry q"
        " SET lease_expires_at = statement_timestamp() + make_interval(secs => %(seconds)s)"
        " FROM leased WHERE q.execution_id = leased.execution_id",
        {"worker": worker_id, "seconds": DEAD_LEASE_SECONDS},
    )


def newest(connection: Connection) -> int:
    """Return the id of the worker of this cluster that registered last, ended or not; 0 when none has."""
    row = connection.execute(
        "SELECT coalesce(max(id), 0) FROM queueing_worker WHERE cluster = %s", (cluster_name(),)
    ).fetchone()
    return row[0] if row else 0


def end(connection: Connection, worker_id: int, state: str, note: str = "") -> None:
    """Write the end of a worker, once."""
    connection.execute(
        "UPDATE queueing_worker SET state = %s, stopped_at = statement_timestamp(), running = 0, note = %s"
        " WHERE id = %s AND stopped_at IS NULL",
        (state, note, worker_id),
    )


def bury_silent(connection: Connection) -> int:
    """Strike off workers, of any cluster, that have not beaten for three leases. Return how many."""
    return connection.execute(
        "UPDATE queueing_worker SET state = 'lost', stopped_at = statement_timestamp(), running = 0,"
        " note = 'It fell silent.'"
        " WHERE stopped_at IS NULL AND last_beat_at < statement_timestamp() - 3 * %s::interval",
        (settings.LEASE,),
    ).rowcount


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
