"""What is to be undone of an execution, in which order, and what came of it. Pure: nothing is written here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from executions.connectors.base import ErrorCode
from executions.engine.outcome import BAD, Ending
from executions.engine.state import ExecutionState, StepState, TargetState
from executions.engine.verdict import Verdict
from executions.states import NOT_APPROVED, NOT_UNDONE, ExecutionStatus, StepStatus
from queueing.models import AttemptEnd

E = ExecutionStatus
S = StepStatus

MOST_NAMED = 5  # machines in one sentence
ENDED_BADLY = BAD | {S.CANCELLED}

# What a target says whose step was refused before anything of it ran: by its connector, or by the engine.
NOTHING_RAN = frozenset(str(code) for code in ErrorCode if code.nothing_happened) | {
    "invalid_input", "masked_output", "no_connector", "secret_unavailable", "tool_changed", "unknown_tool",
    "unresolved_placeholder",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Undo:
    """A step, and those of its targets on which it is to be undone."""

    step: StepState
    targets: list[TargetState]


def undos_of(state: ExecutionState, ending: Ending) -> list[Undo]:
    """Return what is to be undone of an execution that ends so, the newest first; nothing of what did nothing.

    After a cancel that is everything. After the failure of a step that asks for it, it is what was done where that step
    failed; of steps that have no target in common with it, everything. A step that nobody let go on has failed on all
    of its targets, also where its first waves succeeded.
    """
    if ending.status == E.CANCELLED:
        return _newest_first(state, {step.id: step.targets for step in state.steps})
    there: dict[int, list[TargetState]] = {}
    for failed in state.steps:
        if _is_to_be_undone(failed):
            hosts = _hosts_of_failure(failed)
            for step in state.steps:
                if _shares_targets(step, failed):
                    chosen = [target for target in step.targets if _host(target) in hosts]
                else:
                    chosen = step.targets
                there[step.id] = there.get(step.id, []) + chosen
    return _newest_first(state, there)


def asks_for_rollback(state: ExecutionState) -> bool:
    """Whether a step failed whose failure is to be rolled back."""
    return any(map(_is_to_be_undone, state.steps))


def _is_to_be_undone(step: StepState) -> bool:
    return step.planned["on_failure"] == "rollback" and (step.status in BAD or step.error_code in NOT_APPROVED)


def _newest_first(state: ExecutionState, chosen: dict[int, list[TargetState]]) -> list[Undo]:
    undos = []
    for step in sorted(state.steps, key=lambda step: step.ended, reverse=True):
        if step.planned.get("rollback") and step.id in chosen:
            wanted = {target.id for target in chosen[step.id]}
            targets = [target for target in step.targets if target.id in wanted and was_carried_out(target)]
            if targets:
                undos.append(Undo(step, targets))
    return undos


def was_carried_out(target: TargetState) -> bool:
    """Whether a step may have changed something on a target.

    Of attempts that a lost worker made, all but the last are not known any more, so they count as if they had.
    """
    if target.status == S.SUCCEEDED:
        return True
    if target.status not in ENDED_BADLY or target.attempt == 0:
        return False
    if target.acted is not None:
        return target.acted
    return target.attempt > 1 or target.error_code not in NOTHING_RAN


def _hosts_of_failure(step: StepState) -> set[int | None]:
    """Where it failed; where it was not done any more, when it was its time that ended and not one target's attempt."""
    if step.error_code in NOT_APPROVED:
        return {_host(target) for target in step.targets}
    bad = [target for target in step.targets if target.status in BAD]
    return {_host(target) for target in bad or step.targets if target.status != S.SUCCEEDED}


def _shares_targets(step: StepState, other: StepState) -> bool:
    if step is other:
        return True
    mine = {_host(target) for target in step.targets} - {None}
    return not mine.isdisjoint(_host(target) for target in other.targets)


def _host(target: TargetState) -> int | None:
    return target.planned["asset_id"] if target.planned else None


# -- the order --------------------------------------------------------------------------------------------------------


def blockers_of(state: ExecutionState) -> dict[int, list[TargetState]]:
    """Return by the id of each target what has to be undone before it, the nearest first.

    On one machine: all that was done there later. Elsewhere: all of a later step that depends on this one and was
    not meant for this machine, such as the balancer that a machine was taken out of.
    """
    below = _dependencies(state)
    planned = {step.key: {_host(target) for target in step.targets} for step in state.steps}
    waits: dict[int, list[TargetState]] = {}
    for place, step in enumerate(state.rollbacks):
        later = list(reversed(state.rollbacks[:place]))  # done later, so undone before
        undone_on = [{_host(target): target for target in one.targets} for one in later]
        for target in step.targets:
            host = _host(target)
            waits[target.id] = found = []
            for one, by_host in zip(later, undone_on, strict=True):
                if host in by_host:
                    found.append(by_host[host])
                elif step.key in below[one.key] and host not in planned[one.key]:
                    found += one.targets
    return waits


