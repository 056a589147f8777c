"""What an attempt that has ended tells of the execution around it, and whether another one follows."""

from __future__ import annotations

from executions.connectors.base import Stop
from executions.engine.control import Control
from executions.engine.transcript import Attempted
from executions.engine.verdict import ENDED_FROM_OUTSIDE, Verdict
from executions.states import StepStatus

S = StepStatus

AGAIN = frozenset({S.FAILED, S.TIMED_OUT})


def take_in(control: Control, attempted: Attempted, stop: Stop) -> None:
    """Note what an attempt that was ended from outside says: by us, or by a warden that knows better than this worker.

    Nothing of the execution may be written any more when `control.lease_lost` is true afterwards.
    """
    if attempted.error_code not in ENDED_FROM_OUTSIDE:
        return
    if stop.reason is None:
        # Not we, but the warden ended it: this worker's right to act is over.
        control.stop("lease_lost")
    elif control.stop_reason is not None:
        control.cut_short = True
        if attempted.verdict.status == S.TIMED_OUT and control.stop_reason == "timeout":
            attempted.verdict = Verdict(S.TIMED_OUT, "timed_out", control.over_limit)


def tries_again(attempted: Attempted, control: Control) -> bool:
    """Whether an attempt is followed by another, now or after the worker was shut down, if the step has one left.

    `failed` is said of what plainly failed, or never began; what broke off in the middle is `unknown` unless the step
    may be run twice, so nothing is done twice here that must not be.
    """
    return not attempted.hopeless and attempted.verdict.status in AGAIN and control.somebody_goes_on
