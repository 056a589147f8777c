"""Tells the database how this process finds the services, so that the web can say it of every worker.

Workers tell it with their upkeep, the web with submits and with every look at /readyz and /metrics. Where a breaker has
been open for long enough the service is asked again here, in a thread: otherwise only the next step would find out.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass

from django.conf import settings
from django.db import connection, transaction

from executions.clients.breaker import Standing
from executions.clients.client import ServiceClient, in_use
from executions.clients.traffic import Tallies, traffic
from executions.clients.troubles import ServiceTrouble
from safety.masking import mask_text

EVERY_SECONDS = 5.0
BELIEVED_SECONDS = 60  # a process that has told nothing for longer is gone, or has nothing to ask
KEPT_DAYS = 1
MOST_NAMED = 5

# Rows in one order, so that two processes that write at once wait for each other and never in a circle.
_STANDINGS = """
INSERT INTO executions_servicestanding AS known (service, process, state, failures, reason, changed_at, reported_at)
SELECT service, %(process)s, state, failures, reason, statement_timestamp(), statement_timestamp()
  FROM jsonb_to_recordset(%(standings)s::jsonb) AS r(service text, state text, failures int, reason text)
 ORDER BY service
    ON CONFLICT (service, process) DO UPDATE
   SET state = EXCLUDED.state, failures = EXCLUDED.failures, reason = EXCLUDED.reason,
       reported_at = EXCLUDED.reported_at,
       changed_at = CASE WHEN known.state = EXCLUDED.state THEN known.changed_at ELSE EXCLUDED.changed_at END
"""
_TRAFFIC = """
INSERT INTO executions_servicetraffic AS known (service, outcome, requests, retried, seconds, buckets)
SELECT service, outcome, requests, retried, seconds, buckets
  FROM jsonb_to_recordset(%s::jsonb) AS r(service text, outcome text, requests bigint, retried bigint,
       seconds double precision, buckets bigint[])
 ORDER BY service, outcome
    ON CONFLICT (service, outcome) DO UPDATE
   SET requests = known.requests + EXCLUDED.requests, retried = known.retried + EXCLUDED.retried,
       seconds = known.seconds + EXCLUDED.seconds,
       buckets = (SELECT array_agg(coalesce(a, 0) + coalesce(b, 0) ORDER BY n)
                    FROM unnest(known.buckets, EXCLUDED.buckets) WITH ORDINALITY AS u(a, b, n))
"""
_LATELY = """
SELECT service, process, state, reason, extract(epoch FROM statement_timestamp() - changed_at)::float
  FROM executions_servicestanding WHERE reported_at > statement_timestamp() - make_interval(secs => %s)
 ORDER BY service, changed_at, process LIMIT 1000
"""
_FORGET = "DELETE FROM executions_servicestanding WHERE reported_at < statement_timestamp() - make_interval(days => %s)"

_lock = threading.Lock()
_told: dict[str, Standing] = {}
_told_at = 0.0


def report(*, at_once: bool = False) -> None:
    """Tell what has changed; or, every few seconds, that nothing has. What nobody has asked for yet is not told."""
    global _told_at, _told
    if not in_use:
        return
    with _lock:
        standings = {name: client.breaker.standing() for name, client in sorted(in_use.items())}
        is_due = at_once or standings != _told or time.monotonic() - _told_at >= EVERY_SECONDS
        if is_due:
            _told, _told_at = standings, time.monotonic()
    if is_due:
        _tell(standings)
    for client in list(in_use.values()):
        if client.breaker.is_due():
            threading.Thread(target=_probe, args=(client,), daemon=True).start()


@dataclass(frozen=True, slots=True)
class Found:
    """How the processes find one service, in a sentence."""

    is_well: bool
    sentence: str


def found_by_processes() -> list[Found]:
    """Return for each service that is configured how those find it who have asked it lately."""
    configured = [one.name for one in (settings.ASSET_SERVICE, settings.AUTOMATION_SERVICE) if one is not None]
    if not configured:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_LATELY, [BELIEVED_SECONDS])
        rows = cursor.fetchall()
    return [_found(name, [row[1:] for row in rows if row[0] == name]) for name in configured]


def _found(name: str, rows: list[tuple[str, str, str, float]]) -> Found:
    """`rows`: process, state, reason, and seconds in that state, the longest first."""
    failing = [row for row in rows if row[1] != "closed"]
    if not rows:
        return Found(True, f"The {name} service has not been asked lately.")
    if not failing:
        return Found(True, f"The {name} service answers {len(rows)} process{'es' if len(rows) > 1 else ''}.")
    told = ", ".join(f"{process} ({state.replace('_', ' ')})" for process, state, *_ in failing[:MOST_NAMED])
    _, _, reason, seconds = failing[0]
    return Found(
        False,
        f"The {name} service is left alone by {len(failing)} of {len(rows)} processes, the longest for {seconds:.0f} s:"
        f" {told}. {mask_text(reason)}",  # also what a process of an earlier release tells
    )


def process_name() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _tell(standings: dict[str, Standing]) -> None:
    taken = traffic.take()
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            rows = [{"service": name, **asdict(standing)} for name, standing in standings.items()]
            cursor.execute(_STANDINGS, {"process": process_name(), "standings": json.dumps(rows)})
            cursor.execute(_FORGET, [KEPT_DAYS])
            if taken:
                cursor.execute(_TRAFFIC, [json.dumps(_rows(taken))])
    except BaseException:
        traffic.give_back(taken)
        raise


def _rows(taken: Tallies) -> list[dict[str, object]]:
    return [{"service": service, "outcome": outcome, **asdict(counts)} for (service, outcome), counts in taken.items()]


def _probe(client: ServiceClient) -> None:
    with contextlib.suppress(ServiceTrouble):
        client.ask_if_due()
