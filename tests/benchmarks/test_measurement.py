"""What a line of the benchmark's table says about its mark."""

from __future__ import annotations

import re

import pytest

from benchmarks import table
from benchmarks.measurement import Mark, Measurement


@pytest.mark.parametrize(
    ("ours", "reference", "mark", "met"),
    [
        (20_000, 9_000, Mark(value=20_000, ratio=2), True),
        (19_999, 9_000, Mark(value=20_000, ratio=2), False),
        (20_000, 10_000, Mark(value=20_000, ratio=2), False),
        (20_000, None, Mark(value=20_000), True),
        (20_000, None, Mark(), None),
    ],
)
def test_a_mark_is_met_only_when_all_its_parts_are(
    ours: float, reference: float | None, mark: Mark, met: bool | None
) -> None:
    assert Measurement("queue", "entries/s", ours, reference, mark=mark).met is met


def test_a_missing_reference_leaves_the_verdict_open_but_hides_no_miss() -> None:
    mark = Mark(value=20_000, ratio=2)
    assert Measurement("queue", "entries/s", 30_000, None, mark=mark).met is None
    assert Measurement("queue", "entries/s", 10_000, None, mark=mark).met is False


def test_a_measurement_that_failed_never_meets_its_mark() -> None:
    assert Measurement("queue", "entries/s", None, 9_000, mark=Mark(value=20_000)).met is None


def test_where_lower_is_better_the_ratio_says_how_many_times_faster() -> None:
    latency = Measurement("latency", "ms", 4.0, 8.0, higher_is_better=False, mark=Mark(value=10, ratio=1.5))
    assert latency.ratio == 2.0
    assert latency.met is True
    assert Measurement("latency", "ms", 10.0, higher_is_better=False, mark=Mark(value=10)).met is False


def test_the_table_shows_the_miss_the_ratio_and_the_mark() -> None:
    shown = table.measurements_table(
        [Measurement("queue", "entries/s", 10_000, 8_000, "pgqueuer", mark=Mark(value=20_000, ratio=2))]
    )
    cells = re.split(r" {2,}", shown.splitlines()[-1])
    assert cells == ["queue", "entries/s", "10,000", "8,000", "1.25x", ">= 20,000, > 2x", "NO", "pgqueuer"]
