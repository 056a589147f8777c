"""Evidence or nothing: what became of a target, judged from what its connector saw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from executions.connectors.base import ErrorCode, Outcome
from executions.states import StepStatus

S = StepStatus

# With these, there is a plain result all the same: the exit code is real.
RESULTS_ALL_THE_SAME = frozenset({None, ErrorCode.KILLED_BY_SIGNAL, ErrorCode.UNEXPECTED_STATUS})

ENDED_FROM_OUTSIDE = frozenset({ErrorCode.STOPPED, ErrorCode.NOT_STARTED})

OF_STOP = {"timeout": S.TIMED_OUT, "user": S.CANCELLED, "approval_withdrawn": S.CANCELLED, "shutdown": S.PENDING}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`status` of the target, with why. PENDING: it is to be run again, by this worker or another."""

    status: str
    error_code: str = ""
    error: str = ""


SUCCEEDED = Verdict(S.SUCCEEDED)


def judge(
    outcome: Outcome, *, success: dict[str, Any], stdout: str, stop_reason: str | None, idempotent: bool, limit: float
) -> Verdict:
    """Judge one attempt. `stop_reason` says what the engine asked the connector to stop for, `limit` its time limit.

    What ended by itself is judged by how it ended, even if it was asked to stop in the same moment.
    """
    code = outcome.exit_code
    if code is None or outcome.error_code not in RESULTS_ALL_THE_SAME:
        return _without_result(outcome, stop_reason, idempotent, limit)
    if code not in success["exit_codes"]:
        expected = ", ".join(map(str, success["exit_codes"]))
        return Verdict(
            S.FAILED,
            str(outcome.error_code or "exit_code"),
            outcome.error or f"It ended with exit code {code}; {expected} is expected.",
        )
    pattern = success["stdout_matches"]
    if pattern and not _compiled(pattern).search(stdout):
        return Verdict(
            S.FAILED,
            "criteria_not_met",
            f"Its output does not match the success criterion {pattern!r} (exit code {code}).",
        )
    return SUCCEEDED


def _without_result(outcome: Outcome, stop_reason: str | None, idempotent: bool, limit: float) -> Verdict:
    error_code = outcome.error_code
    if stop_reason is not None and error_code in ENDED_FROM_OUTSIDE:
        return _of_a_stop(outcome, stop_reason, idempotent, limit)
    if error_code is not None and _may_have_acted(error_code):
        if not idempotent:
            return Verdict(S.UNKNOWN, str(error_code), outcome.error or "It was asked for, but the answer was lost.")
        if stop_reason is not None:  # it broke off because it was asked to stop
            return _of_a_stop(outcome, stop_reason, idempotent, limit)
    return Verdict(S.FAILED, str(error_code or "no_exit_code"), outcome.error or "It ended without an exit code.")


def _may_have_acted(error_code: ErrorCode) -> bool:
    """Whether it had begun, or was sent, and nothing says how far it came: a new code counts so until it is known
    better."""
    return not error_code.left_as_it_was and error_code not in RESULTS_ALL_THE_SAME | ENDED_FROM_OUTSIDE


def _of_a_stop(outcome: Outcome, reason: str, idempotent: bool, limit: float) -> Verdict:
    untouched = outcome.error_code == ErrorCode.NOT_STARTED
    if outcome.stop_confirmed is False and not idempotent and not untouched:
        return Verdict(S.UNKNOWN, "stop_unconfirmed", outcome.error or "It was asked to stop; nobody saw that it did.")
    if reason == "shutdown" and not idempotent and not untouched:
        return Verdict(S.UNKNOWN, "interrupted", "It was stopped in the middle because its worker was shut down.")
    if reason == "timeout":
        return Verdict(S.TIMED_OUT, "timed_out", f"It did not end within {limit:g} s and was stopped.")
    return Verdict(OF_STOP.get(reason, S.CANCELLED), "" if reason == "shutdown" else reason)


@lru_cache(maxsize=500)
def _compiled(pattern: str) -> Any:
    return re2.compile(f"(?m){pattern}")  # ^ and $ are the ends of a line
