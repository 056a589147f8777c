"""An execution as the API shows it: in lists, by itself with its steps and output, and what run_plan --json prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connection

from executions.api.codes import CODES
from executions.approval_asks import asks_of
from executions.models import ROLLBACK, Approval, Execution, Step, StepTarget
from executions.states import FINAL_EXECUTION, FINAL_STEP, ExecutionStatus, StepStatus
from executions.tally import Tally, is_unreachable, wave_of
from executions.waiting import waiting_sentence

SHOWN_OUTPUT = 64 * 1024  # bytes of each stream of a target: the end of it; the rest is at .../output/
SHOWN_IN_ALL = 4 * 1024 * 1024  # bytes of output in one answer
_MOST_CHUNKS = 400  # of each stream of a target

_NOT_WELL = frozenset({StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.UNKNOWN})

# The newest pieces of each stream, back to the one that no longer fits. Sizes are summed before any text is read
# (octet_length needs not unpack it), and the index (step_target, seq) finds them without looking at the rest.
OUTPUT = """
WITH wanted AS (SELECT * FROM unnest(%(targets)s::bigint[], %(streams)s::text[]) AS w(target, stream)),
newest AS MATERIALIZED (
    SELECT w.target, w.stream, c.seq,
           sum(c.size) OVER (PARTITION BY w.target, w.stream ORDER BY c.seq DESC) AS total
      FROM wanted w CROSS JOIN LATERAL (
          SELECT seq, octet_length(text) AS size FROM executions_outputchunk
           WHERE step_target_id = w.target AND stream = w.stream ORDER BY seq DESC LIMIT %(chunks)s) c
)
SELECT n.target, n.stream, string_agg(c.text, '' ORDER BY n.seq)
  FROM newest n JOIN executions_outputchunk c ON c.execution_id = %(execution)s AND c.seq = n.seq
 WHERE n.total - octet_length(c.text) < %(shown)s
 GROUP BY n.target, n.stream
"""


def links(execution_id: int) -> dict[str, str]:
    """Where to go on from an execution; paths on this host."""
    base = f"/api/v1/executions/{execution_id}/"
    return {
        "self": base,
        "page": f"/executions/{execution_id}/",
        "steps": f"{base}steps/",
        "events": f"{base}events/",
        "stream": f"{base}events/stream",
        "output": f"{base}output/",
        "plan": f"{base}plan/",
        "cancel": f"{base}cancel/",
        "websocket": f"/ws/executions/{execution_id}/",
    }


def summary(execution: Execution) -> dict[str, Any]:
    """One execution in a list. Wants `actor` selected with it. Times are datetimes, in UTC."""
    began, ended = execution.started_at, execution.finished_at
    return {
        "id": execution.pk,
        "title": execution.title,
        "status": execution.status,
        "final": execution.status in FINAL_EXECUTION,
        "status_reason": execution.status_reason,
        "error_code": execution.error_code or None,
        "actor": execution.actor.username,
        "action_class": execution.action_class,
        "sla_class": execution.sla_class,
        "approval_level": execution.approval_level,
        "priority": execution.priority,
        "environment": execution.environment,
        "reason": execution.reason,
        "tags": execution.tags,
        "trace_id": execution.trace_id,
        "plan_hash": execution.plan_hash,
        "parent": execution.parent_id,
        "created_at": execution.created_at,
        "not_before": execution.not_before,
        "approval_expires_at": execution.approval_expires_at,
        "started_at": began,
        "deadline_at": execution.deadline_at,
        "finished_at": ended,
        "events_pruned_at": execution.events_pruned_at,
        "duration_seconds": (ended - began).total_seconds() if began and ended else None,
        "last_seq": execution.last_seq,
        "links": links(execution.pk),
    }


def execution_state(execution: Execution) -> dict[str, Any]:
    """The whole of it: the summary, `errors`, `approvals`, and `steps` with their targets and the end of their output.

    Wants `actor` and `tenant` selected with it, and `with_check`; three more statements, one more while it is queued,
    and three for one that needs, or needed, approvals.
    """
    steps = steps_of(execution)
    state = summary(execution)
    state["tenant"] = execution.tenant.name
    state["check"] = bool(getattr(execution, "is_check", False))
    state["time_limits"] = {
        "execution_seconds": execution.execution_seconds,
        "step_seconds": execution.step_seconds,
        "max_attempts": execution.max_attempts,
    }
    if execution.status == ExecutionStatus.QUEUED:
        state["status_reason"] = waiting_sentence(execution) or execution.status_reason
    ask = asks_of([execution])[0] if execution.approval_level else None
    state["approval"] = ask.as_json() if ask else None
    state["approvals"] = [decision_of(approval) for approval in ask.approvals] if ask else []
    state["errors"] = list(errors_of(execution, steps))
    state["notice"] = execution.removal_notice or None
    state["rolled_back"] = rolled_back(steps)
    state["steps"] = steps
    return state


def rolled_back(steps: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was undone, or was to be, in its order: by step, the names of its targets by what became of that."""
    found = []
    for step in steps:
        if step["kind"] == ROLLBACK:
            names = {target["target"]: target["status"] == StepStatus.SUCCEEDED for target in step["targets"]}
            found.append(
                {
                    "id": step["id"],
                    "status": step["status"],
                    "undone": [name for name, done in names.items() if done],
                    "not_undone": [name for name, done in names.items() if not done],
                }
            )
    return found


