"""The register of clusters and workers: who is there, how many there should be, who has ended, who fell silent.

A cluster is one `manage.py worker` on a host; its parent process, django-q2's, starts and supervises worker processes.
Everything here is called by the processes of a cluster, over connections of their own; doors use queueing/pool.py.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from queueing.queue import Connection

# Names the django-q2 cluster that a process belongs to; set by `manage.py worker`, inherited by all its processes.
CLUSTER_VARIABLE = "OPSCONDUCTOR_CLUSTER"

# Names a file that a process holds a shared lock of while it is at work, so that whoever gets the exclusive one knows
# that none is, however it ended. Set by `manage.py worker`.
AT_WORK_VARIABLE = "OPSCONDUCTOR_AT_WORK"

# How many `work` calls the processes of this cluster have taken up; made before they are forked, so all of them count
# in it. Two that count at once may count as one: what matters is that it moves.
calls_taken = multiprocessing.get_context("fork").RawValue("L", 0)

# The lease of a worker whose process is known to be gone may end this soon: its warden kills what it left at once.
DEAD_LEASE_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Registration:
    worker_id: int
    cluster: str
    host: str
    pid: int
    slots: int
    isolation: bool

    @property
    def actor(self) -> str:
        """The name that events carry."""
        return f"worker:{self.host}/{self.pid}"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a cluster looks like to its broker.

    present    processes of it that are workers now, those included that are on their way out
    workers    of these at work, without those that were told to stop and the one that runs suspects apart
    isolation  whether one of its workers runs suspects apart from the others
    suspects   whether entries wait that are to be run apart, and that it serves
    """

    present: int
    workers: int
    isolation: bool
    suspects: bool


def cluster_name() -> str:
    return os.environ.get(CLUSTER_VARIABLE, "")


def register(
    connection: Connection, slots: int, capabilities: Sequence[str], *, isolation: bool
) -> Registration | None:
    """Add this process to the fleet, unless its cluster already has as many workers as it should have.

    The cluster's row makes two of its processes take turns, so the count that each sees is true.
    """
    cluster, host, pid = cluster_name(), socket.gethostname(), os.getpid()
    with connection.transaction():
        row = connection.execute(
            "SELECT processes, draining FROM queueing_cluster WHERE name = %s AND stopped_at IS NULL FOR UPDATE",
            (cluster,),
        ).fetchone()
        drained = bool(row and row[1])
        bury_dead(connection)
        wanted = 1 if isolation else (row[0] if row else 0)
        if _count(connection, cluster, isolation=isolation) >= wanted:
            return None
        # Whoever takes the place of a worker that was draining when it ended, or stepped down, drains as well.
        draining = connection.execute(
            "UPDATE queueing_worker SET draining = false WHERE id = (SELECT min(id) FROM queueing_worker"
            " WHERE cluster = %s AND state <> 'active' AND draining AND isolation = %s)",
            (cluster, isolation),
        ).rowcount
        row = connection.execute(
            "INSERT INTO queueing_worker"
            " (cluster, host, pid, version, slots, pools, regions, capabilities, isolation, draining)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
            (
                cluster, host, pid, settings.VERSION, slots, settings.WORKER_POOLS, settings.WORKER_REGIONS,
                list(capabilities), isolation, drained or draining == 1,
            ),
        ).fetchone()  # fmt: skip
    assert row is not None
    return Registration(row[0], cluster, host, pid, slots, isolation)


STANDING = """
SELECT count(*), count(*) FILTER (WHERE state = 'active' AND NOT isolation),
       count(*) FILTER (WHERE state = 'active' AND isolation) > 0,
       EXISTS (SELECT FROM queueing_queueentry q
                WHERE q.state = 'ready' AND q.losses > 0 AND queue_serves(%(pools)s, %(regions)s, q.pool, q.region)
                  AND NOT EXISTS (SELECT FROM queueing_pool p WHERE p.name = q.pool AND p.paused)
                  AND NOT EXISTS (SELECT FROM queueing_queuecontrol WHERE draining))
  FROM queueing_worker WHERE cluster = %(cluster)s AND stopped_at IS NULL
"""


