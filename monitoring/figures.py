"""Figures derived from the database when they are asked for: right for any number of processes.

One that cannot be read in time is left out: no data, never 0.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from itertools import accumulate

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from executions.clients.reporting import BELIEVED_SECONDS, report
from executions.clients.traffic import BOUNDS
from executions.states import ExecutionStatus
from monitoring.health import database_answers
from queueing.control import lines, queue_figures
from queueing.models import AttemptEnd, DeadReason, EntryState, WorkerState

logger = logging.getLogger(__name__)

MOST_MILLISECONDS = 2000  # of one statement: a scrape must not become a load of its own

# A scrape costs no more when history is long: what grows is read from its newest end.
NEWEST = 100_000
EXECUTIONS = """
SELECT status, count(*) FROM executions_execution
 WHERE id > (SELECT coalesce(max(id), 0) - %s FROM executions_execution) GROUP BY status
"""
DEAD_LETTERS = "SELECT reason, count(*) FROM queueing_deadletter WHERE state = 'open' GROUP BY reason"
WORKERS = """
SELECT state, count(*), coalesce(sum(slots), 0), coalesce(sum(running), 0),
       count(*) FILTER (WHERE last_beat_at > statement_timestamp() - make_interval(secs => %s))
  FROM queueing_worker WHERE stopped_at IS NULL GROUP BY state
"""
CLUSTERS = """
SELECT c.host || '/' || c.pid, c.processes, count(w.id) FILTER (WHERE w.state = 'active' AND NOT w.isolation),
       c.max_processes
  FROM queueing_cluster c LEFT JOIN queueing_worker w ON w.cluster = c.name AND w.stopped_at IS NULL
 WHERE c.stopped_at IS NULL GROUP BY c.name
"""
# How the attempts of the last hour ended that ended without their execution. Old ones are removed by retention, so a
# counter would jump; who wants a rate divides by the hour.
ATTEMPTS = """
SELECT "end", count(*) FROM queueing_attempt
 WHERE id > (SELECT coalesce(max(id), 0) - %s FROM queueing_attempt)
   AND ended_at > statement_timestamp() - interval '1 hour' GROUP BY "end"
"""
SERVICE_TRAFFIC = """
SELECT service, outcome, requests, retried, seconds, buckets FROM executions_servicetraffic ORDER BY service, outcome
"""
SERVICE_BREAKERS = """
SELECT service, state, count(*) FROM executions_servicestanding
 WHERE reported_at > statement_timestamp() - make_interval(secs => %s) GROUP BY service, state ORDER BY service, state