def decision_of(approval: Approval) -> dict[str, Any]:
    """One person's decision. Wants `by` selected with it."""
    return {
        "by": approval.by.username,
        "step": approval.step or None,
        "wave": approval.wave or None,
        "approved": approval.approved,
        "comment": approval.comment,
        "decided_at": approval.decided_at,
        "withdrawn_at": approval.withdrawn_at,
        "withdrawn_reason": approval.withdrawn_reason or None,
    }


def errors_of(execution: Execution, steps: Iterable[dict[str, Any]]) -> Iterable[dict[str, str]]:
    """What went wrong, in the shape of every other `errors[]`: each step that did not end well, or the execution."""
    found = False
    for index, step in enumerate(steps):
        if step["status"] in _NOT_WELL:
            found = True
            code = step["error_code"] or step["status"]
            yield {
                "code": code,
                "path": f"steps[{index}]",
                "message": f"{_called(step)}: {step['error'] or step['status']}",
                "how_to_fix": _advice(step["status"], step["id"], step["kind"]),
            }
    if not found and execution.error_code:
        known = CODES.get(execution.error_code)
        yield {
            "code": execution.error_code,
            "path": "",
            "message": execution.status_reason,
            "how_to_fix": known.way_out if known else "Read its events for what came before.",
        }


def _called(step: dict[str, Any]) -> str:
    return f"Step {step['id']}" if step["kind"] != ROLLBACK else f"Rollback of step {step['id']}"


def _advice(status: str, key: str, kind: str) -> str:
    if kind == ROLLBACK:
        return f"Look at the target, then `resolve` {key}: succeeded (undone now), failed (let it stand), run_again."
    if status == StepStatus.UNKNOWN:
        return f"Look at the target, then say with `resolve` what is true of {key}: succeeded, failed or run_again."
    if status == StepStatus.TIMED_OUT:
        return "Give the step a longer timeout_seconds, or find out why it takes so long; then retry."
    return f"Read the output of {key}, correct the cause, then retry: steps that succeeded are not run again."