def standing(connection: Connection) -> Standing:
    """Return who of this cluster is at work, after striking off those whose process is gone."""
    bury_dead(connection)
    labels = {"pools": settings.WORKER_POOLS, "regions": settings.WORKER_REGIONS}
    row = connection.execute(STANDING, {"cluster": cluster_name(), **labels}).fetchone()
    assert row is not None
    return Standing(*row)


def _count(connection: Connection, cluster: str, *, isolation: bool) -> int:
    row = connection.execute(
        "SELECT count(*) FROM queueing_worker WHERE cluster = %s AND stopped_at IS NULL AND state = 'active'"
        " AND isolation = %s",
        (cluster, isolation),
    ).fetchone()
    return row[0] if row else 0


def bury_dead(connection: Connection) -> None:
    """Strike off the workers of this cluster whose process is gone, and let their leases end at once.

    Process numbers are only compared within the cluster: its processes share a machine and a process table.
    """
    rows = connection.execute(
        "SELECT id, pid FROM queueing_worker WHERE cluster = %s AND stopped_at IS NULL", (cluster_name(),)
    ).fetchall()
    for worker_id, pid in rows:
        if not _is_running(pid):
            why = _last_words(pid)
            strike_off(connection, worker_id, why or "Its process ended without a word.", blamed=not why)


def strike_off(connection: Connection, worker_id: int, note: str, *, blamed: bool) -> None:
    """Write that a worker is lost, and let its leases end as soon as its warden has killed what it ran.

    blamed: something that it ran may be the cause, so that is run apart from others from now on.
    """
    # Entries first, and in their order, as the ledger and the heart take them: they may still be writing.
    connection.execute(
        "WITH leased AS (SELECT execution_id FROM queueing_queueentry WHERE worker_id = %(worker)s"
        " AND state = 'leased' AND lease_expires_at > statement_timestamp() + make_interval(secs => %(seconds)s)"
        " ORDER BY execution_id FOR NO KEY UPDATE)"
        " UPDATE queueing_queueentry q"
        " SET lease_expires_at = statement_timestamp() + make_interval(secs => %(seconds)s)"
        " FROM leased WHERE q.execution_id = leased.execution_id",
        {"worker": worker_id, "seconds": DEAD_LEASE_SECONDS},
    )
    end(connection, worker_id, "lost", note, blamed=blamed)


def end(connection: Connection, worker_id: int, state: str, note: str = "", *, blamed: bool = False) -> None:
    """Write the end of a worker, once."""
    connection.execute(
        "UPDATE queueing_worker SET state = %s, stopped_at = statement_timestamp(), running = 0, note = %s, blamed = %s"
        " WHERE id = %s AND stopped_at IS NULL",
        (state, note, blamed, worker_id),
    )


def step_down(connection: Connection, worker_id: int) -> None:
    """Write that a worker claims no more and ends with what it runs, so that its cluster starts another."""
    connection.execute(
        "UPDATE queueing_worker SET state = 'stopping', note = 'It lets go of what it runs.'"
        " WHERE id = %s AND state = 'active'",
        (worker_id,),
    )


def bury_silent(connection: Connection) -> int:
    """Strike off workers and clusters that have not beaten for three leases. Return how many workers."""
    connection.execute(
        "UPDATE queueing_cluster SET stopped_at = statement_timestamp()"
        " WHERE stopped_at IS NULL AND last_beat_at < statement_timestamp() - 3 * %s::interval",
        (settings.LEASE,),
    )
    return connection.execute(
        "UPDATE queueing_worker SET state = 'lost', stopped_at = statement_timestamp(), running = 0,"
        " note = 'It fell silent.'"
        " WHERE stopped_at IS NULL AND last_beat_at < statement_timestamp() - 3 * %s::interval",
        (settings.LEASE,),
    ).rowcount


# -- clusters ---------------------------------------------------------------------------------------------------------


