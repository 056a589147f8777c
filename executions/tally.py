"""How the targets of a step, or of a part of them, stand: counted in the words that every page and answer uses."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from executions.connectors.base import ErrorCode
from executions.states import StepStatus

S = StepStatus

UNREACHABLE = frozenset(str(code) for code in ErrorCode if code.is_unreachable)

# Why a target was left out although the plan went on: a step before this one did not succeed there.
EARLIER_STEP_FAILED = "earlier_step_failed"


def is_unreachable(status: str, error_code: str) -> bool:
    """Whether a target failed because it could not be talked to at all."""
    return status == S.FAILED and error_code in UNREACHABLE


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of targets. Each is counted once: `failed` are those that were reached."""

    total: int = 0
    ok: int = 0
    failed: int = 0
    unreachable: int = 0
    timed_out: int = 0
    unknown: int = 0
    skipped: int = 0
    cancelled: int = 0
    running: int = 0
    pending: int = 0

    @classmethod
    def of(cls, targets: Iterable[tuple[str, str]]) -> Tally:
        """`targets`: status and error code of each."""
        return cls.counting(Counter(word_of(status, code) for status, code in targets))

    @classmethod
    def counting(cls, words: Counter[str]) -> Tally:
        """`words`: how many targets each word of this class, other than total, stands for."""
        return cls(total=words.total(), **words)

    @property
    def bad(self) -> int:
        """Those that are failures where failures are limited."""
        return self.failed + self.unreachable + self.timed_out

    @property
    def faults(self) -> str:
        """What went wrong, in words: `2 failed, 1 unreachable`; empty when nothing did."""
        named = (
            (self.failed, "failed"),
            (self.timed_out, "timed out"),
            (self.unreachable, "unreachable"),
            (self.unknown, "unknown"),
        )
        return ", ".join(f"{count:,} {word}" for count, word in named if count)

    def as_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


def wave_of(sizes: Sequence[int] | None, position: int) -> int | None:
    """The number of the wave, from 1, of a target with this position, from 1; None when all targets go as one.

    `sizes`: how many targets each wave of the step has.
    """
    if not sizes or len(sizes) < 2:
        return None
    return min(bisect_left(list(accumulate(sizes)), position) + 1, len(sizes))


def word_of(status: str, error_code: str) -> str:
    """The word of `Tally` for a target in this status with this error code."""
    if is_unreachable(status, error_code):
        return "unreachable"
    return "ok" if status == S.SUCCEEDED else str(status)
