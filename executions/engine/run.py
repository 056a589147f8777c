"""One execution under one lease: its life from the claim to its end, which steps begin when, and how it ends.

A coroutine that never touches the database. Its rules:

- Whatever ends an execution is one record: status, event, locks and queue entry in one transaction.
- When the lease is lost it stops its connectors and writes nothing more (promise 4).
- A step that was in flight when its worker was lost runs again only if it is idempotent (promise 2).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from executions.approval_points import Point
from executions.connectors.warden import WardenLost
from executions.engine.control import Control
from executions.engine.ledger import LeaseLost, Ledger, Moved, Record, WrongState
from executions.engine.moves import Moves, dead_record
from executions.engine.outcome import CANCELS, Ending, ending_of, step_verdict, stops_the_plan
from executions.engine.permits import Permit
from executions.engine.rollback import Rollback
from executions.engine.secret_desk import SecretDesk
from executions.engine.secrets import RunSecrets
from executions.engine.state import ExecutionState, StepState
from executions.engine.step import StepRunner, raise_gravest
from executions.engine.unapproved import ending_refused, waiting_sentence
from executions.engine.undoing import asks_for_rollback, spent_on_cleanup, told, undos_of
from executions.engine.verdict import Verdict
from executions.services.stop import WITHDRAWN
from executions.states import NOT_APPROVED, ExecutionStatus, StepStatus, execution_event, sources_of
from queueing.models import DeadReason
from queueing.queue import Lease

log = logging.getLogger(__name__)

E = ExecutionStatus
S = StepStatus

MOST_NAMED = 5  # steps, or machines, in one sentence
WISH_IS_HEARD_SECONDS = 5.0  # it takes a second when its notice was lost
LEASED = (E.RUNNING, E.CANCELLING, E.QUEUED)  # what an execution may be while a worker has it
NOTHING_UNDONE = "Nothing was rolled back: no step that acted there says how to undo it."
LOST = Verdict(
    S.UNKNOWN,
    "worker_lost",
    "It was in flight when its worker was lost; whether it took effect is not known.",
)


class ExecutionRun:
    """Made by the engine for each lease; `run` is its whole life."""

    __slots__ = (
        "_actor", "_ledger", "_moves", "_permit", "_secrets", "_steps", "_went_well", "control", "lease", "state",
    )  # fmt: skip

    def __init__(
        self, state: ExecutionState, lease: Lease, ledger: Ledger, desk: SecretDesk, actor: str, permit: Permit
    ) -> None:
        self.state = state
        self.lease = lease
        self.control = Control()
        self._ledger = ledger
        self._actor = actor
        self._permit = permit
        self._went_well = True  # so does an execution that was handed back, or lost: how it ends, another says
        self._moves = Moves(state, lease.token, actor)
        self._secrets = RunSecrets(state, desk)
        self._steps = StepRunner(
            state, lease.token, ledger, self._moves, self.control, self._secrets, permit.waits_before
        )

    async def run(self) -> bool:
        """Run to a durable end, or until the lease is lost; return False when it ended without success.

        Raises WardenLost.
        """
        try:
            await self._live_or_ask_for_help()
        except LeaseLost:
            self.control.stop("lease_lost")
        finally:
            self._secrets.close()
        return self._went_well

    async def _live_or_ask_for_help(self) -> None:
        try:
            await self._live()
        except (WardenLost, LeaseLost):
            raise
        except WrongState as error:
            # What is in memory is not what is in the database, so nothing can be said of its steps.
            log.error("Execution %s: %s", self.state.id, error)
            await self._dead(DeadReason.ENGINE_ERROR, f"The engine failed: {error}")
        except Exception as error:
            # A bug of ours, on this execution only. What was in flight is not known; a person decides.
            log.exception("Execution %s: the engine failed.", self.state.id)
            self._settle_what_was_in_flight()
            await self._dead(DeadReason.ENGINE_ERROR, f"The engine failed: {type(error).__name__}: {error}")

    async def _live(self) -> None:
        if self.state.status == E.CANCELLING:
            withdrawn = self._permit.refusal is not None and self._permit.refusal.error_code == WITHDRAWN
            self.control.stop(WITHDRAWN if withdrawn else "user")
        unknown = self._settle_what_was_in_flight()
        if self.state.rollbacks:
            return await self._go_on_undoing()
        if self.state.refused is not None and not unknown:
            return await self._end_as(ending_refused(*self.state.refused))
        if unknown or self.control.stop_reason is not None or self._was_cancelled_before():
            return await self._end()
        if self.lease.attempts_left < 0 and self._could_go_on():
            return await self._dead(
                DeadReason.ATTEMPTS_EXHAUSTED,
                f"Each of its {self.lease.attempt - 1} attempts ended with the loss of its worker.",
            )
        if self._permit.refusal is not None:
            return await self._refuse(self._permit.refusal)
        self._start()
        await self._run_within_limit()
        if self.control.lease_lost:
            return
        if waiting := self._waiting_for_approval():
            return await self._wait_for_approval(waiting)
        await self._end()

    def _start(self) -> None:
        status = self.state.status
        record = self._moves.record()
        record.start = True
        kind = "execution.claimed"
        if status == E.QUEUED:
            # A cancel may have come since it was loaded; the ledger then leaves it `cancelling`.
            record.status, record.from_statuses = E.RUNNING, [E.QUEUED, E.CANCELLING]
            kind = execution_event(E.QUEUED, E.RUNNING)
            self.state.status = E.RUNNING
        data = {"from": status, "to": self.state.status, "attempt": self.lease.attempt, "fence": self.lease.token}
        record.events.append(self._moves.event(kind, data=data))
        self._ledger.submit(record)

    # -- steps --------------------------------------------------------------------------------------------------------

    async def _run_within_limit(self) -> None:
        left = self.state.remaining_seconds
        if left <= 0:  # it ran out while nobody had it
            return self.control.stop("timeout")
        deadline = asyncio.get_running_loop().call_later(left, self.control.stop, "timeout")
        try:
            await self._run_steps()
        finally:
            deadline.cancel()

    async def _run_steps(self) -> None:
        """Begin steps as they become ready. What runs has ended, by itself or stopped, when this returns."""
        running: set[asyncio.Task[None]] = set()
        broken: list[asyncio.Task[None]] = []
        while True:
            ready = self._ready()
            if len(ready) == 1 and not running:
                await self._steps.run(ready[0])  # the common case needs no task of its own
                continue
            for step in ready:
                running.add(asyncio.create_task(self._steps.run(step)))
            if not running:
                break
            try:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                for task in running:
                    task.cancel()
                raise
            broken += [task for task in done if task.exception() is not None]
        raise_gravest(broken)

    def _ready(self) -> list[StepState]:
        """Return the steps that may begin now; none after a failure that stops the plan, or when told to stop."""
        if self.control.halted or any(stops_the_plan(step) for step in self.state.steps):
            return []
        return [step for step in self._steps.ready() if self._steps.waits_for(step) is None]

    def _waiting_for_approval(self) -> list[tuple[StepState, Point]]:
        """Return the steps that would go on now but for approvals, and for which, when no other would."""
        if self.control.stop_reason is not None or any(step.status == S.UNKNOWN for step in self.state.steps):
            return []
        if any(map(stops_the_plan, self.state.steps)):
            return []
        ready = [(step, self._steps.waits_for(step)) for step in self._steps.ready()]
        waiting = [(step, point) for step, point in ready if point is not None]
        return waiting if len(waiting) == len(ready) else []

    def _settle_what_was_in_flight(self) -> bool:
        """After a lost worker: what was running is run again only if it is idempotent, else nobody knows (promise 2).

        Return whether something is unknown now.
        """
        unknown = False
        record: Record | None = None
        for step in (*self.state.steps, *self.state.rollbacks):
            if step.status == S.RUNNING:
                record = record or self._moves.record()
                note = Verdict(S.PENDING) if step.planned["idempotent"] else LOST
                for target in step.targets:
                    if target.status == S.RUNNING:
                        self._moves.target(record, step, target, note.status, note)
                # Should only the step's own outcome be missing, its targets say it: nothing that is over runs again.
                verdict = step_verdict(step, self._moves.verdicts, self.control)
                self._moves.step(record, step, verdict.status, verdict)
            unknown = unknown or step.status == S.UNKNOWN
        if record is not None:
            self._ledger.submit(record)
        return unknown

    def _could_go_on(self) -> bool:
        """Whether steps are left that would begin, were nothing said against it."""
        return any(not step.is_over for step in self.state.steps) and not any(map(stops_the_plan, self.state.steps))

    def _was_cancelled_before(self) -> bool:
        """Whether it was cancelled under an earlier lease and waited since then only for a person's word on a step."""
        if self.state.status != E.QUEUED or self.state.steps[0].status == S.PENDING:
            return False
        statuses = {step.status for step in self.state.steps}
        if S.PENDING in statuses:
            return False
        if S.CANCELLED in statuses:
            return True
        return S.SKIPPED in statuses and not any(map(stops_the_plan, self.state.steps))

    # -- undoing what was done ----------------------------------------------------------------------------------------

    def _rollback(self) -> Rollback:
        """What the execution is told from now on goes to its rollback, which a cancel does not stop."""
        rollback = Rollback(self.state, self.lease.token, self._ledger, self._moves, self._secrets, self.control)
        self.control = rollback.control
        return rollback

    async def _roll_back(self, rollback: Rollback, ending: Ending, *, hurried: bool) -> None:
        """Undo what is left, then end the execution as it was to end before; or ask a person."""
        if hurried:
            rollback.control.hurry(spent_on_cleanup(self.state.undoing))
        await rollback.run()
        if self.control.lease_lost:
            return
        if rollback.is_interrupted:
            return await self._hand_back()
        if trouble := rollback.trouble():
            record = self._moves.record()
            record.events.append(rollback.finished(complete=False))
            self._ledger.submit(record)
            return await self._dead(DeadReason.ROLLBACK_FAILED, f"{ending.reason} {trouble}")
        record = self._moves.record()
        rollback.leave_the_rest(record)
        await self._finish(record, replace(ending, reason=told(ending, self.state.rollbacks)))

    async def _go_on_undoing(self) -> None:
        """A worker was lost, or shut down, in the middle of a rollback, or a person has said how it goes on."""
        begun = self.state.undoing
        if begun is None:  # the event is written with the rows, and kept as long as the execution runs
            raise RuntimeError("There are rows of a rollback, and no event says why it began.")
        if self.lease.attempts_left < 0:
            return await self._dead(
                DeadReason.ATTEMPTS_EXHAUSTED,
                f"{begun['reason']} The workers that were to roll it back were lost, {self.lease.attempt - 1} times.",
            )
        refusal = self._permit.refusal
        if refusal is not None and refusal.error_code != WITHDRAWN:
            return await self._dead(
                DeadReason.ROLLBACK_FAILED, f"{begun['reason']} It was not undone: {refusal.reason}"
            )
        # Who was asked and has answered does not have the time of a cleanup, but that of the steps. That it is queued
        # says nothing of that: so is what a worker handed back as it shut down.
        cancelled = self.state.status == E.CANCELLING and begun["status"] not in NOT_APPROVED.values()
        hurried = cancelled or (begun["seconds"] is not None and not begun["answered"])
        if self.control.stop_reason is None:
            self._start()
        ending = Ending(begun["status"], begun["reason"], begun["error_code"])
        await self._roll_back(self._rollback(), ending, hurried=hurried)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Write what became of the execution, in one record with whatever was left undone."""
        if any(step.status == S.UNKNOWN for step in self.state.steps):
            return await self._ask_a_person()
        some_left = any(not step.is_over for step in self.state.steps)
        if self.control.shutting_down and self.control.somebody_goes_on and self._could_go_on():
            return await self._hand_back()
        ending = ending_of(self.state, self._moves.errors, self.control, some_left=some_left)
        await self._end_as(ending)

    async def _end_as(self, ending: Ending) -> None:
        """End it so, once what is to be undone then is undone."""
        record = self._moves.record()
        for step in self.state.steps:
            if step.status != S.SUCCEEDED or len(step.targets) > 1:
                self._moves.leave_undone(record, step)
        undos = undos_of(self.state, ending)
        refusal = self._permit.refusal
        if undos and refusal is not None and refusal.error_code != WITHDRAWN:
            # It waited, and meanwhile the machines, or the requester's right, became others: nothing may touch them.
            said = f"{ending.reason} What was done was not undone: {refusal.reason}"
            return await self._finish(record, replace(ending, reason=said))
        if not undos:
            if asks_for_rollback(self.state):
                ending = replace(ending, reason=f"{ending.reason} {NOTHING_UNDONE}")
            return await self._finish(record, ending)
        hurried = ending.status == E.CANCELLED or self.control.stop_reason == "timeout"
        rollback = self._rollback()
        await rollback.begin(record, ending, undos, hurried=hurried)
        await self._roll_back(rollback, ending, hurried=hurried)

    async def _finish(self, record: Record, ending: Ending) -> None:
        """Write a final status: from running, or from cancelling should a cancel have come in this moment."""
        self._went_well = ending.status in (E.SUCCEEDED, E.CANCELLED, *NOT_APPROVED.values())
        record.status = ending.status
        record.from_statuses = [status for status in sources_of(ending.status) if status in LEASED]
        record.reason, record.error_code, record.end = ending.reason, ending.error_code, "finish"
        kind = execution_event(record.from_statuses[0], ending.status)
        data = {"from": self.state.status, "to": ending.status}
        record.events.append(self._moves.event(kind, reason=ending.reason, data=data))
        await self._ledger.commit(record)

    async def _ask_a_person(self) -> None:
        unknown = [step.key for step in self.state.steps if step.status == S.UNKNOWN]
        names = ", ".join(f"'{key}'" for key in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        record = self._moves.record()
        if self.control.stop_reason in CANCELS:
            # Cancelled stays cancelled: whatever the person says of the unknown, nothing else begins.
            for step in self.state.steps:
                if not step.is_over:
                    self._moves.leave_undone(record, step)
        if record.steps:
            self._ledger.submit(record)
        await self._dead(
            DeadReason.OUTCOME_UNKNOWN,
            f"The outcome of step {names} is not known. A person has to look and decide.",
        )

    async def _hand_back(self) -> None:
        """The worker is told to stop: give the execution back between two steps, without counting the attempt."""
        record = self._moves.record()
        record.end, record.give_back = "return", True
        if self.state.status == E.CANCELLING:
            return await self._ledger.commit(record)
        await self._let_go(record, E.QUEUED, "The worker was shut down; another one goes on from here.", {})

    async def _wait_for_approval(self, waiting: list[tuple[StepState, Point]]) -> None:
        """Let go of queue entry and machines while people think: nobody waits in line behind somebody's thoughts.

        One record, so that a crash finds it either running, and the next worker comes to the same step again, or
        waiting for approval. The attempt is not counted.
        """
        record = self._moves.record()
        record.end, record.ask = "ask", [point for _, point in waiting]
        record.reason = " ".join(waiting_sentence(step, point) for step, point in waiting[:MOST_NAMED])
        if len(waiting) > MOST_NAMED:
            record.reason += f" And {len(waiting) - MOST_NAMED} more."
        data: dict[str, object] = {"steps": [point.step for point in record.ask]}
        if any(point.wave for point in record.ask):
            data["waves"] = [point.wave for point in record.ask]
        await self._let_go(record, E.PENDING_APPROVAL, record.reason, data)

    async def _let_go(self, record: Record, new: str, reason: str, data: dict[str, object]) -> None:
        """Write the record, by which this worker has the execution no more, or end it when a cancel comes first."""
        # What was handed over before is durable first: it must not be refused together with this.
        await self._ledger.commit(self._moves.record())
        record.status, record.from_statuses = new, [E.RUNNING]
        kind = execution_event(E.RUNNING, new)
        record.events.append(self._moves.event(kind, reason=reason, data={"from": E.RUNNING, "to": new, **data}))
        try:
            await self._ledger.commit(record)
        except Moved:
            if self.state.rollbacks:
                # Cancelled in this moment: it stays so, and whoever takes it next goes on with its rollback.
                again = self._moves.record()
                again.end, again.give_back = record.end, record.give_back
                return await self._ledger.commit(again)
            # A wish to stop came in this moment, so it is not running any more: end it as cancelled. Whose wish it was,
            # somebody's or an approver's, stands with the lease and is about to be heard.
            if not await self.control.is_told(WISH_IS_HEARD_SECONDS):
                self.control.stop("user")
            self.state.status = E.CANCELLING
            await self._end()

    async def _dead(self, why: DeadReason, reason: str) -> None:
        """Put it into the DLQ. What was handed over before and may be refused must not keep it from getting there."""
        self._went_well = False
        try:
            await self._ledger.commit(dead_record(self.lease, why, reason, self._actor))
        except WrongState:
            await self._ledger.commit(dead_record(self.lease, DeadReason.ENGINE_ERROR, reason, self._actor))

    async def _refuse(self, ending: Ending) -> None:
        """End it without running anything more, and say what it had done under earlier leases.

        When it was an approver who took his approval back, what was done is undone, as after any cancel.
        """
        if ending.error_code == WITHDRAWN and undos_of(self.state, ending):
            return await self._end_as(ending)
        done = [step.key for step in self.state.steps if step.is_over and step.status != S.SKIPPED]
        if done:
            names = ", ".join(f"'{key}'" for key in done[:MOST_NAMED]) + (", ..." if len(done) > MOST_NAMED else "")
            ending = replace(ending, reason=f"{ending.reason} Done before, and not undone: {names}.")
        record = self._moves.record()
        for step in self.state.steps:
            self._moves.leave_undone(record, step)
        await self._finish(record, ending)
