"""What one measurement says, and whether it meets its mark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Mark:
    """What to reach: an absolute figure, a ratio to the reference of the same run, or both.

    `value` is in the unit of the measurement; `ratio` says how many times better than the reference ours has to be.
    """

    value: float | None = None
    ratio: float | None = None

    def text(self, *, higher_is_better: bool) -> str:
        """The mark as the table shows it, as ">= 20,000, > 2x"; "" when there is none."""
        parts = []
        if self.value is not None:
            parts.append(
                f"{'>=' if higher_is_better else '<'} {self.value:,.4g}"
                if self.value < 1000
                else f"{'>=' if higher_is_better else '<'} {self.value:,.0f}"
            )
        if self.ratio is not None:
            parts.append(f"> {self.ratio:g}x")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the table. `ours` or `reference` is None when that side did not run; the details then say why."""

    name: str
    unit: str
    ours: float | None
    reference: float | None = None
    reference_name: str = ""
    higher_is_better: bool = True
    mark: Mark = Mark()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times better ours is than the reference of the same run; None when one of them is missing."""
        if not self.ours or not self.reference:
            return None
        return self.ours / self.reference if self.higher_is_better else self.reference / self.ours

    @property
    def met(self) -> bool | None:
        """Whether every part of the mark was reached; None when there is no mark, or a part of it has no figure.

        A part that was missed decides alone: a missing reference does not hide a missed absolute figure.
        """
        verdicts: list[bool | None] = []
        if self.mark.value is not None:
            if self.ours is None:
                verdicts.append(None)
            elif self.higher_is_better:
                verdicts.append(self.ours >= self.mark.value)
            else:
                verdicts.append(self.ours < self.mark.value)
        if self.mark.ratio is not None:
            verdicts.append(None if self.ratio is None else self.ratio > self.mark.ratio)
        if False in verdicts:
            return False
        return None if None in verdicts or not verdicts else True

    def as_dict(self) -> dict[str, Any]:
        """The JSON shape of the results file: the fields, `ratio`, `met`."""
        return {**asdict(self), "details": dict(self.details), "ratio": self.ratio, "met": self.met}


@dataclass(frozen=True, slots=True)
class PeerRates:
    """What one configuration of one peer did with no-op jobs. A rate is None when it was not measured."""

    name: str
    jobs: int = 0
    enqueue_per_second: float | None = None
    bulk_enqueue_per_second: float | None = None
    process_per_second: float | None = None
    skipped: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "details": dict(self.details)}
