"""One attempt of a step on one target: render, run through the connector, stream the output, judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections

from executions.clients import IN_A_WORKER
from executions.connectors.base import ErrorCode, Invocation, Outcome, Stop, Stream, Target
from executions.connectors.output import OutputCollector
from executions.connectors.registry import NoConnector, connector_for
from executions.engine import probing
from executions.engine.masks import OutputMask, masked_facts, masked_sentence
from executions.engine.state import StepState, TargetState, taken_from
from executions.engine.verdict import Verdict, judge
from executions.plans.inventory import InventoryUnavailable
from executions.plans.templates import TemplateContext, UnresolvedTemplate, render
from executions.service_inventory import inventory_of
from executions.states import StepStatus
from executions.tools import InvalidInput, Tool, get_catalog
from safety.masking import PLACEHOLDER

S = StepStatus

# What a later step can take of this one's output; the whole of it is in the chunks.
NEEDED_STDOUT = 256 * 1024
JUDGED_STDOUT = 1024 * 1024
UNWANTED_STDOUT = 64

_ONLY_MASKED = (
    "It takes the output of step '{}', which was masked when it was stored, and the worker that had the rest was lost. "
    "Nothing ran. Retry the execution from that step."
)


@dataclass(slots=True)
class Attempted:
    """What one attempt gave: the verdict, and the columns of the target that go with it."""

    verdict: Verdict
    exit_code: int | None
    stop_confirmed: bool | None
    columns: dict[str, Any]
    error_code: ErrorCode | None = None  # the connector's own
    hopeless: bool = False  # another attempt would end in the same way


class Refusal(Exception):
    """The step cannot begin on this target. Nothing ran. `hopeless`: nor will it, until somebody changes something."""

    def __init__(self, code: str, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.hopeless = hopeless


Emit = Callable[[int, Stream, str, int], None]


def tool_of(step: StepState) -> Tool:
    """Raises Refusal when the catalog has lost the tool since the plan was accepted."""
    tool = get_catalog().get(step.planned["tool"])
    if tool is None:
        raise Refusal("unknown_tool", f"The tool {step.planned['tool']} is not in this worker's catalog any more.")
    return tool


def rendered_inputs(step: StepState, context: TemplateContext) -> dict[str, Any]:
    """Render the step's inputs for one target; secret references stay. Raises Refusal."""
    tool = tool_of(step)
    try:
        return {
            name: render(value, context, quote=tool.quote_for(name)) for name, value in step.planned["inputs"].items()
        }
    except UnresolvedTemplate as error:
        raise Refusal("unresolved_placeholder", str(error)) from None


def invocation_of(
    step: StepState, inputs: Mapping[str, Any], limit: float, secret_values: tuple[str, ...] = ()
) -> Invocation:
    """Check rendered inputs, into which secrets were filled, and prepare them. Raises Refusal.

    `secret_values`: all that the execution knows, since the output of an earlier step may bring one to a command line.
    """
    try:
        invocation = tool_of(step).prepare(
            inputs, timeout_seconds=limit, secret_values=secret_values, check=step.planned.get("check", False)
        )
    except InvalidInput as error:
        raise Refusal("invalid_input", str(error)) from None
    if invocation.idempotent == step.planned["idempotent"]:
        return invocation
    return replace(invocation, idempotent=step.planned["idempotent"])  # the plan knows better than the catalog


async def attempt(
    step: StepState,
    target: TargetState,
    invocation: Invocation,
    where: Target,
    *,
    fence: int,
    stop: Stop,
    limit: float,
    secret_values: Callable[[], tuple[str, ...]],
    emit: Emit,
    room: Callable[[], Awaitable[None]],
) -> Attempted:
    """Run one attempt to its end, on `where`, which is the target as connectors know it.

    Trouble outside is in the verdict; WardenLost and bugs come out as exceptions.

    `secret_values` returns all that the execution knows at that moment: other steps fetch more while this one runs.
    """
    tool = tool_of(step)

    def hand_on(stream: Stream, text: str, size: int) -> None:
        emit(target.id, stream, text, size)
        counted[stream] += size

    counted: dict[str, int] = {"stdout": 0, "stderr": 0}
    wants_stdout = step.needed or step.planned["success"]["stdout_matches"] is not None
    collector = OutputCollector(
        hand_on,
        max_bytes=min(step.planned["max_output_bytes"], settings.MAX_OUTPUT_BYTES),
        wait_for_room=room,
        transformer=OutputMask(secret_values),
        keep_stdout=JUDGED_STDOUT if wants_stdout else UNWANTED_STDOUT,
        keep_stderr=NEEDED_STDOUT if step.needed else 0,
    )
    timer = asyncio.get_running_loop().call_later(max(0.0, limit), stop.request, "timeout")
    try:
        outcome = await _run(tool, invocation, where, collector, stop, fence)
    finally:
        timer.cancel()
        collector.finish()
    stdout = collector.stdout_text() if wants_stdout else ""
    verdict = judge(
        outcome,
        success=step.planned["success"],
        stdout=stdout,
        stop_reason=stop.reason,
        idempotent=step.planned["idempotent"],
        limit=limit,
    )
    if verdict.error:
        verdict = replace(verdict, error=masked_sentence(verdict.error))
    elif collector.truncated and verdict.status == S.SUCCEEDED:
        verdict = replace(verdict, error_code="output_truncated", error=_too_much(collector))
    columns: dict[str, Any] = {
        "stdout_bytes": counted["stdout"],
        "stderr_bytes": counted["stderr"],
        "truncated": collector.truncated,
    }
    if step.needed:
        # Later steps of this worker get what was printed; the table, and so another worker, what may be seen.
        target.stdout, target.recalled = stdout[-NEEDED_STDOUT:], False
        target.stderr = collector.stderr_text()
        columns["stdout"] = collector.shown_stdout()[-NEEDED_STDOUT:]
    if outcome.data:
        columns["data"] = masked_facts(outcome.data)
    hopeless = outcome.error_code is not None and outcome.error_code.is_hopeless
    return Attempted(verdict, outcome.exit_code, outcome.stop_confirmed, columns, outcome.error_code, hopeless)


