"""A sink that remembers, a way to wait for a condition, and a look at which processes live."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from executions.connectors import NO_TARGET, Invocation, Outcome, Stop, Stream
from executions.connectors.local import LocalConnector


class RecordingSink:
    def __init__(self) -> None:
        self.writes: list[tuple[Stream, bytes]] = []
        self.something_came = asyncio.Event()

    def write(self, stream: Stream, data: bytes) -> None:
        self.writes.append((stream, data))
        self.something_came.set()

    def bytes_of(self, stream: Stream) -> bytes:
        return b"".join(data for its_stream, data in self.writes if its_stream == stream)

    @property
    def stdout(self) -> str:
        return self.bytes_of("stdout").decode()

    @property
    def stderr(self) -> str:
        return self.bytes_of("stderr").decode()

    async def wait_for_text(self, text: str, *, within_seconds: float = 10) -> None:
        async with asyncio.timeout(within_seconds):
            while text not in self.stdout:
                self.something_came.clear()
                await self.something_came.wait()


async def run_script(
    connector: LocalConnector,
    script: str,
    *,
    sink: RecordingSink | None = None,
    stop: Stop | None = None,
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Outcome, RecordingSink]:
    sink = sink or RecordingSink()
    invocation = Invocation(argv=("/bin/sh", "-c", script), stdin=stdin, environment=environment or {})
    outcome = await connector.run(invocation, NO_TARGET, sink=sink, stop=stop or Stop(), fence=7)
    return outcome, sink


def is_alive(pid: int) -> bool:
    """Whether that process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(condition: Callable[[], bool], *, within_seconds: float = 10) -> float:
    """Wait for a condition and return how long it took; AssertionError when it does not come true."""
    began_at = time.monotonic()
    while not condition():
        assert time.monotonic() - began_at < within_seconds, "the condition did not come true in time"
        time.sleep(0.005)
    return time.monotonic() - began_at


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))