"""
SUSPECTS = "SELECT 'suspects', count(*) FROM queueing_queueentry WHERE losses > 0 AND state = 'ready'"

# The first column is a label, the others are numbers.
Row = tuple[str, list[float]]


class DatabaseFigures(Collector):
    """Executions by status, the queue, the DLQ and the workers, at the moment of the scrape."""

    def collect(self) -> Iterable[Metric]:
        seconds = GaugeMetricFamily(
            "opsconductor_scrape_seconds", "Time that reading a group of figures took", labels=["group"]
        )
        failed = GaugeMetricFamily(
            "opsconductor_scrape_failed", "1 when a group of figures could not be read", labels=["group"]
        )
        groups: dict[str, Callable[[], list[Metric]]] = {
            "executions": _executions,
            "queue": _queue,
            "dead_letters": _dead_letters,
            "lines": _lines,
            "workers": _workers,
            "attempts": _attempts,
            "services": _services,
        }
        answers = database_answers()  # or else each group would wait in vain for a connection
        for name, read in groups.items():
            began = time.perf_counter()
            try:
                if not answers:
                    raise OperationalError("no connection")
                yield from read()
                failed.add_metric([name], 0)
            except (DatabaseError, InterfaceError) as fault:
                logger.warning("The figures of %s could not be read: %s", name, type(fault.__cause__ or fault).__name__)
                failed.add_metric([name], 1)
            seconds.add_metric([name], time.perf_counter() - began)
        yield seconds
        yield failed


def _rows(sql: str, *values: float) -> list[Row]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {MOST_MILLISECONDS}")
        cursor.execute(sql, values)
        return [(label, [float(number) for number in numbers]) for label, *numbers in cursor.fetchall()]


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _by(name: str, help_text: str, label: str, values: Iterable[str], rows: list[Row]) -> Metric:
    """One sample for each of `values`, 0 where the database has none."""
    counts = {row_label: numbers[0] for row_label, numbers in rows}
    metric = GaugeMetricFamily(name, help_text, labels=[label])
    for value in values:
        metric.add_metric([value], counts.get(value, 0.0))
    return metric


def _executions() -> list[Metric]:
    rows = _rows(EXECUTIONS, NEWEST)
    help_text = f"Executions by status, of the newest {NEWEST}"
    return [_by("opsconductor_executions", help_text, "status", ExecutionStatus.values, rows)]


def _queue() -> list[Metric]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {MOST_MILLISECONDS}")
        figures = queue_figures()
    rows: list[Row] = [(state, [float(count)]) for state, count in figures["by_state"].items()]
    waits = figures["waiting_seconds"]
    return [
        _by("opsconductor_queue_entries", "Queue entries by state", "state", EntryState.values, rows),
        _gauge("opsconductor_queue_depth", "Queue entries that wait", figures["depth"]),
        _gauge("opsconductor_queue_waiting_seconds", "The longest wait among entries that could start", waits),
        _gauge("opsconductor_queue_draining", "1 while the queue drains", figures["draining"]),
    ]


def _lines() -> list[Metric]:
    waiting, seconds, served = (
        GaugeMetricFamily(f"opsconductor_queue_line_{name}", help_text, labels=["pool", "region"])
        for name, help_text in (
            ("waiting", "Entries that wait for workers with these labels"),
            ("seconds", "The longest wait among them"),
            ("served", "1 when a worker serves them, and their pool is not paused"),
        )
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {MOST_MILLISECONDS}")
        for line in lines():
            labels = [line.pool, line.region]
            waiting.add_metric(labels, line.waiting)
            seconds.add_metric(labels, line.seconds)
            served.add_metric(labels, line.served and not line.paused)
    return [waiting, seconds, served]


def _attempts() -> list[Metric]:
    rows = _rows(ATTEMPTS, NEWEST)
    ((_, (suspects,)),) = _rows(SUSPECTS)
    return [
        _by(
            "opsconductor_attempts_ended_last_hour",
            "Attempts that ended without their execution within the last hour, by how",
            "end",
            AttemptEnd.values,
            rows,
        ),
        _gauge("opsconductor_queue_suspects", "Entries that a worker died of, and that wait to be run apart", suspects),
    ]


def _services() -> list[Metric]:
    """What was asked of the asset and the automation service, and how the processes' breakers for them stand."""
    requests = CounterMetricFamily(
        "opsconductor_service_requests", "Requests to a service, tries counted each", labels=["service", "outcome"]
    )
    retries = CounterMetricFamily(
        "opsconductor_service_retries", "Requests that were followed by another try", labels=["service", "outcome"]
    )
    durations = HistogramMetricFamily(
        "opsconductor_service_request_seconds", "How long requests took", labels=["service", "outcome"]
    )
    breakers = GaugeMetricFamily(
        "opsconductor_service_breakers", "Processes by the state of their breaker", labels=["service", "state"]
    )
    report(at_once=True)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {MOST_MILLISECONDS}")
        cursor.execute(SERVICE_TRAFFIC)
        for service, outcome, count, retried, total, buckets in cursor.fetchall():
            requests.add_metric([service, outcome], count)
            retries.add_metric([service, outcome], retried)
            bounds = [*map(str, BOUNDS), "+Inf"]
            durations.add_metric([service, outcome], list(zip(bounds, accumulate(buckets), strict=True)), total)
        cursor.execute(SERVICE_BREAKERS, [BELIEVED_SECONDS])
        for service, state, count in cursor.fetchall():
            breakers.add_metric([service, state], count)
    return [requests, retries, durations, breakers]


def _dead_letters() -> list[Metric]:
    rows = _rows(DEAD_LETTERS)
    return [_by("opsconductor_dead_letters", "Open DLQ entries by reason", "reason", DeadReason.values, rows)]


def _workers() -> list[Metric]:
    rows = _rows(WORKERS, settings.SILENT_AFTER.total_seconds())
    clusters = _rows(CLUSTERS)
    states = [WorkerState.ACTIVE.value, WorkerState.STOPPING.value]
    total, slots, running, beating = (sum(numbers[column] for _, numbers in rows) for column in range(4))
    return [
        _by("opsconductor_workers", "Workers that have not ended, by state", "state", states, rows),
        _gauge("opsconductor_workers_beating", "Workers that have not missed two beats", beating),
        _gauge("opsconductor_workers_silent", "Workers that have not ended and have missed two beats", total - beating),
        _gauge("opsconductor_clusters", "Clusters, each one `manage.py worker` on a host", len(clusters)),
        *(
            _by(f"opsconductor_cluster_processes_{name}", help_text, "cluster", [row[0] for row in clusters], found)
            for name, help_text, found in (
                ("wanted", "Worker processes that a cluster is to have", clusters),
                ("alive", "Worker processes at work in a cluster", [(label, few[1:]) for label, few in clusters]),
                ("room", "Worker processes that a cluster can have", [(label, few[2:]) for label, few in clusters]),
            )
        ),
        _gauge("opsconductor_worker_slots", "Executions that workers can run at once", slots),
        _gauge("opsconductor_worker_running", "Executions that workers run", running),
    ]
