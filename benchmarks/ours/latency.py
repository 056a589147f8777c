"""How soon an execution starts on a system that has nothing else to do."""

from __future__ import annotations

from benchmarks.children import wait_until
from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.checks import require_all_succeeded
from benchmarks.ours.installation import installation
from benchmarks.run import Run

PAUSE_MS = 25.0
# Both times are the database's: the first is that of the statement that takes the plan in, so its own time, and that
# of its commit, are in the figure; the second is when the worker writes that the execution runs.
WAITS = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY wait), percentile_cont(0.99) WITHIN GROUP (ORDER BY wait), max(wait)
  FROM (
    SELECT extract(epoch FROM running.at - submitted.at)::float * 1000 AS wait
      FROM executions_event submitted JOIN executions_event running USING (execution_id)
     WHERE submitted.kind = 'execution.submitted' AND running.kind = 'execution.running'
  ) waits
"""


def measure(run: Run) -> list[Measurement]:
    """Submit plans one at a time to idle workers; database time from submission to the running event."""
    submissions = run.size(200, 60)
    with installation(run) as place, place.worker() as worker:
        wait_until(
            lambda: place.query("SELECT count(*) FROM queueing_worker WHERE stopped_at IS NULL")[0] == 2,
            timeout_seconds=60.0,
            what="both workers are registered",
            child=worker,
        )
        # The first plan pays for connections and caches on both sides.
        place.result("submit_plans", "--plans", str(submissions), "--pause-ms", str(PAUSE_MS))
        wait_until(
            lambda: place.query("SELECT NOT EXISTS (SELECT FROM queueing_queueentry)")[0],
            timeout_seconds=30.0,
            what="all are finished",
            child=worker,
        )
        require_all_succeeded(place.query, submissions)
        median, worst, longest = place.query(WAITS)
    details = {"submissions": submissions, "pause_ms": PAUSE_MS, "p50_ms": median, "p99_ms": worst, "max_ms": longest}
    return [
        Measurement(
            f"start of an execution, idle system, {label}",
            "ms",
            value,
            higher_is_better=False,
            mark=Mark(value=mark),
            details=details,
        )
        for label, value, mark in (("median", median, 10), ("p99", worst, 50))
    ]
