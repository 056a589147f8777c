"""A circuit breaker: a service that keeps failing is left alone for a while, then asked once before it is used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

FAILURES = 5
OPEN_SECONDS = 10.0
LONGEST_OPEN_SECONDS = 60.0
PROBING_SECONDS = 1.0  # what others are told to wait while one asks

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a breaker stands. failures: in a row, up to now; reason: of the last one; opened: how often it has opened."""

    state: State
    failures: int
    reason: str
    opened: int


class Breaker:
    """Closed, open, or half open while one caller asks whether the service is well. Used from many threads.

    A caller asks `wait_seconds` first. 0: go on, and say `passed` or `failed` afterwards. Above 0: leave the service
    alone for so long. None: it is this caller's turn to probe, and to say how that went with `probed`.
    A request that began before the breaker opened changes nothing when it ends: only a probe closes it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._failures = 0
        self._reason = ""
        self._opened = 0
        self._open_until = 0.0
        self._open_seconds = OPEN_SECONDS

    def wait_seconds(self) -> float | None:
        with self._lock:
            if self._state == "closed":
                return 0.0
            if self._state == "half_open":
                return PROBING_SECONDS
            left = self._open_until - self._clock()
            if left > 0:
                return left
            self._state = "half_open"
            return None

    def passed(self) -> None:
        with self._lock:
            if self._state == "closed":
                self._failures, self._reason = 0, ""

    def failed(self, reason: str) -> None:
        with self._lock:
            if self._state != "closed":
                return
            self._failures += 1
            self._reason = reason
            if self._failures >= FAILURES:
                self._open(OPEN_SECONDS)

    def probed(self, reason: str | None) -> None:
        """The probe that None from `wait_seconds` asked for is over: well, or failed for `reason`."""
        with self._lock:
            if reason is None:
                self._state, self._failures, self._reason = "closed", 0, ""
                return
            self._failures += 1
            self._reason = reason
            self._open(min(self._open_seconds * 2, LONGEST_OPEN_SECONDS))

    def is_due(self) -> bool:
        """Whether it has been open for long enough that somebody should probe."""
        with self._lock:
            return self._state == "open" and self._clock() >= self._open_until

    def standing(self) -> Standing:
        with self._lock:
            return Standing(self._state, self._failures, self._reason, self._opened)

    def _open(self, seconds: float) -> None:
        self._state = "open"
        self._open_seconds = seconds
        self._open_until = self._clock() + seconds
        self._opened += 1
