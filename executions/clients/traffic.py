"""Counts of what this process asked of the services, until they are written to the database (reporting.py)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["ok", "declined", "not_reached", "answer_lost", "bad_answer", "given_up"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "declined", "not_reached", "answer_lost", "bad_answer", "given_up")
BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds; the last bucket has no end


@dataclass(slots=True)
class Counts:
    """requests: tries of any request; retried: those that were followed by another; buckets: not cumulated."""

    requests: int = 0
    retried: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, other: Counts) -> None:
        self.requests += other.requests
        self.retried += other.retried
        self.seconds += other.seconds
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]


Tallies = dict[tuple[str, Outcome], Counts]


class Traffic:
    """The counts by service and outcome. Used from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Tallies = {}

    def note(self, service: str, outcome: Outcome, seconds: float) -> None:
        with self._lock:
            counts = self._counts.setdefault((service, outcome), Counts())
            counts.requests += 1
            counts.seconds += seconds
            counts.buckets[bisect_left(BOUNDS, seconds)] += 1

    def note_retry(self, service: str, outcome: Outcome) -> None:
        with self._lock:
            self._counts.setdefault((service, outcome), Counts()).retried += 1

    def take(self) -> Tallies:
        """Return what was counted since the last time, and begin anew."""
        with self._lock:
            taken, self._counts = self._counts, {}
            return taken

    def give_back(self, taken: Tallies) -> None:
        """Count again what could not be written."""
        with self._lock:
            for key, counts in taken.items():
                self._counts.setdefault(key, Counts()).add(counts)


traffic = Traffic()
