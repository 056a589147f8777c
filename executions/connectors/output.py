"""From the bytes of a command to the chunks of text that are stored and shown."""

from __future__ import annotations

import asyncio
import codecs
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from executions.connectors.base import DEFAULT_MAX_OUTPUT_BYTES, Stream

FLUSH_SECONDS = 0.05  # a person does not see the difference, and a busy command costs 20 chunks a second, not 1,000
PARTIAL_LINE_SECONDS = 0.2  # a prompt or a progress dot must appear, but not before the line had its chance
CHUNK_BYTES = 32 * 1024
KEPT_STDOUT_CHARACTERS = 1024 * 1024
NUL_SHOWN_AS = "\u2400"  # PostgreSQL's text cannot hold a NUL; the picture of one can be seen

Emit = Callable[[Stream, str, int], None]


class Transformer(Protocol):
    """Changes text on its way: masks secrets. It may hold text back that could be the start of something, and gives it
    out with a later feed of the same stream, with finish, or, as far as it then can, with release."""

    def feed(self, stream: Stream, text: str) -> str: ...

    def is_holding(self, stream: Stream) -> bool: ...

    def release(self, stream: Stream) -> str: ...

    def finish(self, stream: Stream) -> str: ...


@dataclass(slots=True)
class _Piece:
    stream: Stream
    parts: list[str]
    byte_count: int


