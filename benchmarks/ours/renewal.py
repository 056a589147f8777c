"""Renewal of the leases of a worker: all of them in one statement, beside one statement for each."""

from __future__ import annotations

from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.installation import installation
from benchmarks.run import Run

LEASES = 500


def measure(run: Run) -> list[Measurement]:
    """A full worker's leases; in an installation this is done every third of a lease, that is every 10 s."""
    rounds = run.size(200, 50)
    with installation(run) as place:
        figures = place.result("renewal_load", "--leases", str(LEASES), "--rounds", str(rounds))
    return [
        Measurement(
            f"renewal of {LEASES} leases, {label}",
            "ms",
            figures[f"together_ms_{label}"],
            figures[f"one_by_one_ms_{label}"],
            "a statement for each lease, one transaction",
            higher_is_better=False,
            mark=Mark(value=mark, ratio=3),
            details=figures,
        )
        for label, mark in (("p50", 10), ("p99", 50))
    ]
