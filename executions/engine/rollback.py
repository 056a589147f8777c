"""Rolling back: what an execution did is undone, newest first, by steps of their own, under the same lease.

Which steps are to be undone where is written, as rows, before the first of them begins. From then on these rows say
what is left, whoever goes on: what was undone is never undone again, and what was in flight when its worker was lost
is unknown, unless it is idempotent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from django.conf import settings

from executions.engine.control import CleanupControl, Control
from executions.engine.ledger import Ledger, Record
from executions.engine.moves import Moves
from executions.engine.outcome import Ending
from executions.engine.secrets import RunSecrets
from executions.engine.state import ExecutionState, StepState, TargetState, planned_rollback
from executions.engine.step import StepRunner, run_all
from executions.engine.undoing import Undo, blockers_of, given_up, is_open, named, rollback_verdict, story
from executions.plans.secret_references import references_in
from executions.states import STEP_MOVES, StepStatus

S = StepStatus

MOST_TOLD = 50  # machines of one step, in the event that tells what is to be undone


class Rollback:
    """The rollback of one execution under one lease: from its rows to what came of them."""

    __slots__ = ("_control", "_done", "_ledger", "_moves", "_secrets", "_slots", "_state", "_steps")

    def __init__(
        self, state: ExecutionState, fence: int, ledger: Ledger, moves: Moves, secrets: RunSecrets, before: Control
    ) -> None:
        """`before`: what the execution was told until now."""
        self._state = state
        self._ledger = ledger
        self._moves = moves
        self._secrets = secrets
        self._control = CleanupControl()
        if before.shutting_down:
            self._control.shut_down()
        self._steps = StepRunner(state, fence, ledger, moves, self._control, secrets)
        self._done: dict[int, asyncio.Future[bool]] = {}
        self._slots: dict[int, asyncio.Semaphore] = {}

    @property
    def control(self) -> CleanupControl:
        return self._control

    async def begin(self, record: Record, ending: Ending, undos: Sequence[Undo], *, hurried: bool) -> None:
        """Write what is to be undone, together with `record`, and how the execution ends after that.

        Raises LeaseLost, WrongState.
        """
        first = len(self._state.steps) + 1
        self._state.rollbacks = [_rollback_of(undo) for undo in undos]
        record.rollbacks = [
            {
                "position": first + place,
                "key": step.key,
                "tool": step.planned["tool"],
                "description": named([target.name for target in undo.targets]) or step.planned["tool"],
                "targets": [
                    {
                        "position": 1 + undo.step.targets.index(target),
                        "asset_id": target.planned["asset_id"] if target.planned else None,
                        "name": target.name,
                    }
                    for target in undo.targets
                ],
            }
            for place, (step, undo) in enumerate(zip(self._state.rollbacks, undos, strict=True))
        ]
        record.reason, record.error_code = ending.reason, ending.error_code
        data = {
            "status": ending.status,
            "reason": ending.reason,
            "error_code": ending.error_code,
            "seconds": settings.CLEANUP.total_seconds() if hurried else None,
            "steps": [
                {
                    "step": undo.step.key,
                    "targets": len(undo.targets),
                    "named": [t.name for t in undo.targets[:MOST_TOLD]],
                }
                for undo in undos
            ],
        }
        record.events.append(self._moves.event("rollback.started", reason=ending.reason, data=data))
        await self._ledger.commit(record)
        for step, row in zip(self._state.rollbacks, record.rollbacks, strict=True):
            step.id = row["id"]
            for target, target_row in zip(step.targets, row["targets"], strict=True):
                target.id = target_row["id"]

    async def run(self) -> None:
        """Undo what is left and may be undone. What runs has ended, by itself or stopped, when this returns.

        Raises LeaseLost, WrongState, WardenLost, and bugs.
        """
        loop = asyncio.get_running_loop()
        waiting = []
        for step in self._state.rollbacks:
            lanes = step.planned["fan_out"]["max_concurrent"]
            self._slots[step.id] = asyncio.Semaphore(lanes)
            for target in step.targets:
                self._done[target.id] = done = loop.create_future()
                if target.status == S.PENDING:
                    waiting.append((step, target))
                else:
                    done.set_result(target.status == S.SUCCEEDED)
        blockers = blockers_of(self._state)
        try:
            await run_all(self._undo(step, target, blockers[target.id]) for step, target in waiting)
        finally:
            self._control.close()
        if not self._control.lease_lost:
            self._close_steps()

    async def _undo(self, step: StepState, target: TargetState, blockers: Sequence[TargetState]) -> None:
        """Undo a step on one target, once all that lies on top of it is undone; leave it when that is not."""
        try:
            for blocker in blockers:
                if not await self._done[blocker.id]:
                    return
            async with self._slots[step.id]:
                if not self._control.halted:
                    await self._run(step, target)
        except Exception:
            self._control.halt()  # a lost lease, or a bug: what else runs may end
            raise
        finally:
            if not self._done[target.id].done():  # it is, when whoever waited for it was cancelled
                self._done[target.id].set_result(target.status == S.SUCCEEDED)

    async def _run(self, step: StepState, target: TargetState) -> None:
        record = self._moves.record()
        if step.status == S.PENDING:
            self._moves.step(record, step, S.RUNNING)
        await self._steps.run_on(step, target, record)
        if not self._control.lease_lost and not any(one.status in (S.PENDING, S.RUNNING) for one in step.targets):
            self._close(step)

    def _close_steps(self) -> None:
        for step in self._state.rollbacks:
            if step.status in (S.RUNNING, S.PENDING):
                self._close(step)

    def _close(self, step: StepState) -> None:
        verdict = rollback_verdict(step)
        if verdict.status == step.status:
            return
        new = verdict.status if (step.status, verdict.status) in STEP_MOVES else S.FAILED
        self._secrets.forget(step)
        record = self._moves.record()
        self._moves.step(record, step, new, verdict)
        self._ledger.submit(record)

    # -- what came of it ----------------------------------------------------------------------------------------------

    @property
    def is_interrupted(self) -> bool:
        """Whether something is left that another worker is to go on with, because this one shuts down."""
        if not (self._control.shutting_down or self._control.stop_reason == "shutdown"):
            return False
        return self._control.somebody_goes_on and any(True for _ in self._left())

    def trouble(self) -> str:
        """Return a sentence on what a person has to decide; empty when nothing is left to do."""
        asked = [(step, target) for step in self._state.rollbacks for target in step.targets if is_open(target)]
        said = [
            f"Undoing '{step.key}'{f' on {target.name}' if target.name else ''} {_ended(target)}"
            for step, target in asked[:3]
        ]
        if len(asked) > 3:
            said.append(f"And {len(asked) - 3} more.")
        if left := sorted({step.key for step, _ in self._left()}):
            behind = "was left" if said else "was not begun"
            over = f" {self._control.over_limit}" if self._control.stop_reason == "timeout" else ""
            said.append(f"What undoes {', '.join(left)} {behind}.{over}")
        if not said:
            return ""
        done = story(self._state.rollbacks)
        return f"Its rollback is not complete. {' '.join(said)} {f'Rolled back {done}.' if done else ''}".strip()

    def leave_the_rest(self, record: Record) -> None:
        """Close what nobody will undo, since a person let stand what lies on top of it, and say that it is over."""
        for step in self._state.rollbacks:
            for target in step.targets:
                if target.status == S.PENDING:
                    self._moves.target(record, step, target, S.SKIPPED)
            if step.status == S.PENDING:
                verdict = rollback_verdict(step)
                new = verdict.status if (step.status, verdict.status) in STEP_MOVES else S.FAILED
                self._moves.step(record, step, new, verdict)
        record.events.append(self.finished(complete=True))

    def finished(self, *, complete: bool) -> dict[str, object]:
        """Return the event of its end. Not complete: a person has to say how it goes on."""
        statuses = [target.status for step in self._state.rollbacks for target in step.targets]
        undone = statuses.count(S.SUCCEEDED)
        data = {"complete": complete, "undone": undone, "not_undone": len(statuses) - undone}
        event: dict[str, object] = self._moves.event("rollback.finished", data=data)
        return event

    def _left(self) -> list[tuple[StepState, TargetState]]:
        lost = given_up(self._state)
        return [
            (step, target)
            for step in self._state.rollbacks
            for target in step.targets
            if target.status == S.PENDING and target.id not in lost
        ]


def _rollback_of(undo: Undo) -> StepState:
    """Return the step that undoes another, on the targets where that is to be done. The ledger numbers both."""
    planned = planned_rollback(undo.step.planned)
    targets = [TargetState(0, target.planned, S.PENDING, 0, None, "") for target in undo.targets]
    step = StepState(0, undo.step.key, planned, S.PENDING, targets, kind="rollback")
    step.names_secrets = bool(references_in(planned["inputs"]))
    return step


def _ended(target: TargetState) -> str:
    if target.status == S.UNKNOWN:
        return f"may or may not have happened: {target.error or 'nobody saw its end.'}"
    return f"{target.status.replace('_', ' ')}: {target.error}" if target.error else f"{target.status}."
