"""Is this installation fit to work? Each check says so with a reason, a time and how long it took.

`pass` is well, `warn` is worth a look but no reason to send nobody here, `fail` is. A hung worker is not healthy: what
counts is when a worker last gave a sign of life, by the database's clock, not that its process exists.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.backends.utils import CursorWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from executions.clients.reporting import found_by_processes, report
from queueing.control import is_draining, line_sentences, lines
from queueing.models import QueueControl
from safety.audit.database_role import why_it_can_change_the_audit

PASS, WARN, FAIL = WORSE = ("pass", "warn", "fail")
CONNECT_SECONDS = 3
_MOST_NAMED = 5

WORKERS = """
SELECT host, pid, extract(epoch FROM statement_timestamp() - last_beat_at)::float, draining AND state = 'active'
  FROM queueing_worker WHERE stopped_at IS NULL ORDER BY last_beat_at LIMIT 1000
"""

UNSEALED = """
SELECT extract(epoch FROM statement_timestamp() - at)::float FROM safety_auditrecord
 WHERE id = (SELECT record_id FROM safety_auditoutbox ORDER BY record_id LIMIT 1)
"""
SEALED_WITHIN_SECONDS = 60  # workers do it twice a second


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. `duration_ms`: milliseconds that it took."""

    name: str
    status: str
    reason: str
    checked_at: datetime
    duration_ms: float


@dataclass(frozen=True, slots=True)
class Health:
    """What all checks found; `status` is the worst of them."""

    status: str
    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        return self.status != FAIL

    def as_dict(self) -> dict[str, Any]:
        """JSON ready but for the times, which are datetimes in UTC."""
        return {
            "status": self.status,
            "version": settings.VERSION,
            "reasons": [f"{check.name}: {check.reason}" for check in self.checks if check.status != PASS],
            "checks": [asdict(check) for check in self.checks],
        }


Verdict = tuple[str, str]


def process_health() -> Health:
    """Whether this process answers: nothing else is looked at, so that a database in trouble does not restart it."""
    return _judge({"process": lambda: (PASS, "It answers.")})


def readiness() -> Health:
    """Whether this installation can take in plans and carry them out."""
    first = _run("database", database)
    if first.status == FAIL:
        # Nothing else can be known, and each would wait in vain for a connection.
        return Health(FAIL, (first, *(replace(first, name=name, duration_ms=0.0) for name in _ON_DATABASE)))
    rest = _judge(_ON_DATABASE)
    return Health(max(first.status, rest.status, key=WORSE.index), (first, *rest.checks))


def database() -> Verdict:
    """Whether the database answers, and takes writes.

    Asks over a connection of its own: the pool would wait for a free one, longer than any probe does.
    """
    with _direct() as cursor:
        cursor.execute("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')")
        in_recovery, read_only = cursor.fetchone() or (False, "off")
    if in_recovery or read_only == "on":
        return FAIL, "The database takes no writes: it is a standby, or was made read-only."
    return PASS, "It answers and takes writes."


def database_answers() -> bool:
    """Whether the database can be read at all."""
    try:
        with _direct() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError):
        return False
    return True


@contextmanager
def _direct() -> Iterator[CursorWrapper]:
    direct = connection.copy()
    options = direct.settings_dict["OPTIONS"]
    options.pop("pool", None)
    options["connect_timeout"] = CONNECT_SECONDS
    try:
        with direct.cursor() as cursor:
            yield cursor
    finally:
        direct.close()


def migrations() -> Verdict:
    """Whether every migration of this release is applied: an app's last one is only after all of its others."""
    missing = sorted(known_migrations() - set(MigrationRecorder(connection).applied_migrations()))
    if missing:
        named = ", ".join(f"{app}.{name}" for app, name in missing[:_MOST_NAMED])
        return FAIL, f"{len(missing)} migrations are not applied ({named}): run `manage.py migrate`."
    return PASS, "All are applied."


@cache
def known_migrations() -> frozenset[tuple[str, str]]:
    """The last migration of each app of this release: they do not change while a process lives."""
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).graph.leaf_nodes())


def queue() -> Verdict:
    """Whether the queue can be read, is open, and somebody serves what waits in it."""
    if not QueueControl.objects.exists():
        return FAIL, "The queue's control row is missing: run `manage.py migrate`."
    if is_draining():
        return WARN, "It is draining: nothing is taken in until an operator resumes it."
    waiting = lines()
    if standing := line_sentences(waiting):
        more = f" And {len(standing) - _MOST_NAMED} more lines." if len(standing) > _MOST_NAMED else ""
        return WARN, f"{' '.join(standing[:_MOST_NAMED])}{more}"
    return PASS, f"It is open; {sum(line.waiting for line in waiting)} entries wait for a worker."


def workers() -> Verdict:
    """Whether workers give signs of life: one that has missed two beats is silent, well before its leases run out."""
    with connection.cursor() as cursor:
        cursor.execute(WORKERS)
        rows = cursor.fetchall()
    if not rows:
        return FAIL, "No worker is running: start `make serve` or `manage.py worker`."
    limit = settings.SILENT_AFTER.total_seconds()
    silent = [(f"{host}/{pid}", age) for host, pid, age, _ in rows if age > limit]
    told = ", ".join(f"{name} for {age:.0f} s" for name, age in silent[:_MOST_NAMED])
    if len(silent) == len(rows):
        return FAIL, f"No worker gives a sign of life; silent: {told}."
    if silent:
        return WARN, f"{len(silent)} of {len(rows)} workers are silent: {told}."
    if all(draining for _, _, _, draining in rows):
        return WARN, f"All {len(rows)} drain: nothing is begun until an operator undrains them."
    return PASS, f"{len(rows)} beat."


def audit() -> Verdict:
    """Whether the audit is sealed, and out of this process' reach: both can wait for the day."""
    if why := why_it_can_change_the_audit():
        return WARN, f"The database role of this process could change the audit: {why} See `manage.py grant_app_role`."
    with connection.cursor() as cursor:
        cursor.execute(UNSEALED)
        waits = (cursor.fetchone() or (None,))[0]
    if waits is not None and waits > SEALED_WITHIN_SECONDS:
        return WARN, f"Records have waited {waits:.0f} s for their seal: workers seal them, and none does."
    return PASS, "It is sealed, and this process cannot change it."


def services() -> Verdict:
    """Whether the asset and the automation service answer, as far as anybody here has asked them."""
    report()
    found = found_by_processes()
    if not found:
        return PASS, "None is configured: the embedded inventory and connectors serve."
    return PASS if all(one.is_well for one in found) else WARN, " ".join(one.sentence for one in found)


_ON_DATABASE: dict[str, Callable[[], Verdict]] = {
    "migrations": migrations,
    "queue": queue,
    "workers": workers,
    "audit": audit,
    "services": services,
}


def _judge(checks: dict[str, Callable[[], Verdict]]) -> Health:
    found = tuple(_run(name, check) for name, check in checks.items())
    worst = max((check.status for check in found), key=WORSE.index)
    return Health(worst, found)


def _run(name: str, check: Callable[[], Verdict]) -> Check:
    began = time.perf_counter()
    try:
        status, reason = check()
    except (DatabaseError, InterfaceError) as fault:
        status, reason = FAIL, f"The database does not answer ({type(fault.__cause__ or fault).__name__})."
    duration = (time.perf_counter() - began) * 1000
    return Check(name, status, reason, datetime.now(UTC), round(duration, 3))
