"""Private keys over many lines: where the block that began goes on, and where it ends."""

from __future__ import annotations

import re
from typing import Any

_END = b"-----END"
# Inside a JSON text or a variable the lines of a key are joined by an escaped line end.
_JOINED = re.compile(rb"(?:[0-9A-Za-z+/=]|\\{1,4}[nrt]|[ \t])*+")
_HEADER = re.compile(rb"[ \t>|#*]*+(?:Proc-Type|DEK-Info|Comment|Version|Hash|Charset|MessageID|Private-MAC)[ \t]*+:")
_BODY = re.compile(rb"[ \t>|#*]*+[\"']?+(?:[0-9A-Za-z+/=]|\\{1,4}[nrt])*+[\"']?+[ \t,\\]*+\Z")
# A line of the key behind what a log writes before each line.
_BEHIND_A_PREFIX = re.compile(rb"[\s:>|\]]([0-9A-Za-z+/]{32,}={0,2})[ \t\"',]*\Z")


def end_of_key(text: bytes, at: int) -> tuple[int, bool]:
    """From behind a BEGIN line, or from the beginning of a line within the key: where the key ends.

    The second is False when the text ended before the key did: it may go on in what comes next.
    """
    while True:
        line_end = text.find(b"\n", at)
        stop = len(text) if line_end < 0 else line_end
        marker = text.find(_END, at, stop)
        if marker >= 0:
            return marker, True
        line = text[at:stop].rstrip(b"\r")
        if not is_part(line):
            return at, True
        if line_end < 0:
            return len(text), False
        at = line_end + 1
        if at == len(text):
            return at, False


def is_part(line: bytes) -> bool:
    """Whether a line can be one of a key."""
    return bool(_BODY.match(line) or _HEADER.match(line) or _BEHIND_A_PREFIX.search(line[-200:]))


def rest_of_first_line(text: bytes, found: Any, line_end: int) -> tuple[int, bool]:
    """Where, on the line of BEGIN, the key ends, and whether that line holds all of it."""
    at = found.end()
    marker = text.find(b"-----", at, line_end)  # the next one, whatever it is: so no text is looked through twice
    if marker >= 0:
        if text.startswith(_END, marker):
            return marker, True
        return at, True
    joined = _JOINED.match(text, at, line_end)
    end = joined.end() if joined else at
    return end, bool(text[end:line_end].strip(b"\r\"', \\"))
