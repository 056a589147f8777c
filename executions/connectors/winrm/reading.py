"""The agent's own words at the beginning of standard output, told apart from what a program prints."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

LONGEST_BEGINNING = 65_536  # what does not begin within that much has no agent


@dataclass(frozen=True, slots=True)
class Refused:
    """The agent could not begin. why: `directory`, or `start-N` with the number of the Windows error."""

    why: str
    text: str


class Beginning:
    """Takes the agent's lines off the output: `MARK ready` first, and at once after it perhaps `MARK refused`.

    What a program prints begins after them and is passed on as it is. cmd.exe may print something of its own before
    (a command in AutoRun does): that is passed on too. The mark is random and new for each run, so none prints it by
    chance.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode() + b" "
        self._held = b""
        self._over = False
        self.is_ready = False
        self.refused: Refused | None = None

    def take(self, data: bytes) -> bytes:
        """Return what of the output so far is not the agent's and was not returned before."""
        if self._over:
            return data
        self._held += data
        passed_on = b""
        while not self._over:
            before, line = self._own_line()
            passed_on += before
            if line is None:
                break
            self._understand(line)
        if self._over or not self._may_be_ours():
            return passed_on + self.rest()
        return passed_on

    def rest(self) -> bytes:
        """Return what is held back; there is no more of the agent's in it, or no more output."""
        held, self._held = self._held, b""
        self._over = True
        return held

    def _own_line(self) -> tuple[bytes, bytes | None]:
        """Return what stands before the next line of the agent's, and that line; None while it is not whole."""
        at = self._held.find(self._mark)
        if at < 0 or (at > 0 and self.is_ready):
            return b"", None
        line, newline, rest = self._held[at:].partition(b"\n")
        if not newline:
            return b"", None
        before, self._held = self._held[:at], rest
        return before, line[len(self._mark) :].rstrip(b"\r")

    def _may_be_ours(self) -> bool:
        """Whether more output could make a line of the agent's out of what is held."""
        if len(self._held) > LONGEST_BEGINNING:
            return False
        if not self.is_ready or len(self._held) < len(self._mark):
            return not self.is_ready or self._mark.startswith(self._held)
        return self._held.startswith(self._mark)

    def _understand(self, line: bytes) -> None:
        words = line.decode("utf-8", "replace").split(" ")
        if words[0] == "ready" and not self.is_ready:
            self.is_ready = True
        elif words[0] == "refused" and len(words) == 3:
            self.refused = Refused(words[1], _text_of(words[2]))
            self._over = True


def _text_of(word: str) -> str:
    try:
        text = base64.b64decode(word, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
    return " ".join(text.split())[:500]
