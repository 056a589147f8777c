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
WORKERS = "SELECT count(*), sum(finished)::bigint FROM queueing_worker"


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
        require_all_succeeded(place, executions)
        seconds, events = place.query(SPAN)
        workers, finished = place.query(WORKERS)
    rate = executions / seconds
    details = {
        "executions": executions,
        "seconds": seconds,
        "events": events,
        "workers": workers,
        "finished_by_their_last_beat": finished,
    }
    celery, q2 = run.best_peer(CELERY), run.best_peer(*PEERS["django-q2"])
    name = "whole executions: one no-op step"
    return [
        Measurement(
            f"{name}, against celery",
            "executions/s",
            rate,
            celery and celery.process_per_second,
            celery.name if celery else "",
            mark=Mark(value=5_000, ratio=3),
            details=details,
        ),
        Measurement(
            f"{name}, against django-q2",
            "executions/s",
            rate,
            q2 and q2.process_per_second,
            q2.name if q2 else "",
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
