"""Values that are assigned to a name; the last byte of the match is the first of the value."""

from __future__ import annotations

import re
from typing import Any

from safety.masking import words
from safety.masking.readers.quoting import LOOKED_AT, QUOTE_ON_A_PAGE, Span, value_at

_PROGRAMS = (b"chpasswd", b"htpasswd", b"kpasswd", b"ldappasswd")
_PATH = re.compile(rb"(?:/|~|[A-Za-z]:\\)")
_BARE_PASS = re.compile(rb"(?i)(?:\A|[^\w.-])pass\Z")
_SHORT_NUMBER = re.compile(rb"[0-9]{1,5}(?:\.[0-9]+)?(?:ms|s|m|h|%|MB|KB)?\Z")
_WEAK = re.compile(rb"(?i)(?:session(?:_?key)?|auth(?:code)?|signature)\Z")


def _head(text: bytes, found: Any) -> tuple[bytes, bytes, bool]:
    """Name, sign between name and value (b"" for none), and whether blanks stand before the value."""
    head = QUOTE_ON_A_PAGE.sub(b"", text[found.start() : found.end() - 1])
    bare = head.rstrip(b" \t")
    spaced = len(bare) < len(head)
    sign = b""
    if bare[-1:] in (b"=", b":", b">"):
        sign = b"=" if bare.endswith(b"=>") else bare[-1:]
        bare = bare.rstrip(b"=:>")
    return bare.rstrip(b" \t\"'\\]["), sign, spaced


def assigned_password(text: bytes, found: Any, line_end: int) -> Span | None:
    """The value after a password's name."""
    name, sign, spaced = _head(text, found)
    at = found.end() - 1
    if text[at : at + 1] == b"[" and text[at + 1 : at + 2] in (b'"', b"'"):
        at += 1
    start, end, quoted = value_at(text, at, line_end)
    value = text[start:end]
    if not value or words.is_innocent(value[:LOOKED_AT]) or text[at] in b"{[":
        return None
    if sign and not _is_assignment(text, found, name, sign, value):
        return None
    if len(value) >= LOOKED_AT:
        return start, end
    if quoted:
        return None if words.is_prose(value[:LOOKED_AT]) else (start, end)
    if name.lower().endswith(b"pwd") and _PATH.match(value):
        return None
    if not sign:
        return _after_an_option(text, found, name, (start, end))
    if _BARE_PASS.search(name):
        return (start, end) if sign == b"=" and not _SHORT_NUMBER.match(value) else None
    if sign == b":" and spaced and not (words.is_odd(value) or _is_last(text, end, line_end)):
        return None
    return start, end


def _is_assignment(text: bytes, found: Any, name: bytes, sign: bytes, value: bytes) -> bool:
    """Whether a sign behind a name assigns to it: not a comparison, the name of a program before its message, a `>`
    that closes no tag."""
    if value[:1] in (b"=", b"(") or text[found.start() - 2 : found.start() + len(name)].lower() in _PROGRAMS:
        return False
    return sign != b">" or b"<" in text[max(0, found.start() - 60) : found.end()]


def _after_an_option(text: bytes, found: Any, name: bytes, span: Span) -> Span | None:
    value = text[span[0] : span[1]]
    if value[:1] == b"-" or words.is_word_of_help(value):
        return None
    lowered = name.lower()
    if lowered.endswith((b" is", b" was", b" to")):
        return span if len(value) >= 4 and words.is_odd(value) else None
    return span


def _is_last(text: bytes, at: int, line_end: int) -> bool:
    """Whether nothing but closing signs, or another name and value, follows on the line."""
    rest = text[at : min(line_end, at + 80)].strip(b" \t\r\"'`,;)}]")
    return not rest or b"=" in rest.split(None, 1)[0]


def assigned_token(text: bytes, found: Any, line_end: int) -> Span | None:
    """The value after the name of a token, secret, key: names that sentences have, too, so the value must fit."""
    name, sign, spaced = _head(text, found)
    at = found.end() - 1
    start, end, quoted = value_at(text, at, line_end)
    value = text[start:end]
    if not value or words.is_innocent(value[:LOOKED_AT]) or text[at] in b"{[":
        return None
    if sign and not _is_assignment(text, found, name, sign, value):
        return None
    if not sign:
        if value[:1] == b"-" or words.is_word_of_help(value):
            return None
        return (start, end) if quoted or name.lstrip(b" \t\"'[").startswith(b"-") else None
    if len(value) >= LOOKED_AT:
        return start, end
    if _WEAK.search(name):
        return (start, end) if words.looks_random(value, least=16) else None
    if quoted:
        is_word = value.isalpha() and value.islower() and len(value) <= 16 and not _is_last(text, end + 1, line_end)
        return None if is_word or value[:LOOKED_AT].count(b" ") >= 2 or len(value) < 3 else (start, end)
    if not spaced or sign == b"=":
        return None if len(value) < 3 or _SHORT_NUMBER.match(value) or _PATH.match(value) else (start, end)
    if words.looks_random(value, least=6) or (value.isdigit() and len(value) >= 6):
        return start, end
    long_enough = len(value) >= 12 and _is_last(text, end, line_end) and not words.is_prose(value)
    return (start, end) if long_enough and words.is_odd(value) and not _PATH.match(value) else None
