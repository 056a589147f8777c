"""One attempt of a step on one target: render, run through the connector, stream the output, judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from executions.clients import IN_A_WORKER
from executions.connectors.base import ErrorCode, Invocation, Outcome, Stop, Target
from executions.connectors.output import OutputCollector
from executions.connectors.registry import NoConnector, connector_for
from executions.engine import probing
from executions.engine.state import StepState, TargetState, taken_from
from executions.engine.transcript import Attempted, Emit, Transcript
from executions.engine.verdict import judge
from executions.plans.compiled import GRAVITY
from executions.plans.inventory import InventoryUnavailable
from executions.plans.templates import TemplateContext, UnresolvedTemplate, render
from executions.service_inventory import inventory_of
from executions.states import StepStatus
from executions.tools import InvalidInput, Tool, get_catalog
from executions.tools.fitting import misfits
from safety.masking import PLACEHOLDER
from safety.models import User

S = StepStatus

_ONLY_MASKED = (
    "It takes the output of step '{}', which was masked when it was stored, and the worker that had the rest was lost. "
    "Nothing ran. Retry the execution from that step."
)


class Refusal(Exception):
    """The step cannot begin on this target. Nothing ran. `hopeless`: nor will it, until somebody changes something."""

    def __init__(self, code: str, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.hopeless = hopeless


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
    step: StepState, target: TargetState, inputs: Mapping[str, Any], limit: float, secret_values: tuple[str, ...] = ()
) -> Invocation:
    """Check rendered inputs, into which secrets were filled, and prepare them. Raises Refusal.

    `secret_values`: all that the execution knows, since the output of an earlier step may bring one to a command line.
    """
    tool = tool_of(step)
    connection = target.planned["connection"] if target.planned else ""
    for misfit in misfits(tool, inputs, connection):  # a template may have brought what did not fit
        raise Refusal(misfit.code, f"{misfit.message}. {misfit.how_to_fix}", hopeless=True)
    accepted_as = step.planned["action_class"]
    does = (tool.class_in_check_mode_for if step.planned.get("check") else tool.action_class_for)(inputs)
    if GRAVITY[does] > GRAVITY[accepted_as]:
        # Rights, locks and approvals were those of the tool as the web process knew it.
        sentence = f"The plan was accepted with {tool.name} as {accepted_as}; on this worker it does more than that."
        raise Refusal("tool_changed", sentence, hopeless=True)
    try:
        invocation = tool.prepare(
            inputs, timeout_seconds=limit, secret_values=secret_values, check=step.planned.get("check", False)
        )
    except InvalidInput as error:
        raise Refusal("invalid_input", str(error)) from None
    # Of idempotence the plan knows better than the catalog; of the user and the files nobody else knows.
    return replace(
        invocation,
        idempotent=step.planned["idempotent"],
        run_as=step.planned.get("run_as", ""),
        files=step.planned.get("files"),
    )


async def attempt(
    step: StepState,
    target: TargetState,
    invocation: Invocation,
    where: Target,
    *,
    fence: int,
    actor_id: int,
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
    expected = invocation.http.expect_json if invocation.http is not None else ()
    transcript = Transcript(step, target, secret_values=secret_values, emit=emit, room=room, expected=expected)
    timer = asyncio.get_running_loop().call_later(max(0.0, limit), stop.request, "timeout")
    try:
        outcome = await _run(tool, invocation, where, transcript.sink, stop, fence, actor_id)
    finally:
        timer.cancel()
        transcript.close()
    return transcript.judged(outcome, stop_reason=stop.reason, limit=limit)


async def _run(
    tool: Tool,
    invocation: Invocation,
    where: Target,
    collector: OutputCollector,
    stop: Stop,
    fence: int,
    actor_id: int,
) -> Outcome:
    if tool.connector == "none":
        return await _wait(invocation, stop)
    if tool.connector == "inventory":
        return await _query(invocation, actor_id, collector)
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
    return Attempted(verdict, None, True, {}, outcome.error_code, acted=False)


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


async def _query(invocation: Invocation, actor_id: int, collector: OutputCollector) -> Outcome:
    """asset-query: the rows of the inventory as the requester sees it now, as one JSON document on stdout."""
    inputs = json.loads(invocation.stdin or b"{}")

    def rows() -> list[Any]:
        close_old_connections()
        try:
            by = User.objects.get(pk=actor_id)
            inventory = inventory_of(by.tenant_id, IN_A_WORKER, seen_by=by)
            return list(inventory.query(inputs.get("filters") or {}, inputs.get("fields")))
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
