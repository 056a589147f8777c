"""One step on its targets: one after the other or many at a time, with retries, and every move handed to the ledger.

A step is durably `running` before it touches anything, and its outcome is handed over before anything that depends on
it: the ledger keeps the order, so a crash finds either the outcome or `running`, and `running` means that nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from itertools import zip_longest
from typing import Any

from executions.approval_points import Point
from executions.connectors.base import Invocation, Stream
from executions.connectors.warden import WardenLost
from executions.engine.after_attempt import take_in, tries_again
from executions.engine.attempt import (
    Refusal,
    attempt,
    context_for,
    invocation_of,
    never_started,
    rendered_inputs,
    tool_of,
)
from executions.engine.control import Control
from executions.engine.group import Group, GroupRunner, divided, group_connector
from executions.engine.ledger import LeaseLost, Ledger, Record, WrongState
from executions.engine.masks import masked_sentence
from executions.engine.moves import Moves
from executions.engine.outcome import step_verdict
from executions.engine.secrets import RunSecrets, Stopped
from executions.engine.state import OVER, ExecutionState, StepState, TargetState
from executions.engine.transcript import Attempted
from executions.engine.turns import Turns
from executions.engine.verdict import Verdict
from executions.engine.waves import Wave, left_out, left_out_verdict, waves_of
from executions.services.policy import retry_pause_seconds, spread, step_seconds
from executions.states import StepStatus
from executions.tally import EARLIER_STEP_FAILED

S = StepStatus

FAILURES = frozenset({S.FAILED, S.TIMED_OUT, S.UNKNOWN})

NONE_LEFT = Verdict(
    S.FAILED, EARLIER_STEP_FAILED, "It ran nowhere: a step before it succeeded on none of the targets of this one."
)


class StepRunner:
    """Runs the steps of one execution under one lease."""

    __slots__ = (
        "_at_gates", "_by_key", "_control", "_fence", "_groups", "_ledger", "_moves", "_secrets", "_state", "_turns",
        "_waits_before",
    )  # fmt: skip

    def __init__(
        self,
        state: ExecutionState,
        fence: int,
        ledger: Ledger,
        moves: Moves,
        control: Control,
        secrets: RunSecrets,
        waits_before: frozenset[Point] = frozenset(),
    ) -> None:
        """`waits_before`: what may not begin, because nobody has approved it."""
        self._state = state
        self._fence = fence
        self._ledger = ledger
        self._moves = moves
        self._control = control
        self._secrets = secrets
        self._by_key = {step.key: step for step in state.steps}
        self._turns = Turns()
        self._waits_before = waits_before
        self._at_gates: dict[str, Point] = {}
        self._groups = GroupRunner(state, fence, ledger, moves, control, secrets, self._print)

    def ready(self) -> list[StepState]:
        """Return the steps that have not begun and whose dependencies let them."""
        return [
            step
            for step in self._state.steps
            if step.status == S.PENDING and all(self._by_key[key].lets_go_on for key in step.planned["depends_on"])
        ]

    def waits_for(self, step: StepState) -> Point | None:
        """Return what has to be approved before a step that is ready can go on; None when nothing has to."""
        whole = Point(step.key)
        return whole if whole in self._waits_before else self._at_gates.get(step.key)

    async def run(self, step: StepState) -> None:
        """Run a step to where it can go now: over, or back to pending when somebody shall go on with it later.

        Raises LeaseLost, WrongState, WardenLost, and bugs; nothing of the execution begins any more then.
        """
        try:
            await self._run(step)
        except (LeaseLost, WrongState, WardenLost):
            self._control.stop("lease_lost")
            raise
        except Exception:
            self._control.halt()  # a bug: what else runs may end and is written
            raise

    async def _run(self, step: StepState) -> None:
        record = self._moves.record()
        if step.unchecked:
            self._moves.skip_unchecked(record, step)
            self._ledger.submit(record)
            return
        if self._leave_out(record, step):
            return
        self._moves.step(record, step, S.RUNNING)
        only = step.targets[0] if len(step.targets) == 1 else None
        if only is not None and only.status == S.PENDING and group_connector(step, only) is None:
            await self._run_target(step, only, record, durable=False)
        else:
            await self._ledger.commit(record)
            await self._fan_out(step)
        self._secrets.forget(step)
        if self._control.lease_lost:
            return
        verdict = step_verdict(step, self._moves.verdicts, self._control)
        record = self._moves.record()
        self._moves.step(record, step, verdict.status, verdict)
        self._ledger.submit(record)

    async def run_on(self, step: StepState, target: TargetState, record: Record) -> None:
        """Run a step on one of its targets. `record` is what is written, durably, as it begins there."""
        groups, single = divided(step, [target], self._by_key)
        units: list[Group | TargetState] = [*groups, *single]
        for unit in units:
            await self._run_unit(step, unit, record)

    # -- targets ------------------------------------------------------------------------------------------------------

    def _leave_out(self, record: Record, step: StepState) -> bool:
        """Skip the targets on which a step before this one did not succeed; return whether none is left to run."""
        out = left_out(step, self._by_key)
        for target in step.targets:
            if key := out.get(target.id):
                self._moves.target(record, step, target, S.SKIPPED, left_out_verdict(key))
        if not out or any(target.status != S.SKIPPED for target in step.targets):
            return False
        self._moves.step(record, step, S.FAILED, NONE_LEFT)
        self._ledger.submit(record)
        return True

    async def _fan_out(self, step: StepState) -> None:
        """Run a step on those of its targets that are not over, in their order, wave by wave."""
        waves = waves_of(step)
        for wave, following in zip_longest(waves, waves[1:]):
            if not wave.is_over:
                await self._run_wave(step, wave)
            if not await self._passes(step, wave, following):
                break
        self._close_fan_out(step)

    async def _passes(self, step: StepState, wave: Wave, following: Wave | None) -> bool:
        """Judge the gate behind a wave, and wait for as long as it says; return whether the next wave may begin.

        Judged from the targets alone: a worker that takes over cannot go past a gate that nobody judged, and does not
        wait again before a wave that has begun. Where a person has to agree, the pause comes before the question: who
        has an approval has waited. It is only asked for what is left, also of a wave that had begun before an operator
        had it run once more.
        """
        gate = Point(step.key, following.number) if following is not None and not following.is_over else None
        shut = gate in self._waits_before
        if following is not None and following.has_begun and not shut:
            return True
        if gate is not None and wave.asks and not shut:
            return wave.lets_pass() and self._failed(step) <= step.tolerated_failures() and not self._control.halted
        if wave.is_one_of_several and (wave.is_over or wave.is_shut()) and not self._control.lease_lost:
            record = self._moves.record()
            record.events.append(self._moves.wave_finished(step, wave))
            self._ledger.submit(record)
        if following is None or not wave.lets_pass() or self._failed(step) > step.tolerated_failures():
            return False
        if not await self._control.pause(wave.pause_seconds):
            return False
        if gate is not None and shut:
            self._at_gates[step.key] = gate
        return not shut

    async def _run_wave(self, step: StepState, wave: Wave) -> None:
        """Run a step on the targets of one wave, until they have ended or too many of them, or of all, have failed."""
        left = step.tolerated_failures() - self._failed(step)
        if wave.allowed is not None:
            left = min(left, wave.allowed - sum(target.status in FAILURES for target in wave.targets))
        groups, single = divided(step, [t for t in wave.targets if t.status not in OVER], self._by_key)
        waiting: Iterator[Group | TargetState] = iter([*groups, *single])
        opening = [self._moves.wave_started(step, wave)] if wave.is_one_of_several and not wave.has_begun else []

        async def lane() -> None:
            nonlocal left
            while not self._control.halted and left >= 0 and (unit := next(waiting, None)) is not None:
                record = self._moves.record()
                record.events += opening  # with the first of its targets: a wave that begins has begun
                opening.clear()
                try:
                    await self._turns.take()
                    failed = await self._run_unit(step, unit, record)
                except Exception:
                    self._control.halt()
                    raise
                left -= failed  # not `left -= await ...`: that reads it before it waits, and forgets the other lanes

        largest = max((len(group.targets) for group in groups), default=1)
        lanes = min(max(1, step.planned["fan_out"]["max_concurrent"] // largest), len(wave.targets))
        await run_all(lane() for _ in range(lanes))

    async def _run_unit(self, step: StepState, unit: Group | TargetState, record: Record) -> int:
        """Run a step on one target, or on a group of them as one run; return how many failed."""
        if isinstance(unit, Group):
            await self._groups.run(step, unit, record)
            return sum(target.status in FAILURES for target in unit.targets)
        await self._run_target(step, unit, record, durable=True)
        return int(unit.status in FAILURES)

    @staticmethod
    def _failed(step: StepState) -> int:
        return sum(target.status in FAILURES for target in step.targets)

    def _close_fan_out(self, step: StepState) -> None:
        """Skip the targets that nobody will come to: not those that another worker goes on with, or that wait for a
        person to say what became of the others."""
        if self._control.lease_lost or step.key in self._at_gates:
            return
        left = [target for target in step.targets if target.status == S.PENDING]
        if not left:
            return
        if self._control.stop_reason is not None:
            self._control.cut_short = True
        if any(target.status == S.UNKNOWN for target in step.targets):
            return
        if self._control.halted and self._control.somebody_goes_on:
            return
        record = self._moves.record()
        for target in left:
            self._moves.target(record, step, target, S.SKIPPED)
        self._ledger.submit(record)

    async def _run_target(self, step: StepState, target: TargetState, record: Record, *, durable: bool) -> None:
        """Run a step on one target, with its retries. `record` is what is to be written as it begins.

        Attempts are counted over all workers; one is always left, also after a lost worker.
        """
        limit = step_seconds(step.planned, self._state.step_seconds)
        last = max(step.planned["retry"]["max_attempts"], target.attempt + 1)
        while True:
            target.attempt += 1
            try:
                # Only a worker whose lease the database has just seen is given a secret: so it commits first.
                durable = durable or touches_something(step) or step.names_secrets
                inputs = rendered_inputs(step, context_for(step, target, self._by_key))
                invocation = None
                if not step.names_secrets:
                    invocation = invocation_of(step, target, inputs, limit, self._secrets.values)
            except Refusal as refusal:
                self._begin(record, step, target)
                self._ledger.submit(record)
                self._close(step, target, Verdict(S.FAILED, refusal.code, masked_sentence(str(refusal))), None)
                return
            self._begin(record, step, target)
            if durable:
                await self._ledger.commit(record)
                await self._turns.take()  # a group of a thousand is durable at once
            else:
                self._ledger.submit(record)
            attempted = await self._attempt(step, target, inputs, invocation, limit)
            if attempted is None:
                return
            if target.attempt >= last or not tries_again(attempted, self._control):
                self._close(step, target, attempted.verdict, attempted)
                return
            if not await self._wait_for_next(step, target, attempted):
                return
            record, durable = self._moves.record(), True

    async def _wait_for_next(self, step: StepState, target: TargetState, attempted: Attempted) -> bool:
        """Put the target back to pending for the pause before its next attempt; return whether that is to begin."""
        pause = spread(retry_pause_seconds(step.planned["retry"], target.attempt))
        record = self._moves.record()
        self._moves.target(
            record, step, target, S.PENDING, attempted.verdict, attempted, {"next_in_seconds": round(pause, 3)}
        )
        self._ledger.submit(record)
        if await self._control.pause(pause):
            return True
        if not self._control.somebody_goes_on and not self._control.lease_lost:
            self._control.cut_short = True
            record = self._moves.record()
            self._moves.target(record, step, target, S.CANCELLED)
            self._ledger.submit(record)
        return False

    async def _attempt(
        self,
        step: StepState,
        target: TargetState,
        inputs: dict[str, Any],
        invocation: Invocation | None,
        limit: float,
    ) -> Attempted | None:
        """Return what the attempt gave; None when the lease was lost meanwhile and nothing is to be written.

        Without an invocation, one is made of the inputs with the secrets that they name.
        """
        stop = self._control.begin()
        try:
            if invocation is None:
                invocation = await self._secrets.invocation_for(step, target, inputs, limit, stop)
            where = await self._secrets.reach_of(step, target, limit, stop)
            invocation = await self._secrets.masking(invocation, stop)
            attempted = await attempt(
                step,
                target,
                invocation,
                where,
                fence=self._fence,
                actor_id=self._state.actor_id,
                stop=stop,
                limit=limit,
                secret_values=lambda: self._secrets.values,
                emit=self._print,
                room=self._ledger.room,
            )
        except Refusal as refusal:
            verdict = Verdict(S.FAILED, refusal.code, masked_sentence(str(refusal)))
            attempted = Attempted(verdict, None, None, {}, hopeless=refusal.hopeless, acted=False)
        except Stopped:
            attempted = never_started(step, stop, limit)
        except WardenLost:
            self._control.stop("lease_lost")
            raise
        finally:
            self._control.end(stop)
        take_in(self._control, attempted, stop)
        return None if self._control.lease_lost else attempted

    # -- what is handed to the ledger ---------------------------------------------------------------------------------

    def _begin(self, record: Record, step: StepState, target: TargetState) -> None:
        self._moves.target(record, step, target, S.RUNNING, None, None, {"attempt": target.attempt})

    def _close(self, step: StepState, target: TargetState, verdict: Verdict, attempted: Attempted | None) -> None:
        record = self._moves.record()
        self._moves.target(record, step, target, verdict.status, verdict, attempted)
        self._ledger.submit(record)

    def _print(self, target_id: int, stream: Stream, text: str, size: int) -> None:
        self._ledger.submit(self._moves.output(target_id, stream, text))


def touches_something(step: StepState) -> bool:
    """Whether a step must be durably `running` before it begins: noop and wait touch nothing. Raises Refusal."""
    return tool_of(step).connector != "none"


async def run_all(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all to their end, whatever becomes of the others; then raise the gravest of their exceptions."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    raise_gravest(tasks)


def raise_gravest(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Raise what the tasks, all done, ended with: a lost warden before a lost lease before anything else."""
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    for kind in (WardenLost, LeaseLost, WrongState, Exception):
        for error in errors:
            if isinstance(error, kind):
                raise error
