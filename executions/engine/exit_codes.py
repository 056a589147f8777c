"""Exit codes as they are stored and compared: whole numbers of 32 bits with a sign, whoever told them."""

from __future__ import annotations

from dataclasses import replace

from executions.connectors.base import ErrorCode, Outcome

_BITS_32 = 2**32
_LARGEST = 2**31 - 1
LONGEST_TOLD = 40  # digits: a service may send thousands


def with_fitting_code(outcome: Outcome) -> Outcome:
    """Return the outcome with an exit code that can be stored.

    SSH and some services count the codes of Windows without a sign: 3221225477 there is -1073741819 here, the same 32
    bits. A number beyond that is no exit code of anything, so nobody saw how the command ended; what was told stays in
    the sentence and in `data`.
    """
    code = outcome.exit_code
    if code is None or -_LARGEST - 1 <= code <= _LARGEST:
        return outcome
    if _LARGEST < code < _BITS_32:
        return replace(outcome, exit_code=code - _BITS_32)
    told = str(code)
    told = told if len(told) <= LONGEST_TOLD else f"{told[:LONGEST_TOLD]}..."
    return replace(
        outcome,
        exit_code=None,
        error_code=ErrorCode.INVALID_ANSWER,
        error=f"It is said to have ended with exit code {told}, which no command can end with. Whether it ran is not"
        " known.",
        data={**outcome.data, "told_exit_code": told},
    )
