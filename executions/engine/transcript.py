"""What one attempt on one target prints and comes to: masked and handed on as it comes, judged when it has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings

from executions.connectors.base import ErrorCode, Outcome, Stream
from executions.connectors.output import OutputCollector
from executions.engine.exit_codes import with_fitting_code
from executions.engine.json_evidence import unmet
from executions.engine.masks import OutputMask, masked_facts, masked_sentence
from executions.engine.state import StepState, TargetState
from executions.engine.verdict import Verdict, judge
from executions.states import StepStatus

S = StepStatus

# What a later step can take of this one's output; the whole of it is in the chunks.
NEEDED_STDOUT = 256 * 1024
JUDGED_STDOUT = 1024 * 1024
UNWANTED_STDOUT = 64

Emit = Callable[[int, Stream, str, int], None]


@dataclass(slots=True)
class Attempted:
    """What one attempt gave: the verdict, and the columns of the target that go with it."""

    verdict: Verdict
    exit_code: int | None
    stop_confirmed: bool | None
    columns: dict[str, Any]
    error_code: ErrorCode | None = None  # the connector's own
    hopeless: bool = False  # another attempt would end in the same way
    acted: bool = True  # it may have changed something


class Transcript:
    """One for each attempt on a target. `sink` is what its connector writes to, until `close`."""

    __slots__ = ("_counted", "_expected", "_step", "_target", "_wants_stdout", "sink")

    def __init__(
        self,
        step: StepState,
        target: TargetState,
        *,
        secret_values: Callable[[], tuple[str, ...]],
        emit: Emit,
        room: Callable[[], Awaitable[None]],
        expected: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """`secret_values` returns all that the execution knows at that moment: other steps fetch more meanwhile.

        expected: what must hold of what it prints, read as JSON.
        """

        def hand_on(stream: Stream, text: str, size: int) -> None:
            emit(target.id, stream, text, size)
            counted[stream] += size

        counted: dict[str, int] = {"stdout": 0, "stderr": 0}
        self._counted = counted
        self._step = step
        self._target = target
        self._expected = expected
        matched = step.planned["success"]["stdout_matches"] is not None
        self._wants_stdout = step.needed or matched or bool(expected)
        self.sink = OutputCollector(
            hand_on,
            max_bytes=min(step.planned["max_output_bytes"], settings.MAX_OUTPUT_BYTES),
            wait_for_room=room,
            transformer=OutputMask(secret_values),
            keep_stdout=JUDGED_STDOUT if self._wants_stdout else UNWANTED_STDOUT,
            keep_stderr=NEEDED_STDOUT if step.needed else 0,
        )

    def close(self) -> None:
        """Hand on what is left. Nothing may be written any more; closing again does nothing."""
        self.sink.finish()

    def judged(self, outcome: Outcome, *, stop_reason: str | None, limit: float) -> Attempted:
        """Return what the attempt came to. Only when it is closed is all of its output there to be judged by."""
        outcome = with_fitting_code(outcome)
        step, target, collector = self._step, self._target, self.sink
        stdout = collector.stdout_text() if self._wants_stdout else ""
        verdict = judge(
            outcome,
            success=step.planned["success"],
            stdout=stdout,
            stop_reason=stop_reason,
            idempotent=step.planned["idempotent"],
            limit=limit,
        )
        if self._expected and verdict.status == S.SUCCEEDED:
            whole = self._counted["stdout"] <= JUDGED_STDOUT and not collector.truncated
            if said := unmet(self._expected, stdout, whole=whole):
                verdict = Verdict(S.FAILED, "criteria_not_met", said)
        if verdict.error:
            verdict = replace(verdict, error=masked_sentence(verdict.error))
        elif collector.truncated and verdict.status == S.SUCCEEDED:
            verdict = replace(verdict, error_code="output_truncated", error=_too_much(collector))
        columns: dict[str, Any] = {
            "stdout_bytes": self._counted["stdout"],
            "stderr_bytes": self._counted["stderr"],
            "truncated": collector.truncated,
        }
        if step.needed:
            # Later steps of this worker get what was printed; the table, and so another worker, what may be seen.
            target.stdout, target.recalled = stdout[-NEEDED_STDOUT:], False
            target.stderr = collector.stderr_text()
            columns["stdout"] = collector.shown_stdout()[-NEEDED_STDOUT:]
        if outcome.data:
            columns["data"] = masked_facts(outcome.data)
        code = outcome.error_code
        hopeless = code is not None and code.is_hopeless
        acted = code is None or not code.nothing_happened
        return Attempted(verdict, outcome.exit_code, outcome.stop_confirmed, columns, code, hopeless, acted)


def _too_much(collector: OutputCollector) -> str:
    printed, kept = collector.total_bytes / 1e6, collector.kept_bytes / 1e6
    return f"It printed {printed:,.1f} MB, of which the first {kept:,.1f} MB were kept."
