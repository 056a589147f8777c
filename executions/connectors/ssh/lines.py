"""Tells the guard's own lines from the output of the command, which share one stream."""

from __future__ import annotations


class OwnLines:
    """Takes a stream apart. A line of ours begins with a nonce that the command cannot know, and ends with its line."""

    def __init__(self, nonce: bytes) -> None:
        self._nonce = nonce
        self._held = b""

    def feed(self, data: bytes) -> tuple[list[bytes], list[str]]:
        """Return what is output, in pieces, and what the guard says."""
        output: list[bytes] = []
        said: list[str] = []
        data = self._held + data
        self._held = b""
        while data:
            begin = data.find(self._nonce)
            if begin < 0:
                kept = self._beginning_at_the_end(data)
                self._held = data[len(data) - kept :]
                data = data[: len(data) - kept]
                break
            end = data.find(b"\n", begin)
            if end < 0:
                self._held, data = data[begin:], data[:begin]
                break
            if begin:
                output.append(data[:begin])
            said.append(data[begin + len(self._nonce) : end].decode("ascii", "replace").strip())
            data = data[end + 1 :]
        if data:
            output.append(data)
        return output, said

    def rest(self) -> bytes:
        """What was held back because it could have become a line of ours, and will not any more."""
        held, self._held = self._held, b""
        return held

    def _beginning_at_the_end(self, data: bytes) -> int:
        for length in range(min(len(self._nonce) - 1, len(data)), 0, -1):
            if data.endswith(self._nonce[:length]):
                return length
        return 0
