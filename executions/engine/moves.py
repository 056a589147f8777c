"""Records of moves: what the ledger writes when a step or a target comes into another state."""

from __future__ import annotations

from typing import Any

from executions.engine.ledger import Record
from executions.engine.masks import masked_sentence
from executions.engine.state import ExecutionState, StepState, TargetState
from executions.engine.transcript import Attempted
from executions.engine.verdict import Verdict
from executions.engine.waves import Wave
from executions.states import STEP_MOVES, ExecutionStatus, StepStatus, execution_event
from queueing.models import DeadReason
from queueing.queue import Lease

E = ExecutionStatus
S = StepStatus


class Moves:
    """Writes the moves of one execution under one lease into records, and into the state in memory.

    `verdicts` keeps the last one of each target, and `errors` what each step is said to have ended with, for the
    sentences of the end.
    """

    __slots__ = ("_ended", "actor", "errors", "execution_id", "token", "verdicts")

    def __init__(self, state: ExecutionState, token: int, actor: str) -> None:
        self.execution_id = state.id
        self.token = token
        self.actor = actor
        self.verdicts: dict[int, Verdict] = {}
        self.errors: dict[int, str] = {}
        self._ended = 0
        for step in (*state.steps, *state.rollbacks):
            if step.status != S.PENDING:
                self._recall(step)

    def _recall(self, step: StepState) -> None:
        """What was written under an earlier lease counts for the sentences of the end, too."""
        self._ended = max(self._ended, step.ended)
        if step.error:
            self.errors[step.id] = step.error
        for target in step.targets:
            if target.error:
                self.verdicts[target.id] = Verdict(target.status, target.error_code, target.error)

    def record(self) -> Record:
        return Record(self.execution_id, self.token)

    def event(self, kind: str, *, reason: str = "", data: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"kind": kind, "actor": self.actor, "reason": reason, "data": data}

    def step(self, record: Record, step: StepState, new: str, verdict: Verdict | None = None) -> None:
        """Move a step. Raises KeyError when the move is not legal."""
        move = STEP_MOVES[step.status, new]
        row: dict[str, Any] = {"id": step.id, "execution_id": self.execution_id, "from": step.status, "to": new}
        data: dict[str, Any] = {"step": step.key, "step_id": step.id, "from": step.status, "to": new}
        if step.kind != "step":
            data["kind"] = step.kind
        if verdict is not None:
            row["error_code"], row["error"] = verdict.error_code, verdict.error
            if verdict.error:
                data["error_code"], data["error"] = verdict.error_code, verdict.error
                self.errors[step.id] = verdict.error
        if len(step.targets) == 1:
            target = step.targets[0]
            beginning = new == S.RUNNING and target.status == S.PENDING
            data["target"], data["step_target"] = target.name, target.id
            data["attempt"] = target.attempt + 1 if beginning else target.attempt
            if target.exit_code is not None and not beginning:
                data["exit_code"] = target.exit_code
        record.steps.append(row)
        record.events.append(self.event(f"step.{move}", data=data))
        step.status = new
        if step.is_over:
            self._ended += 1
            step.ended = self._ended

    def target(
        self,
        record: Record,
        step: StepState,
        target: TargetState,
        new: str,
        verdict: Verdict | None = None,
        attempted: Attempted | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Move a target, with what an attempt gave. Raises KeyError when the move is not legal."""
        move = STEP_MOVES[target.status, new]
        row: dict[str, Any] = {
            "id": target.id,
            "execution_id": self.execution_id,
            "from": target.status,
            "to": new,
            "attempt": target.attempt,
        }
        if verdict is not None:
            row["error_code"], row["error"] = verdict.error_code, verdict.error
            target.error_code, target.error = verdict.error_code, verdict.error
            self.verdicts[target.id] = verdict
        elif new == S.RUNNING:
            target.error_code = target.error = ""
        if attempted is not None:
            target.take_in(acted=attempted.acted)
            target.exit_code = attempted.exit_code
            row["exit_code"], row["stop_confirmed"] = attempted.exit_code, attempted.stop_confirmed
            row.update(attempted.columns)
        record.targets.append(row)
        # A step with one target moves with it: one event says both. A retry is the target's own story.
        if len(step.targets) > 1 or new == S.PENDING or (new == S.RUNNING and target.attempt > 1 and not record.steps):
            data = self._data(step, target, new, verdict)
            record.events.append(self.event(f"target.{move}", data={**data, **more} if more else data))
        target.status = new

    def _data(self, step: StepState, target: TargetState, new: str, verdict: Verdict | None) -> dict[str, Any]:
        data: dict[str, Any] = {
            "step": step.key,
            "target": target.name,
            "step_target": target.id,
            "from": target.status,
            "to": new,
            "attempt": target.attempt,
        }
        if step.kind != "step":
            data["kind"] = step.kind
        if target.exit_code is not None and new != S.RUNNING:
            data["exit_code"] = target.exit_code
        if verdict is not None and verdict.error:
            data["error_code"], data["error"] = verdict.error_code, verdict.error
        return data

    def wave_started(self, step: StepState, wave: Wave) -> dict[str, Any]:
        reason = f"{_place(wave)} begins on {len(wave.targets):,} of {len(step.targets):,} targets."
        return self.event("step.wave_started", reason=reason, data=self._of_wave(step, wave))

    def wave_finished(self, step: StepState, wave: Wave) -> dict[str, Any]:
        """Of a wave of which nothing more begins, whether or not its gate lets the next one begin."""
        tally = wave.tally
        data = self._of_wave(step, wave) | {"ok": tally.ok, "failed": tally.failed + tally.timed_out}
        data |= {"unreachable": tally.unreachable, "unknown": tally.unknown}
        faults = f", {tally.faults}" if tally.faults else ""
        reason = f"{_place(wave)} has ended: {tally.ok:,} of {len(wave.targets):,} succeeded{faults}."
        if wave.allowed is not None:
            data["passed"] = wave.lets_pass()
            reason += _of_gate(wave, passed=data["passed"])
            if data["passed"] and wave.asks:
                data["asks_for_approval"] = True
            if data["passed"] and wave.pause_seconds:
                data["next_in_seconds"] = wave.pause_seconds
                reason = f"{reason[:-1]} in {wave.pause_seconds:g} s."
        return self.event("step.wave_finished", reason=reason, data=data)

    @staticmethod
    def _of_wave(step: StepState, wave: Wave) -> dict[str, Any]:
        return {
            "step": step.key,
            "step_id": step.id,
            "wave": wave.number,
            "waves": wave.of,
            "targets": len(wave.targets),
        }

    def leave_undone(self, record: Record, step: StepState) -> None:
        """Close whatever of a step is not over. Skipped is only what never ran: a step that ran on some of its targets,
        or that a lost worker had begun and that was to be run again, was cancelled."""
        touched = False
        for target in step.targets:
            if target.status == S.PENDING:
                self.target(record, step, target, S.CANCELLED if target.attempt else S.SKIPPED)
            touched = touched or target.status != S.SKIPPED
        if step.status == S.PENDING:
            self.step(record, step, S.CANCELLED if touched else S.SKIPPED)

    def skip_unchecked(self, record: Record, step: StepState) -> None:
        """Skip a step that check mode cannot check, with why. What comes after it may begin."""
        note = Verdict(S.SKIPPED, "not_checked", step.unchecked)
        for target in step.targets:
            if target.status == S.PENDING:
                self.target(record, step, target, S.SKIPPED)
        self.step(record, step, S.SKIPPED, note)

    def output(self, target_id: int, stream: str, text: str) -> Record:
        """Return the record of a piece of output."""
        record = self.record()
        record.size = len(text)
        record.events.append({"step_target_id": target_id, "stream": stream, "text": text})
        return record


def _of_gate(wave: Wave, *, passed: bool) -> str:
    if not passed:
        return " Its gate lets nothing more begin."
    return " Its gate asks for the approval of the next wave." if wave.asks else " Its gate lets the next wave begin."


def _place(wave: Wave) -> str:
    return f"Wave {wave.number} of {wave.of}"


def dead_record(lease: Lease, why: DeadReason, reason: str, actor: str) -> Record:
    """Return what puts an execution into the DLQ: it needs attention, and nobody tries again by himself."""
    reason = masked_sentence(reason)  # it may quote an exception, and that whatever it was given
    record = Record(lease.execution_id, lease.token)
    record.status, record.from_statuses = E.NEEDS_ATTENTION, [E.QUEUED, E.RUNNING, E.CANCELLING]
    record.reason, record.error_code, record.end, record.dead_reason = reason, why, "dead", why
    data = {"to": record.status, "why": why}
    kind = execution_event(E.RUNNING, E.NEEDS_ATTENTION)
    record.events.append({"kind": kind, "actor": actor, "reason": reason, "data": data})
    return record
