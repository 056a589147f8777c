"""Passwords in command lines."""

from __future__ import annotations

import re
from typing import Any

from safety.masking import words
from safety.masking.readers.quoting import Span, value_at

_ECHO = re.compile(rb"echo[ \t]+(?:-n[ \t]+)?")


def argument(text: bytes, found: Any, line_end: int) -> Span | None:
    """An argument of a command line: in quotes, or up to the next blank; also one of a list of arguments."""
    at = found.end() - 1
    head = text[found.start() : at]
    for sign in (b'"', b"'"):
        opened = head.rfind(sign)
        if opened >= 0 and head[:opened].count(sign) % 2 == 0 and not head[opened + 1 :].startswith((b"-", b" ", b",")):
            closing = text.find(sign, at, line_end)
            return (at, closing) if closing > at else None
    start, end, _ = value_at(text, at, line_end)
    value = text[start:end]
    return None if not value or words.is_innocent(value) or words.is_word_of_help(value) else (start, end)


def command_password(text: bytes, found: Any, line_end: int) -> Span | None:
    """The password in a command line of another shape."""
    head = text[found.start() : found.end()]
    if head[:4] == b"echo":
        start, end, _ = value_at(text, found.start() + len(_ECHO.match(head).group()), line_end)  # type: ignore[union-attr]
        end = min(end, found.end())
        name, colon, _ = text[start:end].partition(b":")
        if b"chpasswd" in head and colon:
            start += len(name) + 1
        return None if words.is_innocent(text[start:end]) else (start, end)
    return argument(text, found, line_end)
