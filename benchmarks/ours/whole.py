"""Whole executions: what a worker does of plans of one no-op step, all of it durable; and what taking them in costs."""

from __future__ import annotations

from benchmarks.children import wait_until
from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.checks import require_all_succeeded
from benchmarks.ours.installation import installation
from benchmarks.peer_runs import CELERY, PEERS
from benchmarks.run import Run

TIMEOUT_SECONDS = 150.0
SPAN = """
SELECT extract(epoch FROM max(at) FILTER (WHERE kind = 'execution.succeeded')
                        - min(at) FILTER (WHERE kind = 'execution.running'))::float, count(*)
  FROM executions_event
"""
WORKERS = "SELECT count(*), max(rss_bytes) / 1048576 FROM queueing_worker"


def measure(run: Run) -> list[Measurement]:
    """The executions wait in the queue; the clock, the database's, runs from the workers' first event to their last."""
    executions = run.size(20_000, 3_000)
    with installation(run) as place:
        taken_in = place.result("submit_plans", "--plans", str(executions))
        place.analyze()
        with place.worker() as worker:
            wait_until(
                lambda: place.query("SELECT NOT EXISTS (SELECT FROM queueing_queueentry)")[0],
                timeout_seconds=TIMEOUT_SECONDS,
                what=f"{executions} executions are finished",
                child=worker,
                every_seconds=0.1,
            )
        require_all_succeeded(place.query, executions)
        seconds, events = place.query(SPAN)
        workers, mebibytes = place.query(WORKERS)
    rate = executions / seconds
    details = {
        "executions": executions,
        "seconds": seconds,
        "events": events,
        "workers": workers,
        "largest_worker_rss_mib_at_a_beat": mebibytes,
    }
    name = "whole executions: one no-op step"
    return [
        Measurement(
            f"{name}, against celery",
            "executions/s",
            rate,
            *run.reference(CELERY),
            mark=Mark(value=5_000, ratio=3),
            details=details,
        ),
        Measurement(
            f"{name}, against django-q2",
            "executions/s",
            rate,
            *run.reference(*PEERS["django-q2"]),
            mark=Mark(ratio=10),
            details=details,
        ),
        Measurement(
            "submit, 1,000 plans a call, 1 process",
            "plans/s",
            taken_in["submit_per_second"],
            mark=Mark(value=5_000),
            details=taken_in,
        ),
    ]
