"""How many executions are finished in a minute, from the counters that workers tell with their beats.

Nothing is counted over executions: a web process remembers the counters that it has read, and compares.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from queueing.models import Worker

WINDOW = timedelta(minutes=5)
# Workers tell their counters with each beat. Over less than this the figure would jump.
AT_LEAST = timedelta(seconds=20)
# Two readings that are closer than this say nothing new.
APART = timedelta(seconds=4)
# Workers that are looked at: with those that ended lately, since what they finished counts too.
NEWEST = 500


@dataclass(frozen=True, slots=True)
class Rate:
    """Executions finished in a minute; `over` is the time it was measured in, None: since the workers began."""

    per_minute: float
    over: timedelta | None


@dataclass(slots=True)
class Throughput:
    """Readings of the last minutes. May be used by several threads."""

    _readings: deque[tuple[datetime, dict[int, int]]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, now: datetime) -> Rate:
        """Read the counters and return the rate. One statement; `now` is the database's time."""
        rows = list(Worker.objects.order_by("-pk")[:NEWEST])
        counters = {row.pk: row.finished for row in rows}
        with self._lock:
            while self._readings and now - self._readings[0][0] > WINDOW:
                self._readings.popleft()
            first = self._readings[0] if self._readings else None
            if not self._readings or now - self._readings[-1][0] >= APART:
                self._readings.append((now, counters))
        if first is None or now - first[0] < AT_LEAST:
            return Rate(_since_they_began([row for row in rows if row.stopped_at is None], now), None)
        began, before = first
        oldest = min(before, default=0)
        # One that registered since counts from nothing; one that is older than all that were read then was left out.
        done = sum(count - before.get(pk, 0) for pk, count in counters.items() if pk in before or pk > oldest)
        return Rate(max(0, done) / ((now - began) / timedelta(minutes=1)), now - began)


def _since_they_began(workers: Iterable[Worker], now: datetime) -> float:
    minutes = timedelta(minutes=1)
    return sum(row.finished / max(1.0, (now - row.started_at) / minutes) for row in workers)