def _too_much(collector: OutputCollector) -> str:
    printed, kept = collector.total_bytes / 1e6, collector.kept_bytes / 1e6
    return f"It printed {printed:,.1f} MB, of which the first {kept:,.1f} MB were kept."


async def _run(
    tool: Tool,
    invocation: Invocation,
    where: Target,
    collector: OutputCollector,
    stop: Stop,
    fence: int,
) -> Outcome:
    if tool.connector == "none":
        return await _wait(invocation, stop)
    if tool.connector == "inventory":
        return await _query(invocation, where.tenant_id, collector)
    try:
        if tool.connector == probing.CONNECTOR:
            return await probing.probe(invocation, where, stop)
        connector = connector_for(tool.connector, where.connection)
    except NoConnector as error:
        raise Refusal(error.code, str(error)) from None
    return await connector.run(invocation, where, sink=collector, stop=stop, fence=fence)


def never_started(step: StepState, stop: Stop, limit: float) -> Attempted:
    """Return the verdict on an attempt that was asked to stop before there was anything to run."""
    outcome = Outcome(None, ErrorCode.NOT_STARTED, "Not started: asked to stop before.", stop_confirmed=True)
    verdict = judge(
        outcome,
        success=step.planned["success"],
        stdout="",
        stop_reason=stop.reason,
        idempotent=step.planned["idempotent"],
        limit=limit,
    )
    return Attempted(verdict, None, True, {}, outcome.error_code)


async def _wait(invocation: Invocation, stop: Stop) -> Outcome:
    """noop and wait: the engine's own tools, which touch nothing."""
    seconds = float(invocation.argv[1]) if len(invocation.argv) > 1 else 0.0
    if seconds > 0:
        try:
            await asyncio.wait_for(stop.wait(), seconds)
        except TimeoutError:
            return Outcome(0)
        return Outcome(None, ErrorCode.STOPPED, "Stopped while it waited.", stop_confirmed=True)
    return Outcome(0)


async def _query(invocation: Invocation, tenant_id: int, collector: OutputCollector) -> Outcome:
    """asset-query: the rows of the inventory as they are now, as one JSON document on stdout."""
    inputs = json.loads(invocation.stdin or b"{}")

    def rows() -> list[Any]:
        close_old_connections()
        try:
            return list(inventory_of(tenant_id, IN_A_WORKER).query(inputs.get("filters") or {}, inputs.get("fields")))
        finally:
            close_old_connections()

    try:
        found = await sync_to_async(rows, thread_sensitive=False)()
    except ValueError as error:
        return Outcome(1, None, str(error))
    except InventoryUnavailable as trouble:
        return Outcome(None, ErrorCode.UNREACHABLE, str(trouble))
    text = json.dumps(found, ensure_ascii=False, indent=1, default=str)
    await collector.write("stdout", text.encode() + b"\n")
    return Outcome(0, data={"rows": len(found)})


def context_for(step: StepState, target: TargetState, before: dict[str, StepState]) -> TemplateContext:
    """Return what the templates of a step can name on this target: its row, and the output of earlier steps.

    Of a step with several targets it is the output of the same target. Raises Refusal when a template takes an output
    of which only the masked form is left: the worker that had it was lost, and "[masked]" is not what was printed.
    """
    outputs: dict[str, dict[str, object]] = {}
    for key, earlier in before.items():
        source = _same_target(earlier, target)
        if source is not None:
            if source.recalled and PLACEHOLDER in source.stdout and key in taken_from(step.planned["inputs"]):
                raise Refusal("masked_output", _ONLY_MASKED.format(key), hopeless=True)
            outputs[key] = {"stdout": source.stdout, "stderr": source.stderr}
            if source.exit_code is not None:
                outputs[key]["exit_code"] = source.exit_code
    row = target.planned["row"] if target.planned else {}
    return TemplateContext(row=row, steps=outputs, resolved=step.planned.get("resolved") or {})


def _same_target(earlier: StepState, target: TargetState) -> TargetState | None:
    if len(earlier.targets) == 1:
        return earlier.targets[0]
    wanted = target.planned["asset_id"] if target.planned else None
    return next((t for t in earlier.targets if t.planned and t.planned["asset_id"] == wanted), None)
