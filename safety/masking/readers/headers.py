"""Credentials in headers, and behind the name of a scheme alone."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from safety.masking import words
from safety.masking.readers.quoting import LOOKED_AT, QUOTES, UNQUOTED, Span, value_at

_VERSION = re.compile(rb"v?[0-9]+(?:\.[0-9]+)+|[A-Z]+/[0-9]")
_SCHEME = re.compile(
    rb"(?i)(?:bearer|basic|token|digest|negotiate|api-?key|[A-Za-z][\w-]{0,30}(?=[ \t]{1,8}\S))[ \t]{1,8}"
)


def header(text: bytes, found: Any, line_end: int) -> Span | None:
    """The credential of a header, or after its scheme alone."""
    head = text[found.start() : found.end()].lower()
    if b"cookie" in head:
        return _cookie(text, found, line_end)
    if b"authorization" in head:
        return _authorization(text, found, line_end)
    if head[:2] == b"x-" or b"-token" in head:
        start, end, _ = value_at(text, found.end() - 1, line_end)
        return None if end - start < 3 or words.is_innocent(text[start:end]) else (start, end)
    return _after_a_scheme(text, found, line_end)


def _end_of_header(text: bytes, found: Any, line_end: int) -> tuple[int, int]:
    """Where a header's value begins and ends: at the quote around the value or around the header, or with the line."""
    at = found.end() - 1
    start, end, quoted = value_at(text, at, line_end)
    if quoted:
        return start, end
    before = text[found.start() - 1 : found.start()]
    if before and before in QUOTES:
        closing = text.find(before, at, line_end)
        if closing >= 0:
            return at, closing
    return at, line_end


def _authorization(text: bytes, found: Any, line_end: int) -> Span | None:
    start, end = _end_of_header(text, found, line_end)
    if words.is_innocent(text[start : min(end, start + LOOKED_AT)]):
        return None
    scheme = _SCHEME.match(text, start, end)
    if scheme is not None:
        start = scheme.end()
        if scheme.group().strip().lower() in (b"bearer", b"basic", b"token", b"negotiate"):
            word = UNQUOTED.match(text, start, end)
            end = word.end() if word else end
    else:
        word = UNQUOTED.match(text, start, end)
        end = word.end() if word else end
    value = text[start : min(end, start + LOOKED_AT)].rstrip()
    if len(value) < 3 or words.is_innocent(value) or (scheme is None and not words.is_odd(value)):
        return None
    if scheme is not None and value[:1].islower() and not words.is_odd(value.split(None, 1)[0]) and b"=" not in value:
        return None
    return start, max(start + len(value), len(text[start:end].rstrip()) + start)


def _cookie(text: bytes, found: Any, line_end: int) -> Span | None:
    start, end = _end_of_header(text, found, line_end)
    equals = text.find(b"=", start, min(end, start + LOOKED_AT))
    if (
        equals <= start
        or b" " in text[start:equals]
        or words.is_innocent(text[equals + 1 : min(end, equals + LOOKED_AT)])
    ):
        return None
    if text[found.start() : found.start() + 3].lower() == b"set":
        semicolon = text.find(b";", start, end)
        end = semicolon if semicolon >= 0 else end
    end = start + len(text[start:end].rstrip())
    return (equals + 1 if text.find(b";", start, end) < 0 else start), end


def _after_a_scheme(text: bytes, found: Any, line_end: int) -> Span | None:
    scheme = text[found.start() : found.start() + 5].lower()
    start = text.index(b" ", found.start(), found.end()) if b" " in found.group() else text.index(b"\t", found.start())
    while text[start] in b" \t":
        start += 1
    end = start
    while end < line_end and (text[end : end + 1].isalnum() or text[end] in b"+/_.~=-"):
        end += 1
    value = text[start:end].rstrip(b".")
    if text[found.start() - 1 : found.start()] in (b"/", b".", b"=", b"_", b"-") or b"=" in value.rstrip(b"="):
        return None
    if _VERSION.match(value):
        return None
    span = (start, start + len(value))
    if words.is_innocent(value) or (text[end : end + 1] in (b'"', b"'") and value[-1:] == b"="):
        return None
    if scheme == b"basic":
        return span if _is_user_and_password(value) else None
    least = 8 if scheme == b"beare" else 16
    return span if words.looks_random(value, least=least) or (scheme == b"beare" and len(value) >= 24) else None


def _is_user_and_password(value: bytes) -> bool:
    try:
        decoded = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return b":" in decoded and all(sign >= 32 for sign in decoded)
