"""Checks of assets: connect, sign in, and say how long it took; with the connector that would run a command there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from executions.connections import Connection
from executions.connectors.base import ErrorCode, Invocation, Outcome, Stop, Target
from executions.connectors.registry import NoConnector, connector_for, tool_connectors

CONNECTOR = "probe"
TOOL = "asset-check"


async def probe(invocation: Invocation, where: Target, stop: Stop) -> Outcome:
    """Carry out one check. Raises NoConnector when nothing here reaches this kind of target."""
    prober = _prober(where.connection)
    if prober is None:
        sentence = f"No connector can check a target with connection {where.connection}: it could only be used."
        return Outcome(None, ErrorCode.NOT_SUPPORTED, sentence)
    if stop.requested:
        return Outcome(None, ErrorCode.NOT_STARTED, "Not started: asked to stop before.", stop_confirmed=True)
    seconds = float(invocation.argv[1])
    clock = asyncio.get_running_loop().time
    began = clock()
    working = asyncio.ensure_future(prober.probe(where, timeout_seconds=seconds))
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


def _prober(connection: str) -> Any | None:
    """The connector that can check such targets; None when those that reach them cannot."""
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
        if hasattr(connector, "probe"):
            return connector
    if not reached and refusal is not None:
        raise refusal
    return None
