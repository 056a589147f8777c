"""What the steps of the load wrote down themselves: one file for each asset, in the order in which things happened."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

UPTIME = Path("/proc/uptime")
needs_proc = pytest.mark.skipif(not UPTIME.exists(), reason="the marks of the steps take their time from /proc/uptime")


@dataclass(slots=True)
class Run:
    """One run of one step on one asset. Places are lines of the asset's file, from 0; times those of /proc/uptime."""

    asset: str
    number: int
    step: str
    fence: int
    run: str
    first: int
    last: int
    began: float
    wrote_last: float
    code: int | None = None  # that it ended with; None when it never came to its end


@dataclass(slots=True)
class Evidence:
    """Read again with `read`; goes on where it stopped."""

    folder: Path
    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _by_run: dict[tuple[str, str], Run] = field(default_factory=dict)
    _read: dict[str, tuple[int, int]] = field(default_factory=dict)  # asset -> bytes, lines

    def read(self) -> list[Run]:
        """Take in what was appended since the last time; return the runs that began."""
        known = len(self.runs)
        for path in sorted(self.folder.iterdir()):
            position, line_number = self._read.get(path.name, (0, 0))
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            for line in whole.decode().splitlines():
                self._take(path.name, line_number, line)
                line_number += 1
            self._read[path.name] = (position + len(whole), line_number)
        return self.runs[known:]

    def _take(self, asset: str, place: int, line: str) -> None:
        uptime, mark, number, step, fence, run = line.split()
        at = float(uptime)
        if mark == "start":
            began = Run(asset, int(number), step, int(fence), run, place, place, at, at)
            self.runs.append(began)
            self._by_run[asset, run] = began
            return
        known = self._by_run.get((asset, run))
        if known is None or known.code is not None:
            self.problems.append(f"{asset}: line {place + 1} belongs to no run that goes on: {line}")
            return
        known.last, known.wrote_last = place, at
        if mark.startswith("end:"):
            known.code = int(mark[4:])


def wall_time_at_boot() -> float:
    """What to add to a time of /proc/uptime to get the wall clock's."""
    return time.time() - float(UPTIME.read_text().split()[0])
