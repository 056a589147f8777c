"""How many events a second become durable, in the order and without the gaps that the pages rely on."""

from __future__ import annotations

from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.checks import require, require_no_gaps
from benchmarks.ours.installation import installation
from benchmarks.run import Run

PROCESSES = 2
EXECUTIONS = 500


def measure(run: Run) -> list[Measurement]:
    """Two ledgers with 500 executions each."""
    rounds = run.size(100, 20)
    with installation(run) as place:
        place.result("submit_plans", "--plans", str(PROCESSES * EXECUTIONS))
        place.analyze()
        figures = place.result(
            "event_load", "--executions", str(EXECUTIONS), "--rounds", str(rounds), "--processes", str(PROCESSES)
        )
        written = place.query("SELECT count(*) FROM executions_event WHERE kind = 'benchmark.event'")[0]
        require("events written", written, figures["events"])
        require_no_gaps(place.query)
    return [
        Measurement(
            f"durable events, {PROCESSES} processes with {EXECUTIONS} executions each",
            "events/s",
            figures["events_per_second"],
            mark=Mark(value=20_000),
            details=figures,
        )
    ]
