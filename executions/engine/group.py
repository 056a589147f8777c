"""A step on many targets as one run, for tools that know of all their targets at once (GroupConnector).

Each target still has its own row, events, output, verdict and attempts: only the process is one. All of them are
durably `running` before it begins; each outcome is written as it comes, so a crash finds what was known by then, and a
target without an outcome is one of which nobody knows.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from executions.connectors.base import ErrorCode, GroupConnector, Invocation, Outcome, Stop, Target
from executions.connectors.registry import NoConnector, connector_for
from executions.engine.after_attempt import take_in, tries_again
from executions.engine.attempt import Refusal, context_for, invocation_of, never_started, rendered_inputs, tool_of
from executions.engine.control import Control
from executions.engine.ledger import Ledger, Record
from executions.engine.masks import masked_sentence
from executions.engine.moves import Moves
from executions.engine.secrets import RunSecrets, Stopped
from executions.engine.state import ExecutionState, StepState, TargetState
from executions.engine.transcript import Attempted, Emit, Transcript
from executions.engine.verdict import Verdict
from executions.services.policy import retry_pause_seconds, spread, step_seconds
from executions.states import StepStatus

log = logging.getLogger(__name__)

S = StepStatus

# What the engine itself does; nobody is connected to.
OWN = frozenset({"none", "inventory"})


@dataclass(slots=True)
class Group:
    """Targets that are one run: they have the same connector and, rendered for each of them, the same inputs."""

    connector: GroupConnector
    inputs: dict[str, Any]
    targets: list[TargetState] = field(default_factory=list)


def group_connector(step: StepState, target: TargetState) -> GroupConnector | None:
    """Return what takes a target of the step together with others; None when its targets are run one by one, or when
    the attempt will say why it cannot be run at all."""
    if target.planned is None:
        return None
    try:
        kind = tool_of(step).connector
        connector: Any = None if kind in OWN else connector_for(kind, target.planned["connection"])
    except (Refusal, NoConnector):
        return None
    return connector if hasattr(connector, "run_group") else None


def divided(
    step: StepState, targets: Sequence[TargetState], by_key: dict[str, StepState]
) -> tuple[list[Group], list[TargetState]]:
    """Divide targets into those that are run together and those that are run one by one."""
    groups: dict[tuple[int, str], Group] = {}
    single: list[TargetState] = []
    for target in targets:
        connector = group_connector(step, target)
        try:
            inputs = rendered_inputs(step, context_for(step, target, by_key)) if connector is not None else {}
        except Refusal:
            connector = None  # refused, with its sentence, where it is run by itself
        if connector is None:
            single.append(target)
            continue
        key = id(connector), json.dumps(inputs, sort_keys=True, default=str)
        groups.setdefault(key, Group(connector, inputs)).targets.append(target)
    return list(groups.values()), single


class GroupRunner:
    """Runs the groups of one execution under one lease."""

    __slots__ = ("_control", "_emit", "_fence", "_ledger", "_moves", "_secrets", "_state")

    def __init__(
        self,
        state: ExecutionState,
        fence: int,
        ledger: Ledger,
        moves: Moves,
        control: Control,
        secrets: RunSecrets,
        emit: Emit,
    ) -> None:
        self._state = state
        self._fence = fence
        self._ledger = ledger
        self._moves = moves
        self._control = control
        self._secrets = secrets
        self._emit = emit

    async def run(self, step: StepState, group: Group, record: Record) -> None:
        """Run a group to its end, with the retries of those of its targets that failed. `record` is what is to be
        written as it begins."""
        limit = step_seconds(step.planned, self._state.step_seconds)
        attempts = step.planned["retry"]["max_attempts"]
        last = {target.id: max(attempts, target.attempt + 1) for target in group.targets}
        targets = group.targets
        while targets:
            for target in targets:
                target.attempt += 1
                self._moves.target(record, step, target, S.RUNNING, None, None, {"attempt": target.attempt})
            await self._ledger.commit(record)
            again: dict[int, float] = {}  # by target, what is to be waited before it is tried again
            await self._attempt(step, replace(group, targets=targets), limit, partial(self._end, step, last, again))
            if self._control.lease_lost:
                return
            targets = [target for target in targets if target.id in again]
            if targets and not await self._control.pause(max(again.values())):
                return self._give_up(step, targets)
            record = self._moves.record()

    def _end(
        self, step: StepState, last: dict[int, int], again: dict[int, float], target: TargetState, attempted: Attempted
    ) -> None:
        """Write what became of one target, as soon as it is known; note when it is to be tried again."""
        if self._control.lease_lost:
            return
        record = self._moves.record()
        new, more = attempted.verdict.status, None
        if target.attempt < last[target.id] and tries_again(attempted, self._control):
            pause = again[target.id] = spread(retry_pause_seconds(step.planned["retry"], target.attempt))
            new, more = S.PENDING, {"next_in_seconds": round(pause, 3)}
        self._moves.target(record, step, target, new, attempted.verdict, attempted, more)
        self._ledger.submit(record)

    def _give_up(self, step: StepState, waiting: Sequence[TargetState]) -> None:
        """Close those that were to be tried again, unless another worker does it."""
        if self._control.somebody_goes_on or self._control.lease_lost:
            return
        self._control.cut_short = True
        record = self._moves.record()
        for target in waiting:
            self._moves.target(record, step, target, S.CANCELLED)
        self._ledger.submit(record)

    async def _attempt(
        self, step: StepState, group: Group, limit: float, end: Callable[[TargetState, Attempted], None]
    ) -> None:
        """Run the group once and tell what became of each of its targets."""
        stop = self._control.begin()

        def hear(target: TargetState, attempted: Attempted) -> None:
            take_in(self._control, attempted, stop)
            end(target, attempted)

        try:
            invocation = await self._invocation(step, group, limit, stop)
            reached = await self._reach(step, group.targets, limit, stop, hear)
            invocation = await self._secrets.masking(invocation, stop)
        except Refusal as refusal:
            for target in group.targets:
                if target.status == S.RUNNING:
                    hear(target, _refused(refusal))
        except Stopped:
            for target in group.targets:
                if target.status == S.RUNNING:
                    hear(target, never_started(step, stop, limit))
        else:
            if reached:
                await run_together(
                    step, reached, invocation, group.connector, self._fence, stop, limit, self._transcript, hear
                )
        finally:
            self._control.end(stop)

    async def _invocation(self, step: StepState, group: Group, limit: float, stop: Stop) -> Invocation:
        if step.names_secrets:
            invocation = await self._secrets.invocation_for(step, group.targets[0], group.inputs, limit, stop)
        else:
            invocation = invocation_of(step, group.targets[0], group.inputs, limit, self._secrets.values)
        return replace(invocation, at_once=step.planned["fan_out"]["max_concurrent"])

    async def _reach(
        self,
        step: StepState,
        targets: Sequence[TargetState],
        limit: float,
        stop: Stop,
        hear: Callable[[TargetState, Attempted], None],
    ) -> list[tuple[TargetState, Target]]:
        """Return those that can be reached, each with its credential; the others are refused for themselves."""
        asked = (self._secrets.reach_of(step, target, limit, stop) for target in targets)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Refusal):
                raise answer
        reached = []
        for target, answer in zip(targets, answers, strict=True):
            if isinstance(answer, Refusal):
                hear(target, _refused(answer))
            elif isinstance(answer, Target):
                reached.append((target, answer))
        return reached

    def _transcript(self, step: StepState, target: TargetState) -> Transcript:
        return Transcript(
            step, target, secret_values=lambda: self._secrets.values, emit=self._emit, room=self._ledger.room
        )


async def run_together(
    step: StepState,
    reached: Sequence[tuple[TargetState, Target]],
    invocation: Invocation,
    connector: GroupConnector,
    fence: int,
    stop: Stop,
    limit: float,
    transcript: Callable[[StepState, TargetState], Transcript],
    hear: Callable[[TargetState, Attempted], None],
) -> None:
    """Have a connector carry out one run on its targets, for no longer than `limit`, and hear of each exactly once.

    WardenLost and bugs come out as exceptions; what was not heard of then is for the next worker to settle.
    """
    open_ones = {place: transcript(step, target) for place, (target, _) in enumerate(reached)}
    sinks = [open_ones[place].sink for place in range(len(reached))]

    def on_outcome(place: int, outcome: Outcome) -> None:
        ended = open_ones.pop(place, None)
        if ended is None:
            log.error("%s told a second outcome of %s.", type(connector).__name__, reached[place][0].name)
            return
        ended.close()
        hear(reached[place][0], ended.judged(outcome, stop_reason=stop.reason, limit=limit))

    timer = asyncio.get_running_loop().call_later(max(0.0, limit), stop.request, "timeout")
    try:
        await connector.run_group(
            invocation, [where for _, where in reached], sinks=sinks, stop=stop, fence=fence, on_outcome=on_outcome
        )
    except BaseException:
        for left in open_ones.values():
            left.close()
        raise
    finally:
        timer.cancel()
    for place in list(open_ones):
        on_outcome(place, _nobody_knows(stop))


def _nobody_knows(stop: Stop) -> Outcome:
    if stop.requested:
        return Outcome(None, ErrorCode.STOPPED, "The run was stopped and did not say what became of it.", False)
    return Outcome(None, ErrorCode.NO_ANSWER, "The run ended and did not say what became of it.")


def _refused(refusal: Refusal) -> Attempted:
    verdict = Verdict(S.FAILED, refusal.code, masked_sentence(str(refusal)))
    return Attempted(verdict, None, None, {}, hopeless=refusal.hopeless, acted=False)
