"""How a step is to be run: on_failure, retry, success, fan_out, timeouts, approval."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import get_args

import re2

from executions.plans.compiled import StoredFanOut, StoredRetry, StoredSuccess
from executions.plans.fields import Fields, as_number
from executions.plans.run_as import read_run_as
from executions.plans.vocabulary import OnFailure, on_failure_of
from executions.plans.waves import count_or_share, read_gate, read_waves

LONGEST_TIMEOUT = 7 * 86_400.0
MOST_ATTEMPTS = 100
LONGEST_DELAY = 86_400.0
MOST_CONCURRENT = 1000
DEFAULT_CONCURRENT = 20
MOST_EXIT_CODES = 256
LONGEST_PATTERN = 1000


def once() -> StoredRetry:
    return {"max_attempts": 1, "delay_seconds": 0.0}


def exit_code_zero() -> StoredSuccess:
    return {"exit_codes": [0], "stdout_matches": None}


def without_failures() -> StoredFanOut:
    return {"max_concurrent": DEFAULT_CONCURRENT, "max_failures": 0}


@dataclass(slots=True)
class Behaviour:
    """What the step itself says. None: it says nothing, and the tool or the policy decides."""

    on_failure: OnFailure = "stop"
    retry: StoredRetry = field(default_factory=once)
    timeout_seconds: float | None = None
    idempotent: bool | None = None
    requires_approval: bool = False
    run_as: str = ""
    success: StoredSuccess = field(default_factory=exit_code_zero)
    fan_out: StoredFanOut = field(default_factory=without_failures)


def read_behaviour(fields: Fields) -> Behaviour:
    """Read the native fields, and what a planner says in their place; what is wrong is noted."""
    read = Behaviour()
    read.on_failure = _on_failure(fields)
    read.timeout_seconds = fields.number("timeout_seconds", 0, LONGEST_TIMEOUT, above=True)
    read.idempotent = fields.flag("idempotent")
    read.requires_approval = fields.flag("requires_approval") or False
    read.run_as = read_run_as(fields)
    if fields.given("retry"):
        read.retry = _retry(fields)
    if fields.given("success"):
        read.success = _success(fields)
    if fields.given("fan_out"):
        read.fan_out = _fan_out(fields)
    return read


def _on_failure(fields: Fields) -> OnFailure:
    own = fields.values.get("on_failure")
    if own is None or own == "":
        prose = fields.values.get("failure_handling")
        return on_failure_of(prose) if isinstance(prose, str) else "stop"
    for word in get_args(OnFailure):
        if isinstance(own, str) and own.strip().lower() == word:
            return word  # type: ignore[no-any-return]
    fields.wrong("on_failure", "on_failure must be stop, continue or rollback.", "Write one of the three.")
    return "stop"


def _retry(fields: Fields) -> StoredRetry:
    part = fields.part("retry", ("max_attempts", "delay_seconds"), "{max_attempts: 3, delay_seconds: 5}")
    if part is None:
        return once()
    return {
        "max_attempts": part.whole("max_attempts", 1, MOST_ATTEMPTS) or 1,
        "delay_seconds": part.number("delay_seconds", 0, LONGEST_DELAY) or 0.0,
    }


def _success(fields: Fields) -> StoredSuccess:
    read = exit_code_zero()
    part = fields.part("success", ("exit_codes", "stdout_matches"), "{exit_codes: [0, 2], stdout_matches: active}")
    if part is None:
        return read
    codes = part.values.get("exit_codes")
    if codes is not None:
        read["exit_codes"] = _exit_codes(part, codes)
    pattern = part.values.get("stdout_matches")
    if isinstance(pattern, str) and pattern:
        read["stdout_matches"] = pattern
        if len(pattern) > LONGEST_PATTERN or not is_pattern(pattern):
            part.wrong(
                "stdout_matches",
                f"stdout_matches is not a regular expression of RE2, or longer than {LONGEST_PATTERN} characters.",
                "Write a pattern without look-around and back references.",
            )
    elif pattern is not None:
        part.wrong("stdout_matches", "stdout_matches must be text.", "Write a regular expression in quotes.")
    return read


def _exit_codes(part: Fields, codes: object) -> list[int]:
    listed = codes if isinstance(codes, list) else [codes]
    numbers = [as_number(code) for code in listed]
    whole = [int(code) for code in numbers if code is not None and code.is_integer()]
    if (
        not listed
        or len(whole) != len(listed)
        or len(listed) > MOST_EXIT_CODES
        or not all(-(2**31) <= code < 2**31 for code in whole)
    ):
        part.wrong("exit_codes", "exit_codes must be a list of whole numbers, with at least one.", "Write [0].")
        return [0]
    return sorted(set(whole))


@lru_cache(maxsize=1024)
def is_pattern(pattern: str) -> bool:
    """Whether RE2 takes the pattern."""
    try:
        re2.compile(pattern)
    except re2.error:
        return False
    return True


def _fan_out(fields: Fields) -> StoredFanOut:
    known = ("max_concurrent", "max_failures", "waves", "gate")
    part = fields.part("fan_out", known, '{max_concurrent: 5, max_failures: "20%"}')
    if part is None:
        return without_failures()
    read: StoredFanOut = {
        "max_concurrent": part.whole("max_concurrent", 1, MOST_CONCURRENT) or DEFAULT_CONCURRENT,
        "max_failures": count_or_share(part, "max_failures"),
    }
    waves = read_waves(part)
    if part.given("gate") and waves is None and not part.problems.has_at(part.at("waves")):
        part.wrong("gate", "A gate stands between waves, and there are none.", "Add waves, such as [5%, 25%, rest].")
    if waves is not None:
        read["waves"], read["gate"] = waves, read_gate(part)
        if read["gate"]["max_failures"] and not read["max_failures"]:
            part.wrong(
                "gate.max_failures",
                "The gate allows failures, but the step allows none, so it would end with the first.",
                "Give fan_out a max_failures too: for all targets together.",
            )
    return read
