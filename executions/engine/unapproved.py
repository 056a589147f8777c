"""What is said of steps and waves that wait for people, and how an execution ends that they did not let go on."""

from __future__ import annotations

from executions.approval_points import Point
from executions.engine.outcome import Ending
from executions.engine.state import StepState, TargetState
from executions.engine.waves import tally_of, waves_of
from executions.states import NOT_APPROVED

MOST_NAMED = 5  # machines in one sentence


def ending_refused(code: str, reason: str) -> Ending:
    """How an execution ends whose step, or wave, was rejected or forgotten."""
    return Ending(NOT_APPROVED[code], reason, code)


def waiting_sentence(step: StepState, point: Point) -> str:
    """What a step waits for, and on which machines it would go on."""
    if not point.wave:
        names = _shown(step.targets)
        where = f" on {names}" if names else ""
        return f"Step '{step.key}' ({step.planned['tool']}){where} waits for approval."
    wave = waves_of(step)[point.wave - 1]
    before = [target for one in waves_of(step)[: point.wave - 1] for target in one.targets]
    count = "1 target" if len(wave.targets) == 1 else f"{len(wave.targets):,} targets"
    return (
        f"Wave {wave.number} of {wave.of} of step '{step.key}' ({step.planned['tool']}) waits for approval:"
        f" {count} ({_shown(wave.targets)}). {_so_far(before)}"
    )


def _so_far(targets: list[TargetState]) -> str:
    tally = tally_of(targets)
    faults = f", {tally.faults}" if tally.faults else ""
    return f"Until now {tally.ok:,} of {len(targets):,} succeeded{faults}."


def _shown(targets: list[TargetState]) -> str:
    names = [target.name for target in targets if target.name]
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
