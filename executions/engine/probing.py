"""What is asked of assets without running anything there: whether they let us in, and which host keys they show.

It is asked with the connector that would run a command there.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from executions.connections import Connection
from executions.connectors.base import ErrorCode, Invocation, Outcome, Stop, Target
from executions.connectors.registry import NoConnector, connector_for, tool_connectors

CONNECTOR = "probe"
TOOL = "asset-check"
HOST_KEY_TOOL = "asset-host-key"

# What a tool of this kind asks a connector for, and what is said where none can tell.
_QUESTIONS = {
    TOOL: ("probe", "No connector can check a target with connection {}: it could only be used."),
    HOST_KEY_TOOL: ("show_host_keys", "A target with connection {} shows no host key here: only ssh has them."),
}


async def probe(invocation: Invocation, where: Target, stop: Stop) -> Outcome:
    """Ask one target. Raises NoConnector when nothing here reaches this kind of target."""
    question, sentence = _QUESTIONS[invocation.argv[0]]
    prober = _prober(where.connection, question)
    if prober is None:
        return Outcome(None, ErrorCode.NOT_SUPPORTED, sentence.format(where.connection))
    if stop.requested:
        return Outcome(None, ErrorCode.NOT_STARTED, "Not started: asked to stop before.", stop_confirmed=True)
    seconds = float(invocation.argv[1])
    clock = asyncio.get_running_loop().time
    began = clock()
    working = asyncio.ensure_future(getattr(prober, question)(where, timeout_seconds=seconds))
    asked = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return Outcome(None, ErrorCode.STOPPED, f"Stopped ({stop.reason}).", stop_confirmed=True)
        outcome: Outcome = working.result()
        return replace(outcome, data={**outcome.data, "response_ms": round((clock() - began) * 1000)})
    finally:
        asked.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


def _prober(connection: str, question: str) -> Any | None:
    """The connector that can ask this of such targets; None when those that reach them cannot."""
    kinds = ["http"] if connection == Connection.API else ["command", *sorted(tool_connectors() - {"command", "http"})]
    refusal: NoConnector | None = None
    reached = False
    for kind in kinds:
        try:
            connector = connector_for(kind, connection)
        except NoConnector as error:
            refusal = refusal or error
            continue
        reached = True
        if hasattr(connector, question):
            return connector
    if not reached and refusal is not None:
        raise refusal
    return None
