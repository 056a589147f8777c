"""The idempotency guard by itself: keys that are new, and keys that stand for an execution."""

from __future__ import annotations

from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.installation import installation
from benchmarks.run import Run

PROCESSES = 2


def measure(run: Run) -> list[Measurement]:
    """One key a transaction, with Django's get_or_create beside it; then 200 keys a transaction. One mark for all."""
    checks = run.size(10_000, 2_000)
    with installation(run) as place:
        figures = place.result("idempotency_load", "--checks", str(checks), "--processes", str(PROCESSES))
    return [
        Measurement(
            f"idempotency: {kind}, {label}",
            "checks/s",
            figures[f"{size}_{kind}_per_second"],
            figures[f"reference_{kind}_per_second"] if size == "single" else None,
            "Django's get_or_create" if size == "single" else "",
            mark=Mark(value=10_000),
            details=figures,
        )
        for size, label in (("single", "one a transaction"), ("batch", "200 a transaction"))
        for kind in ("misses", "hits")
    ]
