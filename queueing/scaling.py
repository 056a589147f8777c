"""Autoscaling: how many workers a cluster should have, by what waits for it and for how long; each decision is written.

Every cluster decides for itself, from the entries that its own pools and regions hold, between the minimum and the
maximum that operators set (queueing/pool.py). Steps up are quick, since somebody waits; a step down needs a quiet time.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings

from queueing.fleet import cluster_name
from queueing.queue import Connection

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 1.0
COUNTED = 5_000  # entries of one line that are counted at most; a longer one is a reason to grow in any case

# An entry should not wait longer than this for a worker (the target of the queue time).
WAIT_TARGET = timedelta(seconds=10)
# Or: no more should be waiting than so many times what all its workers can run at once.
DEPTH_PER_SLOT = 2.0
# A step down is right when what runs would fill no more than this share of the workers that stay.
FULL_AFTER_STEP_DOWN = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What a cluster has to do, and with what. `waiting_seconds`: of the oldest entry that it could claim."""

    processes: int
    depth: int
    waiting_seconds: float
    running: int
    slots: int


@dataclass(frozen=True, slots=True)
class Limits:
    minimum: int
    maximum: int


def decide(load: Load, limits: Limits, *, quiet: bool) -> tuple[int, str]:
    """Return how many processes the cluster should have, and why; the reason is empty when that is no change.

    quiet: nothing has waited for a while, and no step was taken.
    """
    now = load.processes
    if now < limits.minimum:
        return limits.minimum, f"The minimum is {limits.minimum}."
    if now > limits.maximum:
        return limits.maximum, f"The maximum is {limits.maximum}."
    target = WAIT_TARGET.total_seconds()
    why = ""
    if load.depth and load.waiting_seconds > target:
        waited = f"{_entries(load.depth)}, the oldest for {load.waiting_seconds:.0f} s"
        why = f"{waited}; none should for more than {target:.0f} s."
    elif load.depth > DEPTH_PER_SLOT * load.slots:
        why = f"{_entries(load.depth)}, more than {DEPTH_PER_SLOT:g} for each of {load.slots} slots."
    if why:
        if now >= limits.maximum:
            return now, ""
        return min(limits.maximum, now + max(1, now // 2)), why
    left = load.slots * (now - 1) / now if now else 0
    if quiet and now > limits.minimum and load.running <= FULL_AFTER_STEP_DOWN * left:
        return now - 1, f"Nothing waits, and {load.running} of {load.slots} slots are in use."
    return now, ""


def _entries(depth: int) -> str:
    if depth >= COUNTED:
        return f"{COUNTED} entries or more wait"
    return f"{depth} {'entry waits' if depth == 1 else 'entries wait'}"


LOAD = """
SELECT c.processes, coalesce(backlog.depth, 0)::integer, coalesce(backlog.seconds, 0)::float8,
       coalesce(w.running, 0)::integer, coalesce(w.slots, 0)::integer
  FROM queueing_cluster c
  LEFT JOIN LATERAL (
      SELECT sum(l.waiting) AS depth, extract(epoch FROM statement_timestamp() - min(l.since)) AS seconds
        FROM queue_lines(%(counted)s) l
       WHERE queue_serves(c.pools, c.regions, l.pool, l.region)
         AND NOT EXISTS (SELECT FROM queueing_pool p WHERE p.name = l.pool AND p.paused)
  ) backlog ON true
  LEFT JOIN LATERAL (
      SELECT sum(running) AS running, sum(slots) AS slots FROM queueing_worker
       WHERE cluster = c.name AND stopped_at IS NULL AND NOT isolation
  ) w ON true
 WHERE c.name = %(cluster)s AND c.stopped_at IS NULL AND NOT c.draining
"""

# The number is compared with what the decision was made from: should somebody have scaled meanwhile, it is void.
APPLY = """
WITH scaled AS (
    UPDATE queueing_cluster SET processes = %(after)s
     WHERE %(applied)s AND name = %(cluster)s AND processes = %(before)s AND stopped_at IS NULL RETURNING name
)
INSERT INTO queueing_scalingdecision
       (cluster, host, before, after, reason, by, applied, depth, waiting_seconds, running, slots)
SELECT c.name, c.host, %(before)s, %(after)s, %(reason)s, 'autoscale', %(applied)s, %(depth)s, %(waiting)s, %(running)s,
       %(slots)s
  FROM queueing_cluster c
 WHERE c.name = %(cluster)s AND (NOT %(applied)s OR EXISTS (SELECT FROM scaled))
"""


@dataclass(slots=True)
class Scaling:
    """The autoscaling of this cluster; its broker's process calls `look` again and again."""

    _looked_at: float = 0.0
    _stepped_at: float = field(default_factory=time.monotonic)
    _busy_at: float = field(default_factory=time.monotonic)
    _told: tuple[int, int] | None = None

    def look(self, connection: Connection) -> None:
        """Decide, if it is time to, and write a decision that changes something. Raises psycopg.Error."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_SECONDS:
            return
        self._looked_at = now
        control = connection.execute(
            "SELECT autoscale, min_processes, max_processes, draining FROM queueing_queuecontrol"
        ).fetchone()
        if control is None or control[0] == "off" or control[3]:
            self._busy_at, self._told = now, None
            return
        row = connection.execute(LOAD, {"cluster": cluster_name(), "counted": COUNTED}).fetchone()
        if row is None:  # its host is drained: more workers would claim nothing either
            self._busy_at = now
            return
        load = Load(*row)
        if load.depth:
            self._busy_at = now
        lease = settings.LEASE.total_seconds()
        # A new worker has a third of a lease to show what it changes. Going down waits for two leases without a queue.
        if now - self._stepped_at < lease / 3:
            return
        # A cluster with less room than the minimum has what it has room for: or else it would go up and down for ever.
        room = settings.WORKER_MAX_PROCESSES
        limits = Limits(min(control[1], room), min(control[2], room))
        quiet = now - max(self._busy_at, self._stepped_at) > 2 * lease
        after, reason = decide(load, limits, quiet=quiet)
        applied = control[0] == "on"
        if not reason:
            self._told = None
        # Running dry nothing changes, so the same would be decided again and again: it is said once.
        elif applied or self._told != (load.processes, after):
            self._told = (load.processes, after)
            self._stepped_at = now
            self._write(connection, load, after, reason, applied=applied)

    def _write(self, connection: Connection, load: Load, after: int, reason: str, *, applied: bool) -> None:
        written = connection.execute(
            APPLY,
            {
                "cluster": cluster_name(),
                "before": load.processes,
                "after": after,
                "reason": reason,
                "applied": applied,
                "depth": load.depth,
                "waiting": load.waiting_seconds,
                "running": load.running,
                "slots": load.slots,
            },
        ).rowcount
        if written == 1:
            how = "Autoscaling" if applied else "Autoscaling, dry run"
            log.info("%s: %d to %d worker processes. %s", how, load.processes, after, reason)
