"""What a target, a step and an execution have come to: the rules alone, without a worker."""

from __future__ import annotations

from typing import Any

import pytest

from executions.connectors.base import ErrorCode, Outcome
from executions.engine.control import Control
from executions.engine.outcome import ending_of, step_verdict
from executions.engine.state import ExecutionState, StepState, TargetState
from executions.engine.verdict import judge
from executions.services.policy import LATEST, needed_seconds, retry_pause_seconds, spread

SUCCESS = {"exit_codes": [0], "stdout_matches": None}


def judged(outcome: Outcome, *, stop_reason: str | None = None, idempotent: bool = False) -> str:
    verdict = judge(outcome, success=SUCCESS, stdout="", stop_reason=stop_reason, idempotent=idempotent, limit=5)
    return verdict.status


def step(key: str, status: str, *targets: str, on_failure: str = "stop", max_failures: int | str = 0) -> StepState:
    planned: dict[str, Any] = {
        "on_failure": on_failure,
        "fan_out": {"max_failures": max_failures, "max_concurrent": 20},
        "depends_on": [],
    }
    rows = [TargetState(n, None, target, 1, None, "") for n, target in enumerate(targets or (status,))]
    return StepState(1, key, planned, status, rows)


def verdict_of(step: StepState, stop_reason: str | None = None) -> str:
    return step_verdict(step, {}, told(stop_reason)).status


def told(stop_reason: str | None) -> Control:
    control = Control()
    if stop_reason:
        control.stop(stop_reason)
    return control


def ending(*steps: StepState, status: str = "running", stop: str | None = None, some_left: bool = False) -> str:
    state = ExecutionState(1, 1, 1, status, "modify", 5, 60, {}, list(steps))
    return ending_of(state, {}, told(stop), some_left=some_left).status


@pytest.mark.parametrize("reason", ["timeout", "user", "shutdown"])
def test_what_ended_by_itself_while_it_was_asked_to_stop_is_judged_by_how_it_ended(reason: str) -> None:
    assert judged(Outcome(0, stop_confirmed=True), stop_reason=reason) == "succeeded"
    assert judged(Outcome(3, stop_confirmed=True), stop_reason=reason) == "failed"


@pytest.mark.parametrize(
    "code",
    [ErrorCode.NO_ANSWER, ErrorCode.CONNECTION_LOST, ErrorCode.INVALID_ANSWER, ErrorCode.REDIRECT_REFUSED],
)
def test_a_lost_answer_is_unknown_unless_it_may_be_asked_again(code: ErrorCode) -> None:
    assert judged(Outcome(None, code)) == "unknown"
    assert judged(Outcome(None, code), idempotent=True) == "failed"
    # Stopped in the very moment, the connector's word that nothing goes on does not say that nothing was done.
    assert judged(Outcome(None, code, stop_confirmed=True), stop_reason="timeout") == "unknown"
    assert judged(Outcome(None, code, stop_confirmed=True), stop_reason="timeout", idempotent=True) == "timed_out"


@pytest.mark.parametrize("code", [code for code in ErrorCode if code.nothing_happened])
def test_what_was_never_sent_has_failed(code: ErrorCode) -> None:
    assert judged(Outcome(None, code)) == "failed"


@pytest.mark.parametrize("code", [ErrorCode.DISK_FULL, ErrorCode.CHECKSUM_MISMATCH])
def test_what_left_everything_as_it_was_has_failed(code: ErrorCode) -> None:
    assert judged(Outcome(None, code)) == "failed"


@pytest.mark.parametrize("code", list(ErrorCode))
def test_without_a_result_a_change_has_failed_only_where_nothing_was_changed(code: ErrorCode) -> None:
    """Whatever code comes without an exit code: `failed` may be tried again, so it says that nothing was done."""
    if code not in (ErrorCode.STOPPED, ErrorCode.KILLED_BY_SIGNAL, ErrorCode.UNEXPECTED_STATUS):
        assert judged(Outcome(None, code)) == ("failed" if code.left_as_it_was else "unknown")
    assert not (code.is_hopeless and code.is_transient)


def test_a_stop_that_nobody_saw_take_effect_is_unknown() -> None:
    stopped = Outcome(None, ErrorCode.STOPPED, stop_confirmed=False)
    assert judged(stopped, stop_reason="user") == "unknown"
    assert judged(stopped, stop_reason="user", idempotent=True) == "cancelled"
    assert judged(Outcome(None, ErrorCode.NOT_STARTED, stop_confirmed=True), stop_reason="shutdown") == "pending"


