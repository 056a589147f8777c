"""The pipes between a command and the worker: its output read at once, its input fed without waiting for each other."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Mapping

from executions.connectors.base import OutputSink, Stream

_READ_BYTES = 65536
_QUEUE_BYTES = 256 * 1024  # read ahead of the sink at most this much; then the command has to wait in its write
_REST_BYTES = 2 * 1024 * 1024  # what two pipes can hold at most, made large; more than that is being written anew


class OutputPipes:
    """Reads stdout and stderr as early as it can and hands them on to a sink in the order in which they came.

    Two pipes have no common order, so this is what holds: bytes of one stream keep their order; what was read at an
    earlier turn of the event loop comes before what was read at a later one; and of two streams that became readable
    between two turns the one that did so first is read first (epoll and kqueue report in that order). Writes to both
    that are further apart than a turn of the loop therefore stay in order; writes closer than that are grouped.
    """

    def __init__(self, descriptors: Mapping[Stream, int], sink: OutputSink) -> None:
        """Takes the descriptors over: they are closed here, each at its end."""
        self._loop = asyncio.get_running_loop()
        self._sink = sink
        self._open = dict(descriptors)
        self._queue: deque[tuple[Stream, bytes]] = deque()
        self._queued_bytes = 0
        self._is_reading = False
        self._waits_for_end = True
        self._news = asyncio.Event()
        for descriptor in self._open.values():
            os.set_blocking(descriptor, False)
        self._listen()

    @property
    def has_ended(self) -> bool:
        """Whether every stream has come to its end."""
        return not self._open

    async def deliver(self) -> None:
        """Give everything to the sink until both streams end, or `stop_waiting` was called. Whatever the sink raises
        comes out here."""
        while True:
            await self._deliver_queue()
            if self.has_ended:
                return
            if not self._waits_for_end:
                await self._deliver_rest()
                return
            self._listen()
            self._news.clear()
            await self._news.wait()

    def stop_waiting(self) -> None:
        """Deliver only what is in the pipes now, although somebody may still hold their other ends."""
        self._waits_for_end = False
        self._news.set()

    async def _deliver_rest(self) -> None:
        self._deafen()
        budget = _REST_BYTES
        while self._open and budget > 0:
            for stream in list(self._open):
                self._read(stream)
            if not self._queue and self._open:
                break
            budget -= self._queued_bytes
            await self._deliver_queue()
        self.close()

    def close(self) -> None:
        self._deafen()
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    async def _deliver_queue(self) -> None:
        while self._queue:
            stream, data = self._queue.popleft()
            self._queued_bytes -= len(data)
            waiting = self._sink.write(stream, data)
            if waiting is not None:
                await waiting

    def _listen(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            for stream, descriptor in self._open.items():
                self._loop.add_reader(descriptor, self._on_readable, stream)

    def _deafen(self) -> None:
        if self._is_reading:
            self._is_reading = False
            for descriptor in self._open.values():
                self._loop.remove_reader(descriptor)

    def _on_readable(self, stream: Stream) -> None:
        self._read(stream)
        if self._queued_bytes >= _QUEUE_BYTES:
            self._deafen()
        self._news.set()

    def _read(self, stream: Stream) -> None:
        descriptor = self._open.get(stream)
        if descriptor is None:
            return
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._queue.append((stream, data))
            self._queued_bytes += len(data)
            return
        if self._is_reading:
            self._loop.remove_reader(descriptor)
        del self._open[stream]
        os.close(descriptor)


class InputPipe:
    """Feeds bytes to a command as fast as it takes them, and closes the pipe: a command that does not read its input
    hinders nobody."""

    def __init__(self, descriptor: int, data: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._rest = memoryview(data)
        os.set_blocking(descriptor, False)
        self._is_listening = False
        self._feed()

    def _feed(self) -> None:
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._descriptor, self._rest[: 1 << 20]) :]
        except BlockingIOError:
            if not self._is_listening:
                self._is_listening = True
                self._loop.add_writer(self._descriptor, self._feed)
            return
        except OSError:  # nobody reads it any more
            pass
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            if self._is_listening:
                self._loop.remove_writer(self._descriptor)
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
            self._rest = memoryview(b"")
