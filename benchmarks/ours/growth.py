"""A long history and a full queue: claims beside those of an empty queue, and reading the pages and the API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.measurement import Mark, Measurement
from benchmarks.ours.installation import Installation, installation
from benchmarks.run import Run

BATCHES = (1, 10, 100)
PAGE_MARK_MS = 200
LIST_MARK_MS = 300  # of an admin list of 100,000 rows
FILL_TIMEOUT_SECONDS = 1200.0


def claims(place: Installation, rounds: int, *, alone: bool) -> dict[str, float]:
    """Claims of each size, one after the other; `alone`: of a queue that holds what is claimed, and no more."""
    return place.result(
        "claim_load", "--batches", *map(str, BATCHES), "--rounds", str(rounds), *(["--alone"] if alone else [])
    )


def measure(run: Run) -> list[Measurement]:
    """1,000,000 ready, 10,000 more in line at one asset, 10,000,000 events, 100,000 in the DLQ.

    With --quick a tenth of it. The claims of the full and of the empty queue take turns, and the median of their 99th
    percentiles is taken: what else happens on the machine happens to both.
    """
    turns, rounds = run.size(5, 3), run.size(300, 100)
    with installation(run, "ours_empty") as empty, installation(run) as place:
        scale = str(run.size(10, 1))
        filled = place.result("growth_fill", "--scale", scale, timeout_seconds=FILL_TIMEOUT_SECONDS)
        claims(empty, rounds, alone=True)  # its first does not count: tables and caches are new
        taken = [(claims(place, rounds, alone=False), claims(empty, rounds, alone=True)) for _ in range(turns)]
        with place.web() as (_, port):
            reads = place.result("read_load", "--port", str(port), "--rounds", str(run.size(25, 10)))["reads"]
    return [*_claim_lines(taken, filled), *_read_lines(reads, filled)]


def _claim_lines(
    taken: Sequence[tuple[dict[str, float], dict[str, float]]], filled: dict[str, Any]
) -> Iterator[Measurement]:
    for batch in BATCHES:
        full, empty = ([figures[side][f"claim_{batch}_ms_p99"] for figures in taken] for side in (0, 1))
        yield Measurement(
            f"claim of {batch}, {filled['ready']:,} ready, p99",
            "ms",
            median(full),
            median(empty),
            "an empty queue",
            higher_is_better=False,
            mark=Mark(ratio=0.5),
            details={"taken": taken, "filled": filled},
        )


def _read_lines(reads: dict[str, dict[str, Any]], filled: dict[str, Any]) -> Iterator[Measurement]:
    for name, figures in reads.items():
        yield Measurement(
            f"read {name}, p95",
            "ms",
            figures.get("ms_p95"),
            higher_is_better=False,
            mark=Mark(value=LIST_MARK_MS if name.startswith("admin") else PAGE_MARK_MS),
            details={**figures, "filled": filled},
        )