@pytest.mark.parametrize(
    ("targets", "max_failures", "expected"),
    [
        (["succeeded"] * 4, 0, "succeeded"),
        (["succeeded"] * 3 + ["failed"], 0, "failed"),
        (["succeeded"] * 3 + ["failed"], 1, "succeeded"),
        (["succeeded"] * 3 + ["timed_out"], "25%", "succeeded"),
        (["succeeded"] * 3 + ["failed"], "24%", "failed"),
        (["failed"] * 4, "100%", "failed"),
        (["timed_out"] * 4, 0, "timed_out"),
        (["succeeded", "unknown", "pending"], 3, "unknown"),
        (["succeeded", "pending"], 0, "pending"),
        (["failed", "skipped"], 0, "failed"),
    ],
)
def test_a_step_has_come_to_what_its_targets_have(targets: list[str], max_failures: int | str, expected: str) -> None:
    assert verdict_of(step("s", "running", *targets, max_failures=max_failures)) == expected


def test_a_step_without_a_target_has_done_nothing() -> None:
    nothing = step("s", "running")
    nothing.targets = []
    assert verdict_of(nothing) == "failed"


def test_targets_that_a_stop_kept_from_beginning_make_the_step_stopped() -> None:
    cut = step("s", "running", "succeeded", "skipped")
    assert verdict_of(cut, "user") == "cancelled"
    assert verdict_of(cut, "timeout") == "timed_out"


def test_only_what_did_all_that_the_plan_says_has_succeeded() -> None:
    done = step("a", "succeeded")
    assert ending(done) == "succeeded"
    assert ending(done, step("b", "failed", on_failure="continue")) == "succeeded"
    assert ending(done, step("b", "failed")) == "failed"
    assert ending(done, step("b", "timed_out")) == "timed_out"
    assert ending(step("b", "failed", on_failure="continue")) == "failed"
    assert ending(done, step("b", "cancelled")) == "failed"
    assert ending(done, step("b", "skipped")) == "failed"
    assert ending(done, step("b", "skipped"), status="queued") == "cancelled"
    assert ending(done, step("b", "succeeded", "succeeded", "failed", max_failures=1)) == "partial"
    assert ending(done, step("b", "succeeded", "succeeded", "skipped")) == "partial"


def test_a_stop_counts_only_if_it_kept_something_from_being_done() -> None:
    done, left = step("a", "succeeded"), step("b", "skipped")
    assert ending(done, stop="user") == "succeeded"
    assert ending(done, stop="timeout") == "succeeded"
    assert ending(done, left, stop="user", some_left=True) == "cancelled"
    assert ending(done, left, stop="timeout", some_left=True) == "timed_out"


def test_a_shutdown_gives_way_to_a_cancel_and_everything_to_a_lost_lease() -> None:
    control = told("shutdown")
    control.stop("user")
    assert control.stop_reason == "user"
    control.stop("timeout")
    assert control.stop_reason == "user"
    control.stop("lease_lost")
    assert control.stop_reason == "lease_lost"


def test_pauses_double_up_to_a_quarter_of_an_hour() -> None:
    assert [retry_pause_seconds({"delay_seconds": 10}, n) for n in (1, 2, 3)] == [10, 20, 40]
    assert retry_pause_seconds({"delay_seconds": 10}, 100) == 900
    assert retry_pause_seconds({"delay_seconds": 3600}, 5) == 3600
    assert retry_pause_seconds({"delay_seconds": 0}, 100) == 0
    pauses = {spread(100) for _ in range(50)}
    assert len(pauses) > 1, "machines that failed together do not come back together"
    assert min(pauses) >= 100, "never earlier than the plan says"
    assert max(pauses) <= 100 * LATEST


def test_a_thousand_steps_that_do_nothing_have_the_time_that_the_engine_needs() -> None:
    def step(number: int, before: list[str]) -> dict[str, Any]:
        nothing: dict[str, Any] = {
            "timeout_seconds": None,
            "estimated_duration": 0,
            "targets": [],
            "fan_out": {"max_concurrent": 20},
        }
        return {"id": str(number), "depends_on": before, "retry": {"max_attempts": 1, "delay_seconds": 0}, **nothing}

    in_a_row = [step(number, [str(number - 1)] if number else []) for number in range(1000)]
    at_once = [step(number, []) for number in range(1000)]
    for steps in (in_a_row, at_once):
        assert needed_seconds(steps, None) == pytest.approx(50)  # type: ignore[arg-type]


def test_the_time_a_plan_needs_holds_all_its_pauses() -> None:
    planned = {
        "id": "a",
        "depends_on": [],
        "timeout_seconds": 10,
        "estimated_duration": 1,
        "targets": [{}] * 5,
        "fan_out": {"max_concurrent": 2, "max_failures": 0},
        "retry": {"max_attempts": 3, "delay_seconds": 5},
    }
    assert needed_seconds([planned], None) == 3 * (3 * 10 + (5 + 10) * LATEST)  # type: ignore[arg-type]