class OutputCollector:
    """An OutputSink that decodes, limits, gathers and hands on the output of one invocation.

    `emit(stream, text, byte_count)` gets chunks in the order of the output: every 50 ms while there is some, or as soon
    as there are 32 KiB; whole lines where possible, an unfinished line after 200 ms or before the other stream goes on.
    `byte_count` is how many bytes of the command's output a chunk stands for; together they are `kept_bytes`, but
    for what a transformer swallowed. An exception of `emit` comes out of the next `write`, or of `finish`.
    What a transformer holds back of an unfinished line is asked of it after the same 200 ms, and before the other
    stream goes on. `wait_for_room`, if given, is awaited after something was emitted: it is how a slow store slows down
    the command.

    Bytes that are no UTF-8 become U+FFFD, NUL becomes U+2400. After `max_bytes` over both streams output is counted
    and dropped, and one line at the end says so. To be used on one event loop; `finish` must be called at the end.
    """

    def __init__(
        self,
        emit: Emit,
        *,
        max_bytes: int = DEFAULT_MAX_OUTPUT_BYTES,
        wait_for_room: Callable[[], Awaitable[None]] | None = None,
        transformer: Transformer | None = None,
        keep_stdout: int = KEPT_STDOUT_CHARACTERS,
        keep_stderr: int = 0,
    ) -> None:
        """`keep_stdout`: characters of stdout that stay in memory, half of them the first; `keep_stderr` of stderr."""
        self._emit = emit
        self._max_bytes = max_bytes
        self._wait_for_room = wait_for_room
        self._transformer = transformer
        self._decoders: dict[Stream, codecs.IncrementalDecoder] = {}
        self._pieces: deque[_Piece] = deque()
        self._pending_bytes = 0
        self._partial_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._owed: dict[Stream, int] = {}  # bytes of which no text has come out yet
        self._failure: Exception | None = None
        self._emitted = False
        self._last_character = "\n"
        self._truncated_stream: Stream | None = None
        self._kept: dict[Stream, _HeadAndTail] = {"stdout": _HeadAndTail(keep_stdout)}
        if keep_stderr:
            self._kept["stderr"] = _HeadAndTail(keep_stderr)
        self._shown = _HeadAndTail(keep_stdout) if transformer is not None else self._kept["stdout"]
        self._held_since: dict[Stream, float] = {}
        self._is_finished = False
        self.kept_bytes = 0
        self.dropped_bytes = 0

    @property
    def truncated(self) -> bool:
        return self._truncated_stream is not None

    @property
    def total_bytes(self) -> int:
        """What the command wrote, kept or not."""
        return self.kept_bytes + self.dropped_bytes

    def stdout_text(self) -> str:
        """Standard output as the command wrote it, for this process's memory only: secrets in it are not masked.

        Of more than `keep_stdout` characters the first and the last half, with a line between that says what is
        missing.
        """
        return self._kept["stdout"].text()

    def stderr_text(self) -> str:
        """The same of standard error; nothing unless `keep_stderr` was given."""
        return self._kept["stderr"].text() if "stderr" in self._kept else ""

    def shown_stdout(self) -> str:
        """Standard output as it was emitted, so with secrets masked; the same parts of it."""
        return self._shown.text()

    async def write(self, stream: Stream, data: bytes) -> None:
        """Take output. Returns when there is room for more. Writing after `finish` is a bug."""
        if self._is_finished:
            raise ValueError("Output was written after the collector was finished.")
        self._raise_failure()
        room = self._max_bytes - self.kept_bytes
        if len(data) > room:
            self.dropped_bytes += len(data) - room
            if self._truncated_stream is None:
                self._truncated_stream = stream
            data = data[:room]
        for start in range(0, len(data), CHUNK_BYTES):
            self._take(stream, data[start : start + CHUNK_BYTES])
        if self._emitted and self._wait_for_room is not None:
            self._emitted = False
            await self._wait_for_room()

    def finish(self) -> None:
        """Emit everything that is left, and the mark if output was dropped. Calling it again does nothing."""
        if self._is_finished:
            return
        self._is_finished = True
        if self._timer is not None:
            self._timer.cancel()
        for stream, decoder in self._decoders.items():
            byte_count, text = len(decoder.getstate()[0]), ""
            if self.truncated:  # a character that the limit cut in two is not broken output, it is just not kept
                self.kept_bytes -= byte_count
                self.dropped_bytes += byte_count
                byte_count = 0
            else:
                text = decoder.decode(b"", final=True)
            self._keep(stream, text)
            if self._transformer is not None:
                text = self._transformer.feed(stream, text) + self._transformer.finish(stream)
            if text:
                self._append(stream, text, byte_count)
        self._raise_failure()
        self._flush(whole_lines=False)
        if self._truncated_stream is not None:
            mark = f"[output truncated after {_size(self._max_bytes)}: {self.dropped_bytes} bytes were not kept]\n"
            self._emit(self._truncated_stream, mark if self._last_character == "\n" else "\n" + mark, 0)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _take(self, stream: Stream, data: bytes) -> None:
        self.kept_bytes += len(data)
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        byte_count = len(decoder.getstate()[0]) + len(data)
        text = decoder.decode(data)
        byte_count -= len(decoder.getstate()[0])  # the beginning of a character counts when the character is whole
        if "\0" in text:
            text = text.replace("\0", NUL_SHOWN_AS)
        self._keep(stream, text)
        if self._transformer is not None:
            text = self._transformed(self._transformer, stream, text)
        self._append(stream, text, byte_count)
        if self._pending_bytes >= CHUNK_BYTES:
            self._flush(whole_lines=True)
        self._set_timer()

    def _keep(self, stream: Stream, text: str) -> None:
        kept = self._kept.get(stream)
        if kept is not None:
            kept.append(text)

    def _transformed(self, transformer: Transformer, stream: Stream, text: str) -> str:
        for other in [other for other in self._held_since if other != stream]:
            self._release(transformer, other)  # so that the two streams stay in the order in which they came
        text = transformer.feed(stream, text)
        if not transformer.is_holding(stream):
            self._held_since.pop(stream, None)
        elif stream not in self._held_since:
            self._held_since[stream] = time.monotonic()
        return text

    def _release(self, transformer: Transformer, stream: Stream) -> None:
        """Take what can be had of an unfinished line. What stays back then waits for the rest of the line."""
        del self._held_since[stream]
        text = transformer.release(stream)
        if text:
            self._append(stream, text, 0)
            self._partial_since = self._partial_since or time.monotonic()

    def _append(self, stream: Stream, text: str, byte_count: int) -> None:
        self._pending_bytes += byte_count
        if self._pieces and self._pieces[-1].stream == stream:
            self._pieces[-1].parts.append(text)
            self._pieces[-1].byte_count += byte_count
        else:
            self._pieces.append(_Piece(stream, [text], byte_count))
        if not self._partial_since and text and not text.endswith("\n"):
            self._partial_since = time.monotonic()

    def _set_timer(self) -> None:
        if (self._pieces or self._held_since) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = time.monotonic()
        is_old = bool(self._partial_since) and now - self._partial_since >= PARTIAL_LINE_SECONDS
        try:
            for stream, since in list(self._held_since.items()):
                if self._transformer is not None and now - since >= PARTIAL_LINE_SECONDS:
                    self._release(self._transformer, stream)
                    is_old = True
            self._flush(whole_lines=not is_old)
        except Exception as error:  # nobody waits here: whoever writes next is told
            self._failure = error
        else:
            self._set_timer()

    def _flush(self, *, whole_lines: bool) -> None:
        """Emit what is there; with `whole_lines` the unfinished line at the very end stays, unless it is long."""
        self._pending_bytes = 0
        while self._pieces:
            piece = self._pieces.popleft()
            text, rest = "".join(piece.parts), ""
            if whole_lines and not self._pieces:
                end = text.rfind("\n") + 1
                if len(text) - end < CHUNK_BYTES:
                    text, rest = text[:end], text[end:]
            if not rest:
                self._emit_chunk(piece.stream, text, piece.byte_count)
                continue
            held = min(piece.byte_count, len(rest.encode())) if text else piece.byte_count
            self._pieces.append(_Piece(piece.stream, [rest], held))
            self._pending_bytes = held
            if text:
                self._partial_since = time.monotonic()
                self._emit_chunk(piece.stream, text, piece.byte_count - held)
            return
        self._partial_since = 0.0

    def _emit_chunk(self, stream: Stream, text: str, byte_count: int) -> None:
        byte_count += self._owed.pop(stream, 0)
        if not text:
            if byte_count:
                self._owed[stream] = byte_count
            return
        self._last_character = text[-1]
        if stream == "stdout" and self._transformer is not None:
            self._shown.append(text)
        self._emitted = True
        self._emit(stream, text, byte_count)


class _HeadAndTail:
    """The first and the last half of a text that may grow for ever."""

    def __init__(self, limit: int) -> None:
        self._head_room = limit // 2
        self._tail_room = limit - limit // 2
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._tail_length = 0
        self._lost = 0

    def append(self, text: str) -> None:
        if self._head_room:
            head, text = text[: self._head_room], text[self._head_room :]
            self._head.append(head)
            self._head_room -= len(head)
        if not text:
            return
        self._tail.append(text)
        self._tail_length += len(text)
        while self._tail_length - len(self._tail[0]) >= self._tail_room:
            gone = len(self._tail.popleft())
            self._tail_length -= gone
            self._lost += gone

    def text(self) -> str:
        tail = "".join(self._tail)
        lost = self._lost + max(0, len(tail) - self._tail_room)
        if not lost:
            return "".join(self._head) + tail
        tail = tail[-self._tail_room :] if self._tail_room else ""
        return "".join(self._head) + f"\n[{lost} characters were not kept in memory]\n" + tail


def _size(count: int) -> str:
    for unit, name in ((1024 * 1024, "MiB"), (1024, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} bytes"