def open_cluster(connection: Connection) -> int:
    """Put this cluster into the register, or back into it after an outage; return how many workers it is to have."""
    row = connection.execute(
        "INSERT INTO queueing_cluster"
        " (name, host, pid, version, pools, regions, processes, initial_processes, max_processes)"
        " VALUES (%(name)s, %(host)s, %(pid)s, %(version)s, %(pools)s, %(regions)s, %(initial)s, %(initial)s, %(max)s)"
        " ON CONFLICT (name) DO UPDATE SET stopped_at = NULL, last_beat_at = statement_timestamp() RETURNING processes",
        {
            "name": cluster_name(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": settings.VERSION,
            "pools": settings.WORKER_POOLS,
            "regions": settings.WORKER_REGIONS,
            "initial": settings.WORKER_PROCESSES,
            "max": settings.WORKER_MAX_PROCESSES,
        },
    ).fetchone()
    assert row is not None
    return int(row[0])


def close_cluster(connection: Connection) -> None:
    """Write the end of this cluster."""
    connection.execute(
        "UPDATE queueing_cluster SET stopped_at = statement_timestamp() WHERE name = %s AND stopped_at IS NULL",
        (cluster_name(),),
    )


# The number of all clusters together is shared out by order of their start: each works its own share out from the same
# rows, so nobody has to tell the others, and when one comes or goes the shares change with it. What one cannot take,
# because it has no room for it, the others get: the shares are filled up level by level.
SHARE = """
WITH live AS (
    SELECT name, max_processes, row_number() OVER (ORDER BY started_at, name) AS number FROM queueing_cluster
     WHERE stopped_at IS NULL AND last_beat_at > statement_timestamp() - %(silent)s::interval
), seat AS (
    SELECT name, row_number() OVER (ORDER BY level, number) AS seat
      FROM live, generate_series(1, max_processes) AS level
)
SELECT count(*) FILTER (WHERE seat.name = %(name)s AND seat.seat <= control.processes)
  FROM queueing_queuecontrol control, seat WHERE control.processes IS NOT NULL GROUP BY control.processes
"""


def beat(connection: Connection) -> int:
    """Beat for this cluster, take its share of all worker processes, and return how many it is to have."""
    name = cluster_name()
    # Beaten first: whoever was silent for a while counts again before the shares are worked out.
    row = connection.execute(
        "UPDATE queueing_cluster SET last_beat_at = statement_timestamp() WHERE name = %s AND stopped_at IS NULL"
        " RETURNING processes",
        (name,),
    ).fetchone()
    if row is None:
        row = (open_cluster(connection),)
    share = connection.execute(SHARE, {"name": name, "silent": settings.LEASE}).fetchone()
    if share is not None and share[0] != row[0]:
        connection.execute(
            "UPDATE queueing_cluster SET processes = %s WHERE name = %s AND stopped_at IS NULL", (share[0], name)
        )
        return int(share[0])
    return int(row[0])


def stop_surplus(connection: Connection, surplus: int) -> int:
    """Tell the newest workers of this cluster to hand back what they run and end; return how many were told."""
    told = connection.execute(
        "UPDATE queueing_worker SET state = 'stopping', draining = false, note = 'Scaled down.'"
        " WHERE id IN ("
        " SELECT id FROM queueing_worker WHERE cluster = %s AND stopped_at IS NULL AND state = 'active'"
        " AND NOT isolation ORDER BY id DESC LIMIT %s FOR UPDATE)",
        (cluster_name(), surplus),
    ).rowcount
    if told:
        connection.execute("SELECT pg_notify('opsconductor_control', 'stop')")
    return told


# -- processes of this host -------------------------------------------------------------------------------------------


def leave_last_words(why: str) -> None:
    """Before this process ends at once for a reason that nothing it ran is to blame for: say so to its cluster.

    Into a file, since it is the database that cannot be reached then.
    """
    if path := os.environ.get(AT_WORK_VARIABLE):
        with contextlib.suppress(OSError):
            Path(f"{path}.{os.getpid()}").write_text(why)


def _last_words(pid: int) -> str:
    path = os.environ.get(AT_WORK_VARIABLE)
    if not path:
        return ""
    words = Path(f"{path}.{pid}")
    try:
        said = words.read_text()
        words.unlink()
    except OSError:
        return ""
    return said


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
