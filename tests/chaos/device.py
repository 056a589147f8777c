"""What the reading steps of the load read from: an HTTP server that writes down when each read begins and ends."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from tests.chaos.evidence import UPTIME
from tests.chaos.outside import Outside

FENCE_HEADER = "opsconductor-fence"


class Device:
    """Answers `GET /?asset=A&number=N&step=S&seconds=T` after T seconds. Its lines are those of step.sh."""

    def __init__(self, outside: Outside, folder: Path) -> None:
        self._folder = folder
        self.port = outside.run(self._listen())

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            asked = dict(parse_qsl(urlsplit(first.split()[1]).query))
            headers = {name.strip().lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
            fence, run = headers.get(FENCE_HEADER, "0"), uuid4().hex
            self._write(asked, "start", fence, run)
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({gone}, timeout=float(asked["seconds"]))
            if gone.done():  # whoever asked does not read any more
                self._write(asked, "tick", fence, run)
                return
            gone.cancel()
            self._write(asked, "end:0", fence, run)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _write(self, asked: dict[str, str], mark: str, fence: str, run: str) -> None:
        uptime = UPTIME.read_text().split()[0]
        line = f"{uptime} {mark} {asked['number']} {asked['step']} {fence} {run}\n"
        descriptor = os.open(self._folder / asked["asset"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
