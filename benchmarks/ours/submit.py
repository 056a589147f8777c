"""What the API takes in: one plan a request, and 1,000 a request, through one web process."""

from __future__ import annotations

from typing import Any

from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.checks import require, require_no_gaps
from benchmarks.ours.installation import installation
from benchmarks.run import Run

BATCH = 1000
SINGLE_CONNECTIONS = 4
BATCH_CONNECTIONS = 2


def load(run: Run, *, requests: int, plans: int, connections: int) -> dict[str, Any]:
    """Requests of `plans` plans each to a new installation without workers; all has to be in the queue after."""
    with installation(run) as place, place.web() as (web, port):
        figures = place.result(
            "submit_load", "--port", str(port), "--web-pid", str(web.pid), "--requests", str(requests),
            "--plans", str(plans), "--connections", str(connections),
        )  # fmt: skip
        taken_in = figures["all_requests"] * plans
        require(
            "executions", place.query("SELECT count(*) FROM executions_execution WHERE status = 'queued'")[0], taken_in
        )
        require("queue entries", place.query("SELECT count(*) FROM queueing_queueentry")[0], taken_in)
        require("steps", place.query("SELECT count(*) FROM executions_step")[0], taken_in)
        require_no_gaps(place.query)
    return figures


def measure(run: Run) -> list[Measurement]:
    """Plans of one no-op step, each with an idempotency key and a bearer token that is looked up every time."""
    single = load(run, requests=run.size(2_000, 400), plans=1, connections=SINGLE_CONNECTIONS)
    batch = load(run, requests=run.size(30, 8), plans=BATCH, connections=BATCH_CONNECTIONS)
    return [
        Measurement(
            f"REST submit, one plan a request, 1 web process, {SINGLE_CONNECTIONS} connections",
            "plans/s",
            single["plans_per_second"],
            mark=Mark(value=300),
            details=single,
        ),
        Measurement(
            f"REST submit, {BATCH:,} plans a request, 1 web process, {BATCH_CONNECTIONS} connections",
            "plans/s",
            batch["plans_per_second"],
            mark=Mark(value=5_000),
            details=batch,
        ),
    ]