def _dependencies(state: ExecutionState) -> dict[str, set[str]]:
    """Return by step all that it depends on, directly or not: what has run ended after what it needs."""
    below: dict[str, set[str]] = {}
    for step in sorted(state.steps, key=lambda step: step.ended):
        needs = step.planned["depends_on"]
        below[step.key] = set(needs).union(*(below[key] for key in needs if key in below))
    return below


def spent_on_cleanup(undoing: Mapping[str, Any] | None) -> float:
    """Return how many seconds earlier attempts have worked at a cleanup, by the database's clock.

    Of one whose worker fell silent the last lease does not count: what it did after it was last heard of, nobody knows,
    and what was only waited for is not time that was used. Nor does what passed while nobody had it.
    """
    if undoing is None:
        return 0.0
    lease = settings.LEASE.total_seconds()
    return sum(
        max(0.0, float(seconds) - (lease if end == AttemptEnd.LEASE_EXPIRED else 0.0))
        for end, seconds in undoing.get("spent") or ()
    )


# -- what came of it --------------------------------------------------------------------------------------------------


def is_open(target: TargetState) -> bool:
    """Whether a person has to say what becomes of it: it was not undone, or nobody knows."""
    return target.status == S.UNKNOWN or (target.status in ENDED_BADLY and target.error_code != NOT_UNDONE)


def given_up(state: ExecutionState) -> set[int]:
    """Return the ids of the targets that will not be undone, because a person let stand what lies on top of them."""
    blockers = blockers_of(state)
    lost: set[int] = set()
    for step in state.rollbacks:
        for target in step.targets:
            if target.status != S.SUCCEEDED and any(
                one.id in lost or one.error_code == NOT_UNDONE or one.status == S.SKIPPED for one in blockers[target.id]
            ):
                lost.add(target.id)
    return lost


def rollback_verdict(step: StepState) -> Verdict:
    """Return what has come of undoing a step. PENDING: nothing went wrong, and some of it is left."""
    statuses = {target.status for target in step.targets}
    if S.UNKNOWN in statuses:
        return Verdict(S.UNKNOWN, "outcome_unknown", _of_worst(step, S.UNKNOWN))
    bad = [status for status in (S.FAILED, S.TIMED_OUT, S.CANCELLED) if status in statuses]
    if bad:
        # What nobody has answered yet comes first: it is what the step is asked about.
        code = next((t.error_code for t in step.targets if t.status in bad and is_open(t)), NOT_UNDONE)
        status = S.TIMED_OUT if bad == [S.TIMED_OUT] else S.FAILED
        return Verdict(status, code or str(status), _of_worst(step, bad[0]))
    if S.PENDING in statuses:
        return Verdict(S.PENDING)
    return Verdict(S.SUCCEEDED if S.SUCCEEDED in statuses else S.SKIPPED)


def _of_worst(step: StepState, status: str) -> str:
    which = [target for target in step.targets if target.status == status]
    said = which[0].error or f"It ended {status.replace('_', ' ')}."
    if len(step.targets) == 1:
        return said
    return f"On {len(which)} of {len(step.targets)} targets; {which[0].name}: {said}"


def story(rollbacks: Sequence[StepState], status: str = S.SUCCEEDED) -> str:
    """Return which steps were undone where, as a phrase: "on web-07: change, backup; on lb-1: drain"."""
    steps_of: dict[str, list[str]] = {}
    for step in rollbacks:
        for target in step.targets:
            if target.status == status:
                steps_of.setdefault(target.name, []).append(step.key)
    hosts_of: dict[tuple[str, ...], list[str]] = {}
    for host, keys in steps_of.items():
        hosts_of.setdefault(tuple(keys), []).append(host)
    where = {keys: named(hosts) for keys, hosts in hosts_of.items()}
    return "; ".join(f"{f'{where[keys]}: ' if where[keys] else ''}{', '.join(keys)}" for keys in hosts_of)


def named(hosts: Sequence[str]) -> str:
    """Return some machines in words: "on web-07, web-11"; empty when none has a name."""
    with_names = [host for host in hosts if host]
    if not with_names:
        return ""
    more = f" and {len(with_names) - MOST_NAMED} more" if len(with_names) > MOST_NAMED else ""
    return f"on {', '.join(with_names[:MOST_NAMED])}{more}"


def told(ending: Ending, rollbacks: Sequence[StepState]) -> str:
    """Return the sentence of the end, with what was rolled back and what was not."""
    done = story(rollbacks)
    sentence = f"{ending.reason} Rolled back {done}." if done else f"{ending.reason} Nothing was rolled back."
    left = ", ".join(sorted({step.key for step in rollbacks if _is_left(step.targets)}))
    return f"{sentence} Not undone, as a person decided: {left}." if left else sentence


def _is_left(targets: Iterable[TargetState]) -> bool:
    return any(target.status != S.SUCCEEDED for target in targets)
