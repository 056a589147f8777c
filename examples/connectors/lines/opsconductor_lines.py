"""A connector for devices that are spoken to line by line over TCP: each argument of a tool is sent as one line, and
answered by lines of which the last begins with OK or ERR."""

from __future__ import annotations

import asyncio

from executions.connectors.base import ErrorCode, Invocation, Outcome, OutputSink, Stop, Target
from executions.connectors.registry import Surroundings

# What a tool asks for, and how the asset is connected.
REACHES = [("lines", "lines")]
DEFAULT_PORT = 4001
CONNECT_SECONDS = 10.0


class LinesConnector:
    """Serves many targets at the same time; keeps no connection open."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    async def run(self, invocation: Invocation, target: Target, *, sink: OutputSink, stop: Stop, fence: int) -> Outcome:
        if any(character in line for line in invocation.argv for character in "\r\n"):
            return Outcome(None, ErrorCode.INVALID_INVOCATION, "A line cannot hold a line end.")
        if stop.requested:
            return Outcome(None, ErrorCode.NOT_STARTED, "Not started: asked to stop before.", stop_confirmed=True)
        talk = _Talk(self._surroundings, invocation.argv, sink)
        working = asyncio.ensure_future(talk.run(target))
        asked = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
        finally:
            asked.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
        # The device may go on with a line that it has: only when it has none is it certain that nothing goes on.
        return Outcome(None, ErrorCode.STOPPED, f"Stopped ({stop.reason}).", stop_confirmed=not talk.sent)

    async def close(self) -> None:
        """There is nothing to give up."""

    async def probe(self, target: Target, *, timeout_seconds: float) -> Outcome:
        """Whether the device answers at all: connect, and no more."""
        try:
            async with asyncio.timeout(timeout_seconds):
                _, writer = await asyncio.open_connection(target.address, target.port or DEFAULT_PORT)
        except OSError as error:  # TimeoutError is one
            return _not_connected(target, error)
        writer.close()
        return Outcome(0)


class _Talk:
    def __init__(self, surroundings: Surroundings, lines: tuple[str, ...], sink: OutputSink) -> None:
        self._surroundings = surroundings
        self._lines = lines
        self._sink = sink
        self.sent = False

    async def run(self, target: Target) -> Outcome:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(target.address, target.port or DEFAULT_PORT)
        except OSError as error:
            return _not_connected(target, error)
        try:
            for line in self._lines:
                if not self._surroundings.may_act:  # another worker may have the device by now
                    code = ErrorCode.STOPPED if self.sent else ErrorCode.NOT_STARTED
                    return Outcome(None, code, "This worker's right to act is over.", stop_confirmed=not self.sent)
                self.sent = True
                writer.write(line.encode() + b"\n")
                await writer.drain()
                if not await self._answer(reader):
                    return Outcome(1)
            return Outcome(0)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            sentence = f"{target.name} broke off. It may have done what it was told; look there."
            return Outcome(None, ErrorCode.CONNECTION_LOST, sentence)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bool:
        """Hand on what the device says up to its OK or ERR; return whether it was OK."""
        while True:
            answer = await reader.readuntil(b"\n")
            refused = answer.startswith(b"ERR")
            waiting = self._sink.write("stderr" if refused else "stdout", answer)
            if waiting is not None:
                await waiting
            if refused or answer.startswith(b"OK"):
                return not refused


def _not_connected(target: Target, error: OSError) -> Outcome:
    code = ErrorCode.CONNECTION_REFUSED if isinstance(error, ConnectionRefusedError) else ErrorCode.UNREACHABLE
    reason = str(error) or "no answer in time"
    return Outcome(None, code, f"{target.name} cannot be reached: {reason}.")


def make(surroundings: Surroundings) -> LinesConnector:
    return LinesConnector(surroundings)
