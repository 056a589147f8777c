"""What became of a step, from its targets, and of an execution, from its steps. Pure: nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from executions.engine.control import OVER_LIMIT, Control
from executions.engine.state import ExecutionState, StepState
from executions.engine.verdict import SUCCEEDED, Verdict
from executions.engine.waves import tally_of, verdict_of_gates
from executions.states import ExecutionStatus, StepStatus
from executions.tally import EARLIER_STEP_FAILED, Tally

E = ExecutionStatus
S = StepStatus

BAD = frozenset({S.FAILED, S.TIMED_OUT})
NOT_DONE = frozenset({S.PENDING, S.SKIPPED, S.CANCELLED})

MOST_NAMED = 5  # steps in one sentence


@dataclass(frozen=True, slots=True)
class Ending:
    """The final status of an execution, why, and a code for programs."""

    status: str
    reason: str = ""
    error_code: str = ""


# By the reason of the stop: what people want stopped ends as cancelled.
CANCELS = {
    "user": Ending(E.CANCELLED, "Cancelled.", "cancelled"),
    "approval_withdrawn": Ending(E.CANCELLED, "Its approval was withdrawn.", "approval_withdrawn"),
}


def step_verdict(step: StepState, verdicts: Mapping[int, Verdict], control: Control) -> Verdict:
    """Return what a step has come to. PENDING: targets are left to run, later or by somebody else.

    `verdicts` are those of the targets, by id, as far as this worker knows them.
    """
    statuses = [target.status for target in step.targets]
    if statuses == [S.SUCCEEDED]:
        return SUCCEEDED
    if not statuses:
        return Verdict(S.FAILED, "no_targets", "It has no target, so nothing was done.")
    if S.UNKNOWN in statuses:
        return Verdict(S.UNKNOWN, "outcome_unknown", _unknown_sentence(step, verdicts))
    if S.PENDING in statuses:
        return Verdict(S.PENDING)
    if S.CANCELLED in statuses:
        return Verdict(S.CANCELLED, "cancelled")
    if control.somebody_goes_on and (shut := verdict_of_gates(step, verdicts)):
        return shut
    tally = tally_of(step.targets)
    failed = tally.bad
    if failed <= step.tolerated_failures():
        left_out = sum(target.error_code == EARLIER_STEP_FAILED for target in step.targets)
        if tally.skipped > left_out:  # not because of the failures, so because it was stopped
            if control.stop_reason == "timeout":
                return Verdict(S.TIMED_OUT, "timed_out", OVER_LIMIT)
            return Verdict(S.CANCELLED, "cancelled")
        if S.SUCCEEDED in statuses:
            return Verdict(S.SUCCEEDED, "", _note(tally, left_out))
    return _failure(step, verdicts, tally)


def _note(tally: Tally, left_out: int) -> str:
    """What a step that succeeded did not do, in a sentence; empty when it did all."""
    parts = [_how_many_failed(tally) + ", which the plan allows"] if tally.bad else []
    if left_out:
        parts.append(f"{_targets(left_out)} left out, because a step before this one did not succeed there")
    return f"{'; '.join(parts)}." if parts else ""


def _how_many_failed(tally: Tally) -> str:
    """`3 of 100 targets failed and 2 were unreachable`; a target whose time ran out counts as one that failed."""
    failed, away = tally.failed + tally.timed_out, tally.unreachable
    if not away:
        return f"{failed} of {tally.total} targets failed"
    were = "was" if away == 1 else "were"
    if not failed:
        return f"{away} of {tally.total} targets {were} unreachable"
    return f"{failed} of {tally.total} targets failed and {away} {were} unreachable"


def _targets(count: int) -> str:
    return f"{count} target was" if count == 1 else f"{count} targets were"


def _failure(step: StepState, verdicts: Mapping[int, Verdict], tally: Tally) -> Verdict:
    bad = [target for target in step.targets if target.status in BAD]
    worst = next((verdicts[target.id] for target in bad if target.id in verdicts), None)
    error = worst.error if worst else ""
    if len(step.targets) > 1:
        error = f"{_how_many_failed(tally)}; {bad[0].name}: {error}".removesuffix(": ")
    status = S.TIMED_OUT if all(target.status == S.TIMED_OUT for target in bad) else S.FAILED
    return Verdict(status, worst.error_code if worst else "failed", error)


def _unknown_sentence(step: StepState, verdicts: Mapping[int, Verdict]) -> str:
    unknown = [target for target in step.targets if target.status == S.UNKNOWN]
    why = next((verdicts[t.id].error for t in unknown if t.id in verdicts and verdicts[t.id].error), "")
    if len(step.targets) == 1:
        return why or "Whether it took effect is not known."
    return f"On {len(unknown)} of {len(step.targets)} targets the outcome is not known. {why}".strip()


def stops_the_plan(step: StepState) -> bool:
    """Whether nothing begins any more because of how this step ended."""
    return step.is_over and not step.lets_go_on and step.status != S.SKIPPED


def ending_of(state: ExecutionState, errors: Mapping[int, str], control: Control, *, some_left: bool) -> Ending:
    """Return how an execution ends whose steps will not go on.

    `errors` are those of the steps, by id; `some_left`: steps were left that would have run. Succeeded is only what
    did all that the plan says, but for failures that it allows.
    """
    steps = state.steps
    bad = [step for step in steps if step.status in BAD]
    if control.stop_reason == "timeout" and (some_left or control.cut_short):
        return Ending(E.TIMED_OUT, OVER_LIMIT, "timed_out")
    if control.stop_reason in CANCELS and (some_left or any(step.status == S.CANCELLED for step in steps)):
        return CANCELS[control.stop_reason]
    fatal = [step for step in bad if step.planned["on_failure"] != "continue"]
    if fatal:
        return _of_a_failure(fatal[0], errors)
    undone = [step for step in steps if step.status in NOT_DONE and not (step.status == S.SKIPPED and step.unchecked)]
    if undone:
        # It was cancelled under an earlier lease; since then a person has said what became of an unknown outcome.
        reason = f"It was cancelled before; step '{undone[0].key}' was not done."
        return Ending(E.CANCELLED if state.status in (E.QUEUED, E.CANCELLING) else E.FAILED, reason, "cancelled")
    if not any(step.status == S.SUCCEEDED for step in steps):
        return Ending(E.FAILED, "No step succeeded.", "failed")
    ending = _of_a_success(steps, len(bad))
    if state.document.get("check"):
        return replace(ending, reason=f"{ending.reason} {_of_a_check(steps)}".strip())
    return ending


def _of_a_check(steps: list[StepState]) -> str:
    """What a check was worth: nothing was changed, and what nobody looked at."""
    left = [f"'{step.key}'" for step in steps if step.unchecked]
    if not left:
        return "Check mode: nothing was changed, and every step was checked."
    more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
    what = "Step" if len(left) == 1 else "Steps"
    return f"Check mode: nothing was changed. {what} {', '.join(left[:MOST_NAMED])}{more} could not be checked."


def _of_a_failure(step: StepState, errors: Mapping[int, str]) -> Ending:
    what = f"Step '{step.key}' {step.status.replace('_', ' ')}"
    reason = f"{what}: {errors[step.id]}" if errors.get(step.id) else f"{what}."
    return Ending(E.TIMED_OUT if step.status == S.TIMED_OUT else E.FAILED, reason, step.status)


def _of_a_success(steps: list[StepState], bad: int) -> Ending:
    failed = away = not_run = 0
    for step in steps:
        if step.status == S.SUCCEEDED and len(step.targets) > 1:
            tally = tally_of(step.targets)
            failed += tally.failed + tally.timed_out
            away += tally.unreachable
            not_run += sum(target.status in NOT_DONE for target in step.targets)
    if failed or away or not_run:
        parts = []
        if failed or away:
            faults = [f"{failed} {'target' if failed == 1 else 'targets'} failed"] if failed else []
            faults += [f"{away} {'target was' if away == 1 else 'targets were'} unreachable"] if away else []
            parts.append(f"{' and '.join(faults)}, which the plan allows")
        if not_run:
            parts.append(f"nothing was done on {not_run} {'target' if not_run == 1 else 'targets'}")
        reason = "; ".join(parts)
        return Ending(E.PARTIAL, f"{reason[0].upper()}{reason[1:]}.", "partial")
    if bad:
        return Ending(E.SUCCEEDED, f"{'1 step' if bad == 1 else f'{bad} steps'} failed, which the plan allows.")
    return Ending(E.SUCCEEDED)
