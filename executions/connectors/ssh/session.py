"""One command on the other machine, as seen from here: what it printed, what its guard said, when it was over."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import Any

import asyncssh

from executions.connectors.base import OutputSink, Stream
from executions.connectors.ssh.far_side import BLOCK_BYTES, BLOCKS_AHEAD, HELLO, PASSWORD_PROMPT, Right
from executions.connectors.ssh.lines import OwnLines

WINDOW_BYTES = 256 * 1024  # what the other side may send ahead of us
_QUEUE_BYTES = 256 * 1024  # what is taken ahead of the sink
_CHATTER_BYTES = 4096


class FarCommand(asyncssh.SSHClientSession[bytes]):
    """Bound to one channel and one event loop. First there is a hello, then the script is sent, then the run."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce.encode()
        self._channel: Any = None
        self._lines: dict[Stream, OwnLines] = {}
        self._early = b""
        self._queue: deque[tuple[Stream, bytes]] = deque()
        self._queued_bytes = 0
        self._is_paused = False
        self._room = asyncio.Semaphore(BLOCKS_AHEAD)
        self._news = asyncio.Event()
        self.chatter = b""  # what was said on stderr before the hello: by the login shell, by sudo
        self.clock: int | None = None  # the other machine's, at the hello
        self.greeted_at = 0.0
        self.right_ends_at: float | None = None  # on our clock: what its guard was told last
        self.grace_ends_at = math.inf  # on our clock: once it was asked to stop, until when it may tidy up
        self.prompts = 0
        self.failed = ""
        self.answer: str | None = None  # what was asked for was found to be
        self.exit_code: int | None = None
        self.is_stopping = False  # the guard has heard the wish and signalled; it looks for what is left
        self.endings: dict[str, str] = {}  # stopped, lost, expired -> "gone", or what is left
        self.changed = asyncio.Event()
        self.is_closed = False
        self.was_lost = False  # closed because the connection broke
        self._ended: set[Stream] = set()

    @property
    def is_over(self) -> bool:
        """Nothing more of the command will come: its guard said so on both streams, or the channel is gone."""
        return self.is_closed or len(self._ended) == 2

    @property
    def stderr_may_be_cut(self) -> bool:
        """Whether the channel went away before its guard had said that all of stderr had come."""
        return self.is_closed and "stderr" not in self._ended

    @property
    def early_text(self) -> str:
        """What came instead of a hello, for the operator to see."""
        text = (self.chatter or self._early).decode("utf-8", "replace").replace(PASSWORD_PROMPT.decode(), "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:200] if lines else ""

    # -- what asyncssh calls ------------------------------------------------------------------------------------------

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        stream: Stream = "stderr" if datatype == asyncssh.EXTENDED_DATA_STDERR else "stdout"
        if stream in self._lines:
            self._take(stream, data)
        elif stream == "stderr":
            self._hear_chatter(data)
        else:
            self._look_for_hello(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed, self.was_lost = True, exc is not None
        for stream, lines in self._lines.items():
            self._put(stream, lines.rest())
        self._wake()

    # -- what the connector calls -------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """To the reader, or to the guard. Does nothing once the channel is gone."""
        if self._channel is not None and not self._channel.is_closing():
            try:
                self._channel.write(data)
            except (BrokenPipeError, OSError, asyncssh.Error):
                self._channel.abort()

    def begin(self, script: bytes) -> None:
        """Send the script: from here on what comes is the command's, but for the guard's own lines."""
        self._lines = {"stdout": OwnLines(self._nonce), "stderr": OwnLines(self._nonce)}
        self.send(script)

    def stop(self, grace_seconds: float) -> None:
        self.grace_ends_at = time.monotonic() + grace_seconds
        self.send(b"stop %d\n" % round(grace_seconds * 100))

    def renew(self, right: Right) -> None:
        self.send(b"until %d %d\n" % (right.clock, right.remaining))

    async def feed(self, data: bytes) -> None:
        """Send standard input, as fast as the command takes it."""
        for start in range(0, len(data), BLOCK_BYTES):
            await self._room.acquire()
            block = data[start : start + BLOCK_BYTES]
            self.send(b"data %d\n" % len(block) + block)

    async def deliver(self, sink: OutputSink) -> None:
        """Give the output to the sink until it is over. Whatever the sink raises comes out here."""
        while True:
            while self._queue:
                stream, data = self._queue.popleft()
                self._queued_bytes -= len(data)
                waiting = sink.write(stream, data)
                if waiting is not None:
                    await waiting
                if self._is_paused and self._queued_bytes < _QUEUE_BYTES // 2:
                    self._is_paused = False
                    self._channel.resume_reading()
            if self.is_over:
                return
            self._news.clear()
            await self._news.wait()

    async def wait_for_change(self) -> None:
        """Return at the next news of the guard, or at the end. Look first, then wait."""
        await self.changed.wait()
        self.changed.clear()

    def close(self) -> None:
        """Give the channel up. What of the command still runs, its guard ends at once."""
        if self._channel is not None:
            self._channel.abort()

    # -- taking apart what comes --------------------------------------------------------------------------------------

    def _hear_chatter(self, data: bytes) -> None:
        before = self.chatter.count(PASSWORD_PROMPT)
        self.chatter = (self.chatter + data)[-_CHATTER_BYTES:]
        self.prompts += max(0, self.chatter.count(PASSWORD_PROMPT) - before)
        self._wake()

    def _look_for_hello(self, data: bytes) -> None:
        """What a login shell prints of its own accord comes before it, and is not the command's."""
        self._early = self._early[-_CHATTER_BYTES:] + data
        begin = self._early.find(HELLO)
        end = self._early.find(b"\n", begin) if begin >= 0 else -1
        if self.clock is None and end >= 0:
            self.clock = _hundredths(self._early[begin + len(HELLO) : end])
            self.greeted_at = asyncio.get_running_loop().time()
        self._wake()

    def _take(self, stream: Stream, data: bytes) -> None:
        output, said = self._lines[stream].feed(data)
        if stream not in self._ended:
            for piece in output:
                self._put(stream, piece)
        for line in said:
            self._hear(stream, line)

    def _put(self, stream: Stream, data: bytes) -> None:
        if not data:
            return
        self._queue.append((stream, data))
        self._queued_bytes += len(data)
        if self._queued_bytes >= _QUEUE_BYTES and not self._is_paused and not self.is_closed:
            self._is_paused = True
            self._channel.pause_reading()
        self._news.set()

    def _hear(self, stream: Stream, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "fed":
            self._room.release()
            return
        if word == "failed":
            self.failed = rest
        elif word == "stopping":
            self.is_stopping = True
        elif word in ("stopped", "lost", "expired"):
            self.endings[word] = rest
        elif word == "exit":
            self.exit_code = int(rest) if rest.isdecimal() else None
            self._ended.add("stdout")
        elif word:
            self.answer = line
            self._ended = {"stdout", "stderr"}
        elif stream == "stderr":
            self._ended.add("stderr")
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self.changed.set()


def _hundredths(reading: bytes) -> int:
    """Of "12345.67", or of whole seconds."""
    whole, _, part = reading.strip().partition(b".")
    if not whole.isdigit():
        return 0
    return int(whole) * 100 + (int(part[:2].ljust(2, b"0")) if part[:2].isdigit() else 0)
