"""Waves: which targets of a step begin together, and what has to be true before the next ones begin.

Everything is worked out from the statuses of the targets, and those are rows. So a worker that takes over comes to the
same wave and judges the same gate: there is no note of how far it was that could be lost, or be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from executions.engine.state import OVER, StepState, TargetState
from executions.engine.verdict import Verdict
from executions.plans.waves import part_of
from executions.states import StepStatus
from executions.tally import EARLIER_STEP_FAILED, Tally

S = StepStatus

GATE_FAILED = "gate_failed"


@dataclass(frozen=True, slots=True)
class Wave:
    """Some of a step's targets. `allowed`: how many of them may fail before nothing more begins; the gate behind the
    wave lets no more than that pass. None behind the last wave, which has no gate. `asks`: a person is asked, too."""

    number: int
    of: int
    targets: list[TargetState]
    allowed: int | None
    pause_seconds: float
    asks: bool = False

    @property
    def tally(self) -> Tally:
        return tally_of(self.targets)

    @property
    def is_over(self) -> bool:
        return all(target.status in OVER for target in self.targets)

    @property
    def has_begun(self) -> bool:
        return any(target.attempt or target.status not in (S.PENDING, S.SKIPPED) for target in self.targets)

    @property
    def is_one_of_several(self) -> bool:
        return self.of > 1

    def is_shut(self) -> bool:
        """Whether the gate has failed, whatever becomes of targets that have not ended."""
        if self.allowed is None:
            return False
        tally = self.tally
        # No data is never a pass: of a wave that was left out as a whole nothing can be learned.
        return tally.bad > self.allowed or (self.is_over and not tally.ok and not tally.unknown)

    def lets_pass(self) -> bool:
        """Whether the gate has been judged, and the next wave may begin. An outcome that nobody knows is no pass."""
        return self.is_over and not self.is_shut() and not self.tally.unknown


def waves_of(step: StepState) -> list[Wave]:
    """Return the waves of a step in their order; all of its targets as one when the plan names none."""
    sizes: list[int] = step.planned.get("waves") or [len(step.targets)]
    gate: Mapping[str, Any] = step.planned["fan_out"].get("gate") or {"max_failures": 0, "pause_seconds": 0}
    waves, begin = [], 0
    for number, size in enumerate(sizes, 1):
        allowed = part_of(gate["max_failures"], size) if number < len(sizes) else None
        targets = step.targets[begin : begin + size]
        asks = allowed is not None and bool(gate.get("approval"))
        waves.append(Wave(number, len(sizes), targets, allowed, float(gate["pause_seconds"]), asks))
        begin += size
    return waves


def tally_of(targets: Iterable[TargetState]) -> Tally:
    return Tally.of((target.status, target.error_code) for target in targets)


def verdict_of_gates(step: StepState, verdicts: Mapping[int, Verdict]) -> Verdict | None:
    """Return that a gate failed and kept the rest of the targets from beginning; None when none did."""
    for wave in waves_of(step):
        if wave.is_shut():
            return Verdict(S.FAILED, GATE_FAILED, _gate_sentence(step, wave, verdicts))
    return None


def _gate_sentence(step: StepState, wave: Wave, verdicts: Mapping[int, Verdict]) -> str:
    size, total = len(wave.targets), len(step.targets)
    left = sum(target.status in (S.SKIPPED, S.PENDING) and not target.error_code for target in step.targets)
    what = wave.tally.faults or "it was left out as a whole"
    verb = "was" if left == 1 else "were"
    sentence = (
        f"The gate after wave {wave.number} ({size:,} of {total:,} targets) failed: {what};"
        f" {left:,} target{'' if left == 1 else 's'} {verb} left alone."
    )
    first = next((t for t in wave.targets if t.id in verdicts and t.status in (S.FAILED, S.TIMED_OUT)), None)
    if first is None or not verdicts[first.id].error:
        return sentence
    return f"{sentence} {first.name}: {verdicts[first.id].error}"


def left_out(step: StepState, by_key: Mapping[str, StepState]) -> dict[int, str]:
    """Return {id of a target that has not begun: id of the step before this one that did not succeed there}.

    A step that goes on although some of its targets failed goes on with the others: what was not backed up is not
    changed. `on_failure: continue` says that this does not matter.
    """
    out: dict[int, str] = {}
    for key in step.planned["depends_on"]:
        earlier = by_key[key]
        if earlier.unchecked or earlier.planned["on_failure"] == "continue":
            continue
        not_done = {t.planned["asset_id"] for t in earlier.targets if t.planned and t.status != S.SUCCEEDED}
        for target in step.targets:
            if target.planned and target.planned["asset_id"] in not_done and target.status == S.PENDING:
                out.setdefault(target.id, key)
    return out


def left_out_verdict(key: str) -> Verdict:
    return Verdict(S.SKIPPED, EARLIER_STEP_FAILED, f"Left out: step '{key}' did not succeed here.")
