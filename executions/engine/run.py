"""One execution under one lease: which steps begin when, what becomes of it, and every move written by the ledger.

A coroutine that never touches the database. Its rules:

- A step is durably `running` before it begins (but for the tools that touch nothing), and its outcome is handed to the
  ledger before a step that depends on it is: the ledger keeps the order, so a crash finds either the outcome or
  `running`, and `running` means that nobody knows (promise 2).
- Whatever ends an execution is one record: status, event, locks and queue entry in one transaction.
- When the lease is lost the coroutine stops its connectors and writes nothing more (promise 4).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from executions.connectors.base import Invocation, Stop, Stream
from executions.connectors.warden import WardenLost
from executions.engine.attempt import Attempted, Refusal, attempt, context_for, invocation_of, tool_of
from executions.engine.ledger import LeaseLost, Ledger, Record, WrongState
from executions.engine.state import OVER, ExecutionState, StepState, TargetState
from executions.engine.verdict import Verdict
from executions.services.policy import step_seconds
from executions.states import STEP_MOVES, ExecutionStatus, StepStatus, execution_event, sources_of
from queueing.models import DeadReason
from queueing.queue import Lease

log = logging.getLogger(__name__)

E = ExecutionStatus
S = StepStatus

ACTIVE = (E.RUNNING, E.CANCELLING)


class ExecutionRun:
    """Made by the engine for each lease; `run` is its whole life."""

    def __init__(self, state: ExecutionState, lease: Lease, ledger: Ledger, actor: str, allowed: bool) -> None:
        self.state = state
        self.lease = lease
        self._ledger = ledger
        self._actor = actor
        self._allowed = allowed
        self._stops: set[Stop] = set()
        self._stop_reason: str | None = None
        self._shutting_down = False
        self._halted = False  # no step begins any more
        self._has_news = asyncio.Event()
        self._by_key = {step.key: step for step in state.steps}
        self._target_verdicts: dict[int, Verdict] = {}
        self._step_errors: dict[int, str] = {}

    # -- what others may ask for --------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Stop what runs and begin nothing more: reason user, timeout, lease_lost, shutdown."""
        if self._stop_reason is None or reason == "lease_lost":
            self._stop_reason = reason
        self._halted = True
        for stop in self._stops:
            stop.request(reason)
        self._has_news.set()

    def shut_down(self) -> None:
        """Begin no step any more; what runs may end."""
        self._shutting_down = True
        self._halted = True
        self._has_news.set()

    # -- its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to a durable end. Never raises but for bugs."""
        try:
            await self._live()
        except LeaseLost:
            self.stop("lease_lost")
        except WardenLost:
            raise
        except Exception as error:
            # A bug of ours, on this execution only. What was in flight is not known; a person decides.
            log.exception("Execution %s: the engine failed.", self.state.id)
            self._settle_what_was_in_flight()
            await self._dead(DeadReason.ENGINE_ERROR, f"The engine failed: {type(error).__name__}: {error}")

    async def _live(self) -> None:
        if self._stop_reason == "user" or self.state.status == E.CANCELLING:
            self._stop_reason = "user"
        if self.lease.attempts_left < 0:
            return await self._give_up()
        if self.lease.attempt > 1 and self._settle_what_was_in_flight():
            return await self._end()
        if not self._allowed:
            return await self._refuse("forbidden", "The right to run this plan was withdrawn before it started.")
        if self._stop_reason is None:
            self._start()
            deadline = asyncio.get_running_loop().call_later(
                max(0.0, self.state.remaining_seconds), self.stop, "timeout"
            )
            try:
                await self._run_steps()
            finally:
                deadline.cancel()
        if self._stop_reason != "lease_lost":
            await self._end()

    def _start(self) -> None:
        status = self.state.status
        record = self._record()
        record.start = True
        kind = "execution.claimed"
        if status == E.QUEUED:
            # A cancel may have come since it was loaded; the ledger then leaves it `cancelling`.
            record.status, record.from_statuses = E.RUNNING, [E.QUEUED, E.CANCELLING]
            kind = execution_event(E.QUEUED, E.RUNNING)
            self.state.status = E.RUNNING
        data = {"from": status, "to": self.state.status, "attempt": self.lease.attempt, "fence": self.lease.token}
        record.events.append(self._event(kind, data=data))
        self._ledger.submit(record)

    async def _run_steps(self) -> None:
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                ready = [] if self._halted else self._ready()
                if len(ready) == 1 and not running:
                    await self._run_step(ready[0])  # the common case needs no task of its own
                    continue
                for step in ready:
                    running.add(asyncio.create_task(self._run_step(step)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            if running:
                # A bug or a lost lease in one step: the others are stopped before anybody else hears of it.
                for stop in self._stops:
                    stop.request(self._stop_reason or "lease_lost")
                await asyncio.wait(running)

    def _ready(self) -> list[StepState]:
        """Return the steps that may begin now, and begin nothing after a failure that stops the plan."""
        if any(step.is_over and not step.lets_go_on and step.status != S.SKIPPED for step in self.state.steps):
            return []
        return [
            step
            for step in self.state.steps
            if step.status == S.PENDING and all(self._by_key[key].lets_go_on for key in step.planned["depends_on"])
        ]

    # -- a step -------------------------------------------------------------------------------------------------------

    async def _run_step(self, step: StepState) -> None:
        record = self._record()
        self._move_step(record, step, S.RUNNING)
        if len(step.targets) == 1:
            await self._run_target(step, step.targets[0], record, durable=touches_something(step))
        else:
            await self._ledger.commit(record)
            await self._fan_out(step)
        if self._stop_reason == "lease_lost":
            return
        verdict = self._verdict_of(step)
        record = self._record()
        self._move_step(record, step, verdict.status, verdict)
        self._ledger.submit(record)

    async def _fan_out(self, step: StepState) -> None:
        slots = asyncio.Semaphore(step.planned["fan_out"]["max_concurrent"])
        allowed = step.tolerated_failures()

        async def one(target: TargetState) -> None:
            async with slots:
                failed = sum(t.status in (S.FAILED, S.TIMED_OUT, S.UNKNOWN) for t in step.targets)
                if (self._halted and not self._shutting_down) or failed > allowed:
                    return
                if self._shutting_down and target.status == S.PENDING:
                    return
                await self._run_target(step, target, self._record(), durable=True)

        tasks = [asyncio.create_task(one(target)) for target in step.targets if target.status not in OVER]
        if tasks:
            done, _ = await asyncio.wait(tasks)
            for task in done:
                task.result()
        if self._shutting_down or self._stop_reason == "lease_lost":
            return
        record = self._record()
        for target in step.targets:
            if target.status == S.PENDING:
                self._move_target(record, step, target, S.SKIPPED)
        if record.targets:
            self._ledger.submit(record)

    def _verdict_of(self, step: StepState) -> Verdict:
        statuses = [target.status for target in step.targets]
        if S.UNKNOWN in statuses:
            return Verdict(S.UNKNOWN, "outcome_unknown", "The outcome on at least one target is not known.")
        if S.PENDING in statuses:
            return Verdict(S.PENDING)
        if S.CANCELLED in statuses:
            return Verdict(S.CANCELLED, "cancelled")
        failed = [target for target in step.targets if target.status in (S.FAILED, S.TIMED_OUT)]
        if not failed and S.SKIPPED not in statuses:
            return Verdict(S.SUCCEEDED)
        if len(failed) <= step.tolerated_failures() and S.SUCCEEDED in statuses and S.SKIPPED not in statuses:
            return Verdict(S.SUCCEEDED, "", f"{len(failed)} of {len(statuses)} targets failed, which the plan allows.")
        if not failed:
            return Verdict(S.CANCELLED if self._stop_reason == "user" else S.FAILED, self._stop_reason or "skipped")
        worst = self._target_verdicts.get(failed[0].id)
        timed_out = all(target.status == S.TIMED_OUT for target in failed)
        error = worst.error if worst else ""
        if len(statuses) > 1:
            error = f"{len(failed)} of {len(statuses)} targets failed; {failed[0].name}: {error}"
        return Verdict(S.TIMED_OUT if timed_out else S.FAILED, worst.error_code if worst else "failed", error)

    # -- a target -----------------------------------------------------------------------------------------------------

    async def _run_target(self, step: StepState, target: TargetState, record: Record, *, durable: bool) -> None:
        """Run a step on one target, with its retries. `record` is what is to be written as it begins."""
        limit = step_seconds(step.planned, self.state.step_seconds)
        retry = step.planned["retry"]
        for number in range(1, retry["max_attempts"] + 1):
            target.attempt += 1
            try:
                invocation = invocation_of(step, target, context_for(step, target, self._by_key), limit)
            except Refusal as refusal:
                self._begin_target(record, step, target)
                self._ledger.submit(record)
                self._close_target(step, target, Verdict(S.FAILED, refusal.code, str(refusal)), None)
                return
            self._begin_target(record, step, target)
            if durable:
                await self._ledger.commit(record)
            else:
                self._ledger.submit(record)
            attempted = await self._attempt(step, target, invocation, limit)
            if attempted is None:
                return
            verdict = attempted.verdict
            again = number < retry["max_attempts"] and verdict.status in (S.FAILED, S.TIMED_OUT) and not self._halted
            if not again:
                self._close_target(step, target, verdict, attempted)
                return
            delay = retry["delay_seconds"] * 2 ** (number - 1)
            record = self._record()
            self._move_target(record, step, target, S.PENDING, verdict, attempted, {"next_in_seconds": delay})
            self._ledger.submit(record)
            if not await self._pause(delay):
                record = self._record()
                if self._stop_reason != "lease_lost" and not self._shutting_down:
                    self._move_target(record, step, target, S.CANCELLED)
                    self._ledger.submit(record)
                return
            record = self._record()
            durable = True

    async def _attempt(
        self, step: StepState, target: TargetState, invocation: Invocation, limit: float
    ) -> Attempted | None:
        """Return what the attempt gave; None when the lease was lost meanwhile and nothing is to be written."""
        stop = Stop()
        if self._stop_reason is not None:
            stop.request(self._stop_reason)
        self._stops.add(stop)
        try:
            attempted = await attempt(
                step,
                target,
                invocation,
                tenant_id=self.state.tenant_id,
                fence=self.lease.token,
                stop=stop,
                limit=limit,
                emit=self._print,
                room=self._ledger.room,
            )
        except Refusal as refusal:
            attempted = Attempted(Verdict(S.FAILED, refusal.code, str(refusal)), None, None, {})
        finally:
            self._stops.discard(stop)
        return None if self._stop_reason == "lease_lost" else attempted

    async def _pause(self, seconds: float) -> bool:
        """Wait before the next attempt; return False when the execution is stopped meanwhile."""
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            if self._halted:
                return False
            self._has_news.clear()
            try:
                await asyncio.wait_for(self._has_news.wait(), left)
            except TimeoutError:
                break
        return not self._halted

    def _print(self, target_id: int, stream: Stream, text: str, size: int) -> None:
        record = self._record()
        record.size = len(text)
        record.events.append({"step_target_id": target_id, "stream": stream, "text": text})
        self._ledger.submit(record)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Write what became of the execution, in one record with whatever was left undone."""
        steps = self.state.steps
        unknown = [step for step in steps if step.status == S.UNKNOWN]
        if unknown:
            names = ", ".join(f"'{step.key}'" for step in unknown[:5])
            return await self._dead(
                DeadReason.OUTCOME_UNKNOWN,
                f"The outcome of step {names} is not known. A person has to look and decide.",
            )
        left = [step for step in steps if not step.is_over]
        if self._shutting_down and self._stop_reason in (None, "shutdown") and self._could_go_on(left):
            return await self._hand_back()
        record = self._record()
        for step in left:
            self._skip(record, step)
        status, reason, error_code = self._outcome(bool(left))
        await self._finish(record, status, reason, error_code)

    def _could_go_on(self, left: list[StepState]) -> bool:
        """Whether steps are left that would have begun, had the worker not been told to stop."""
        stopped_by_failure = any(
            step.is_over and not step.lets_go_on and step.status != S.SKIPPED for step in self.state.steps
        )
        return bool(left) and not stopped_by_failure

    def _outcome(self, some_left: bool) -> tuple[str, str, str]:
        steps = self.state.steps
        bad = [s for s in steps if s.status in (S.FAILED, S.TIMED_OUT)]
        if self._stop_reason == "timeout" and (some_left or bad or any(s.status == S.CANCELLED for s in steps)):
            return E.TIMED_OUT, "The time limit of the execution was reached.", "timed_out"
        if self._stop_reason == "user" and (some_left or any(s.status == S.CANCELLED for s in steps)):
            return E.CANCELLED, "Cancelled.", "cancelled"
        fatal = [step for step in bad if step.planned["on_failure"] != "continue"]
        if fatal:
            first = fatal[0]
            reason = (
                f"Step '{first.key}' {first.status.replace('_', ' ')}: {self._step_errors.get(first.id, '')}".strip()
            )
            if first.planned["on_failure"] == "rollback":
                reason += " Its rollback was not run: undo by hand what the finished steps did."
            return (E.TIMED_OUT if first.status == S.TIMED_OUT else E.FAILED), reason, first.status
        if not any(step.status == S.SUCCEEDED for step in steps):
            return E.FAILED, "No step succeeded.", "failed"
        tolerated = sum(
            t.status in (S.FAILED, S.TIMED_OUT) for s in steps if s.status == S.SUCCEEDED for t in s.targets
        )
        if tolerated:
            return E.PARTIAL, f"{tolerated} targets failed, which the plan allows.", "partial"
        if bad:
            count = f"{len(bad)} steps" if len(bad) > 1 else "1 step"
            return E.SUCCEEDED, f"{count} failed, which the plan allows.", ""
        return E.SUCCEEDED, "", ""

    async def _finish(self, record: Record, status: str, reason: str, error_code: str) -> None:
        """Write a final status: from running, or from cancelling should a cancel have come in this moment."""
        record.status = status
        record.from_statuses = [s for s in sources_of(status) if s in (*ACTIVE, E.QUEUED)]
        record.reason, record.error_code, record.end = reason, error_code, "finish"
        kind = execution_event(record.from_statuses[0], status)
        record.events.append(self._event(kind, reason=reason, data={"from": self.state.status, "to": status}))
        await self._ledger.commit(record)

    async def _hand_back(self) -> None:
        """The worker is told to stop: give the execution back between two steps, without counting the attempt."""
        record = self._record()
        record.status, record.from_statuses = E.QUEUED, [E.RUNNING]
        record.end, record.give_back = "return", True
        record.events.append(
            self._event(
                execution_event(E.RUNNING, E.QUEUED),
                reason="The worker was shut down; another one goes on from here.",
                data={"from": E.RUNNING, "to": E.QUEUED},
            )
        )
        try:
            await self._ledger.commit(record)
        except WrongState:
            # A cancel came in this moment, so it is not running any more: end it as cancelled.
            self._stop_reason, self.state.status, self._shutting_down = "user", E.CANCELLING, False
            await self._end()

    async def _dead(self, why: DeadReason, reason: str) -> None:
        with contextlib.suppress(LeaseLost):
            await self._ledger.commit(dead_record(self.lease, why, reason, self._actor))

    async def _give_up(self) -> None:
        """Every attempt was lost with its worker. What was in flight may be unknown; the rest waits for a person."""
        self._settle_what_was_in_flight()
        if any(step.status == S.UNKNOWN for step in self.state.steps):
            return await self._end()
        await self._dead(
            DeadReason.ATTEMPTS_EXHAUSTED,
            f"Each of its {self.lease.attempt - 1} attempts ended with the loss of its worker.",
        )

    async def _refuse(self, code: str, reason: str) -> None:
        record = self._record()
        for step in self.state.steps:
            if not step.is_over:
                self._skip(record, step)
        await self._finish(record, E.FAILED, reason, code)

    def _settle_what_was_in_flight(self) -> bool:
        """After a lost worker: what was running is run again only if it is idempotent, else nobody knows (promise 2).

        Return whether something is unknown now.
        """
        record = self._record()
        for step in self.state.steps:
            if step.status != S.RUNNING:
                continue
            again = step.planned["idempotent"]
            note = Verdict(S.PENDING if again else S.UNKNOWN, "" if again else "worker_lost", "" if again else LOST)
            for target in step.targets:
                if target.status == S.RUNNING:
                    self._move_target(record, step, target, note.status, note)
            # Should only the step's own outcome be missing, its targets say it: nothing that is over runs again.
            verdict = self._verdict_of(step)
            self._move_step(record, step, verdict.status, verdict)
        if record.steps:
            self._ledger.submit(record)
        return any(step.status == S.UNKNOWN for step in self.state.steps)

    # -- writing moves ------------------------------------------------------------------------------------------------

    def _record(self) -> Record:
        return Record(self.state.id, self.lease.token)

    def _event(self, kind: str, *, reason: str = "", data: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"kind": kind, "actor": self._actor, "reason": reason, "data": data}

    def _skip(self, record: Record, step: StepState) -> None:
        for target in step.targets:
            if target.status == S.PENDING:
                self._move_target(record, step, target, S.SKIPPED)
        if step.status == S.PENDING:
            self._move_step(record, step, S.SKIPPED)

    def _begin_target(self, record: Record, step: StepState, target: TargetState) -> None:
        self._move_target(record, step, target, S.RUNNING, None, None, {"attempt": target.attempt})

    def _close_target(
        self, step: StepState, target: TargetState, verdict: Verdict, attempted: Attempted | None
    ) -> None:
        record = self._record()
        self._move_target(record, step, target, verdict.status, verdict, attempted)
        self._ledger.submit(record)

    def _move_step(self, record: Record, step: StepState, new: str, verdict: Verdict | None = None) -> None:
        move = STEP_MOVES[step.status, new]
        row: dict[str, Any] = {"id": step.id, "execution_id": self.state.id, "from": step.status, "to": new}
        data: dict[str, Any] = {"step": step.key, "step_id": step.id, "from": step.status, "to": new}
        if verdict is not None:
            row["error_code"], row["error"] = verdict.error_code, verdict.error
            if verdict.error:
                data["error_code"], data["error"] = verdict.error_code, verdict.error
                self._step_errors[step.id] = verdict.error
        if len(step.targets) == 1:
            target = step.targets[0]
            beginning = new == S.RUNNING and target.status == S.PENDING
            data["target"], data["step_target"] = target.name, target.id
            data["attempt"] = target.attempt + 1 if beginning else target.attempt
            if target.exit_code is not None and not beginning:
                data["exit_code"] = target.exit_code
        record.steps.append(row)
        record.events.append(self._event(f"step.{move}", data=data))
        step.status = new

    def _move_target(
        self,
        record: Record,
        step: StepState,
        target: TargetState,
        new: str,
        verdict: Verdict | None = None,
        attempted: Attempted | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        move = STEP_MOVES[target.status, new]
        row: dict[str, Any] = {
            "id": target.id,
            "execution_id": self.state.id,
            "from": target.status,
            "to": new,
            "attempt": target.attempt,
        }
        if verdict is not None:
            row["error_code"], row["error"] = verdict.error_code, verdict.error
            self._target_verdicts[target.id] = verdict
        if attempted is not None:
            target.exit_code = attempted.exit_code
            row["exit_code"], row["stop_confirmed"] = attempted.exit_code, attempted.stop_confirmed
            row.update(attempted.columns)
        record.targets.append(row)
        # A step with one target moves with it: one event says both. A retry is the target's own story.
        if len(step.targets) > 1 or new == S.PENDING or (new == S.RUNNING and target.attempt > 1 and not record.steps):
            data: dict[str, Any] = {
                "step": step.key,
                "target": target.name,
                "step_target": target.id,
                "from": target.status,
                "to": new,
                "attempt": target.attempt,
                **(more or {}),
            }
            if target.exit_code is not None and new != S.RUNNING:
                data["exit_code"] = target.exit_code
            if verdict is not None and verdict.error:
                data["error_code"], data["error"] = verdict.error_code, verdict.error
            record.events.append(self._event(f"target.{move}", data=data))
        target.status = new


LOST = "It was in flight when its worker was lost; whether it took effect is not known."


def dead_record(lease: Lease, why: DeadReason, reason: str, actor: str) -> Record:
    """Return what puts an execution into the DLQ: it needs attention, and nobody tries again by himself."""
    record = Record(lease.execution_id, lease.token)
    record.status, record.from_statuses = E.NEEDS_ATTENTION, [E.QUEUED, *ACTIVE]
    record.reason, record.error_code, record.end, record.dead_reason = reason, why, "dead", why
    data = {"to": record.status, "why": why}
    kind = execution_event(E.RUNNING, E.NEEDS_ATTENTION)
    record.events.append({"kind": kind, "actor": actor, "reason": reason, "data": data})
    return record


def touches_something(step: StepState) -> bool:
    """Whether a step must be durably `running` before it begins: noop and wait touch nothing."""
    return tool_of(step).connector != "none"