def steps_of(execution: Execution) -> list[dict[str, Any]]:
    """The steps in order, each with its targets and the end of what they printed. Three statements."""
    targets: dict[int, list[StepTarget]] = {}
    rows = list(StepTarget.objects.filter(execution_id=execution.pk).order_by("step_id", "position"))
    for row in rows:
        targets.setdefault(row.step_id, []).append(row)
    output = _output_of(execution.pk, rows) if execution.events_pruned_at is None else None
    return [
        {
            "id": step.key,
            "step": step.pk,
            "position": step.position,
            "kind": step.kind,
            "tool": step.tool,
            "description": step.description,
            "status": step.status,
            "error_code": step.error_code or None,
            "error": step.error or None,
            "started_at": step.started_at,
            "finished_at": step.finished_at,
            "counts": Tally.of((row.status, row.error_code) for row in targets.get(step.pk, ())).as_json(),
            "waves": _waves(step, targets.get(step.pk, [])),
            "targets": [_target(row, step, output) for row in targets.get(step.pk, ())],
        }
        for step in Step.objects.filter(execution_id=execution.pk).order_by("position")
    ]


def _waves(step: Step, rows: list[StepTarget]) -> list[dict[str, Any]] | None:
    """The waves of a step with what became of their targets; None when all go as one."""
    if not step.waves or len(step.waves) < 2:
        return None
    by_wave: dict[int | None, list[tuple[str, str]]] = {}
    for row in rows:
        by_wave.setdefault(wave_of(step.waves, row.position), []).append((row.status, row.error_code))
    return [
        {"wave": number, "counts": Tally.of(by_wave.get(number, ())).as_json()}
        for number in range(1, len(step.waves) + 1)
    ]


def _target(row: StepTarget, step: Step, output: dict[tuple[int, str], str] | None) -> dict[str, Any]:
    """One target with the end of its output; `output` is None when retention has removed it."""
    shown = output or {}
    stdout, stderr = shown.get((row.pk, "stdout"), ""), shown.get((row.pk, "stderr"), "")
    printed = row.stdout_bytes + row.stderr_bytes if output is not None else 0
    return {
        "target": row.name or None,
        "step_target": row.pk,
        "asset": row.asset_id,
        "wave": wave_of(step.waves, row.position),
        "status": row.status,
        "unreachable": is_unreachable(row.status, row.error_code),
        "attempt": row.attempt,
        "exit_code": row.exit_code,
        "error_code": row.error_code or None,
        "error": row.error or None,
        "stdout": stdout,
        "stderr": stderr,
        "stdout_bytes": row.stdout_bytes,
        "stderr_bytes": row.stderr_bytes,
        "truncated": row.truncated,
        "more_output": printed > len(stdout.encode()) + len(stderr.encode()),
        "stop_confirmed": row.stop_confirmed,
        "data": row.data,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def _output_of(execution_id: int, rows: Iterable[StepTarget]) -> dict[tuple[int, str], str]:
    """Return {(step target, stream): the end of it}, for as many targets as SHOWN_IN_ALL allows."""
    targets: list[int] = []
    streams: list[str] = []
    left = SHOWN_IN_ALL
    for row in rows:
        # The counters are written at the end of a target: while it runs, any of the two may have something.
        going = row.status not in FINAL_STEP and row.status != StepStatus.PENDING
        for stream, size in (("stdout", row.stdout_bytes), ("stderr", row.stderr_bytes)):
            if (size or going) and left > 0:
                targets.append(row.pk)
                streams.append(stream)
                left -= min(size or SHOWN_OUTPUT, SHOWN_OUTPUT)
    if not targets:
        return {}
    wanted: dict[str, Any] = {
        "execution": execution_id,
        "targets": targets,
        "streams": streams,
        "chunks": _MOST_CHUNKS,
        "shown": SHOWN_OUTPUT,
    }
    with connection.cursor() as cursor:
        cursor.execute(OUTPUT, wanted)
        found = cursor.fetchall()
    return {(target, stream): _end_of(text) for target, stream, text in found}


def _end_of(text: str) -> str:
    """The last SHOWN_OUTPUT bytes of a text, from the beginning of a character."""
    data = text.encode()
    return text if len(data) <= SHOWN_OUTPUT else data[-SHOWN_OUTPUT:].decode(errors="ignore")
