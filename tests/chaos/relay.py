"""A way to a server: a TCP port that passes bytes on, slowly, one way only, not at all, or cuts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tests.chaos.outside import Outside

TO_SERVER, TO_CLIENT = "to the server", "to the client"
WAYS = (TO_SERVER, TO_CLIENT)

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Relay:
    """Listens on a free port of loopback. The methods below may be called from any thread but the loop's."""

    def __init__(self, outside: Outside, connect: Connect) -> None:
        self._outside = outside
        self._connect = connect
        self._writers: set[asyncio.StreamWriter] = set()
        self._delay = 0.0
        self.port = 0
        self._open: dict[str, asyncio.Event] = {}
        outside.run(self._listen())

    def hold(self, *ways: str) -> None:
        """Keep what comes from now on in these directions: a broken network that nobody is told of."""
        self._outside.run(self._set(ways, None))

    def heal(self) -> None:
        """Pass everything on again at once, first what was held: it arrives late, as it does after a partition."""
        self._outside.run(self._set((), 0.0))

    def slow_down(self, seconds: float) -> None:
        """Pass every piece on so much later."""
        self._outside.run(self._set(None, seconds))

    def cut(self) -> None:
        """Break every connection; new ones are taken at once."""
        self._outside.run(self._cut())

    async def _listen(self) -> None:
        self._open = {way: asyncio.Event() for way in WAYS}
        for event in self._open.values():
            event.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _set(self, held: tuple[str, ...] | None, delay: float | None) -> None:
        if held is not None:
            for way, event in self._open.items():
                event.clear() if way in held else event.set()
        if delay is not None:
            self._delay = delay

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        writers = {to_client}
        self._writers.add(to_client)
        pumps: list[asyncio.Task[None]] = []
        try:
            from_server, to_server = await self._connect()
            writers.add(to_server)
            self._writers.add(to_server)
            pumps = [
                asyncio.create_task(self._pump(TO_SERVER, from_client, to_server)),
                asyncio.create_task(self._pump(TO_CLIENT, from_server, to_client)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the server is down: the client is told so by the end of its connection
        finally:
            for pump in pumps:
                pump.cancel()
            for writer in writers:
                self._writers.discard(writer)
                writer.transport.abort() if writer.is_closing() else writer.close()

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open[way].wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                writer.write(data)
                await writer.drain()
