"""The queue by itself: claim and finish of no-op entries, without and with locks."""

from __future__ import annotations

from typing import Any

from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.installation import installation
from benchmarks.peer_runs import PEERS
from benchmarks.run import Run

PROCESSES = 2
ASSETS = 5000


def load(run: Run, *, entries: int, batch: int, assets: int = 0) -> dict[str, Any]:
    """One filled queue, drained by two processes in batches."""
    with installation(run) as place:
        figures = place.result(
            "queue_load", "--entries", str(entries), "--batch", str(batch), "--assets", str(assets),
            "--processes", str(PROCESSES),
        )  # fmt: skip
    return {**figures, "batch": batch, "processes": PROCESSES, "assets": assets}


def measure(run: Run) -> list[Measurement]:
    """Batches of 10, 100 and 500; the mark is on the largest, against the fastest pgqueuer on asyncpg."""
    asyncpg = run.reference(*(name for name in PEERS["pgqueuer"] if "asyncpg" in name))
    lines = []
    for batch, entries in (
        (10, run.size(20_000, 5_000)),
        (100, run.size(60_000, 10_000)),
        (500, run.size(100_000, 20_000)),
    ):
        figures = load(run, entries=entries, batch=batch)
        lines.append(
            Measurement(
                f"queue: claim + finish, batch {batch}",
                "entries/s",
                figures["process_per_second"],
                *asyncpg,
                mark=Mark(value=20_000, ratio=2) if batch == 500 else Mark(),
                details=figures,
            )
        )
    lines.append(
        Measurement("queue: enqueue, 1,000 a call", "entries/s", figures["enqueue_per_second"], details=figures)
    )
    locked = load(run, entries=run.size(40_000, 10_000), batch=500, assets=ASSETS)
    lines.append(
        Measurement(
            f"queue: the same with an exclusive lock, {ASSETS:,} assets",
            "entries/s",
            locked["process_per_second"],
            mark=Mark(value=15_000),
            details=locked,
        )
    )
    return lines
