"""The outcome of an execution as one JSON object: what `run_plan --json` prints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from executions.models import Execution, OutputChunk, Step


class TargetOutcome(TypedDict):
    """`target` is empty for a tool that needs none, `error` null where there is none. Output is whole."""

    target: str
    status: str
    exit_code: int | None
    stdout: str
    stderr: str
    error: str | None
    error_code: str | None
    truncated: bool


class StepOutcome(TypedDict):
    """`kind` is "step", or "rollback" for what undoes the step of the same id."""

    id: str
    status: str
    kind: str
    targets: list[TargetOutcome]


class Outcome(TypedDict):
    """`errors` says why a plan was refused: {code, path, message, how_to_fix}; empty when it was accepted.

    `reason` says in a sentence why an accepted one is in its status, where there is more to say.
    """

    id: int | None
    status: str
    reason: NotRequired[str]
    errors: list[dict[str, Any]]
    steps: list[StepOutcome]


def refused(errors: Sequence[dict[str, Any]]) -> Outcome:
    return {"id": None, "status": "refused", "errors": list(errors), "steps": []}


def read_outcome(execution_id: int) -> Outcome:
    """Return where an execution stands, with everything its targets printed. Raises Execution.DoesNotExist."""
    execution = Execution.objects.only("status", "status_reason").get(pk=execution_id)
    output = _output(execution_id)
    steps = Step.objects.filter(execution_id=execution_id).order_by("position").prefetch_related("targets")
    return {
        "id": execution_id,
        "status": execution.status,
        "reason": execution.status_reason,
        "errors": [],
        "steps": [_step(step, output) for step in steps],
    }


def _output(execution_id: int) -> dict[tuple[int, str], str]:
    pieces: dict[tuple[int, str], list[str]] = defaultdict(list)
    chunks = OutputChunk.objects.filter(execution_id=execution_id).order_by("seq")
    for target_id, stream, text in chunks.values_list("step_target_id", "stream", "text").iterator(chunk_size=500):
        pieces[target_id, stream].append(text)
    return {key: "".join(texts) for key, texts in pieces.items()}


def _step(step: Step, output: dict[tuple[int, str], str]) -> StepOutcome:
    targets: list[TargetOutcome] = [
        {
            "target": target.name,
            "status": target.status,
            "exit_code": target.exit_code,
            "stdout": output.get((target.pk, "stdout"), ""),
            "stderr": output.get((target.pk, "stderr"), ""),
            "error": target.error or None,
            "error_code": target.error_code or None,
            "truncated": target.truncated,
        }
        for target in sorted(step.targets.all(), key=lambda target: target.position)
    ]
    return {"id": step.key, "status": step.status, "kind": step.kind, "targets": targets}
