"""Secrets whose values are known: each is looked for as it is and in every encoding in which programs print it."""

from __future__ import annotations

import base64
import html
import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus
from weakref import WeakValueDictionary

import re2
from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from safety.masking.patterns import options

# A shorter value would hide letters and numbers all over a log, and so its own place least of all.
SHORTEST_VALUE = 4
# What is left of a short value in Base64 or hexadecimal says nothing on its own.
SHORTEST_ENCODED = 6
_LOOKED_FOR = 8  # bytes of each form that the hint has: enough to be rare
# After so many letters programs begin a new line: base64 and MIME, openssl and PEM; and xxd.
_BASE64_LINES = (76, 64)
_HEX_LINES = (60,)
_MOST_LINES = (
    100  # of a longer value the lines alone would make too many expressions; as a whole it is found all the same
)
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")

Span = tuple[int, int]


class SecretValues:
    """The values that are not to be seen, with all their encodings. Its repr says only how many there are.

    Values below four characters are not looked for: every fourth word would be hidden. To be had from `of`.
    """

    __slots__ = ("__weakref__", "_automaton", "_hints", "_lock", "_starts", "count", "encoded", "has_lines", "needles")

    def __init__(self, values: Iterable[str]) -> None:
        needles: dict[bytes, bool] = {}
        kept = sorted({value for value in values if len(value) >= SHORTEST_VALUE})
        for value in kept:
            for needle, is_base64 in _forms(value):
                needles[needle] = needles.get(needle, False) or is_base64
        self.count = len(kept)
        self.needles: tuple[bytes, ...] = tuple(sorted(needles))
        self.encoded = tuple(needles[needle] for needle in self.needles)
        self.has_lines = any(b"\n" in needle for needle in self.needles)
        self._automaton: BytesAhoCorasick | None = None
        self._starts: BytesAhoCorasick | None = None
        self._hints: dict[bytes, Any] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, values: Iterable[str]) -> SecretValues:
        """The object for these values: equal values share one for as long as somebody holds it."""
        key = tuple(sorted({value for value in values if len(value) >= SHORTEST_VALUE}))
        if not key:
            return NOTHING
        known = _known.get(hash(key))
        if known is not None and known.matches(key):
            return known
        made = cls(key)
        _known[hash(key)] = made
        return made

    def matches(self, key: tuple[str, ...]) -> bool:
        """Whether it was made of these values."""
        return self.count == len(key) and all(_bytes(value) in self.needles for value in key)

    def __repr__(self) -> str:
        return f"<SecretValues: {self.count}>"

    def __bool__(self) -> bool:
        return bool(self.needles)

    def __reduce__(self) -> Any:
        raise TypeError("Secret values are not to be stored or sent.")

    def hint(self, patterns: bytes) -> Any:
        """An expression that is true wherever one of `patterns`, or the beginning of one of these values, is."""
        known = self._hints.get(patterns)
        if known is None:
            beginnings = sorted({needle[:_LOOKED_FOR] for needle in self.needles})
            either = b"|".join(re2.escape(beginning) for beginning in beginnings)
            known = re2.compile(b"(?m)" + (patterns + b"|" if patterns else b"") + either, options(groups=False))
            re2.purge()  # its cache would keep the values after everybody else has forgotten them
            self._hints = {patterns: known}
        return known

    def find(self, text: bytes, start: int, end: int) -> list[Span]:
        """The spans of all values between `start` and `end`."""
        if not self.needles:
            return []
        if self._automaton is None:
            with self._lock:
                self._automaton = self._automaton or BytesAhoCorasick(
                    list(self.needles), MatchKind.LeftmostLongest, Implementation.ContiguousNFA
                )
        part = text if (start, end) == (0, len(text)) else text[start:end]
        spans = []
        for which, first, last in self._automaton.find_matches_as_indexes(part):
            if self.encoded[which]:  # the letters beside it carry bits of the value, too
                first, last = _widen(part, first, last)
            spans.append((start + first, start + last))
        return spans

    def unfinished(self, text: bytes) -> int:
        """How many bytes at the end of a text could be the beginning of a value whose rest is still to come."""
        longest = max(map(len, self.needles), default=1) - 1
        tail = text[-longest:] if longest else b""
        for at in self._candidates(tail):
            rest = tail[at:]
            if any(needle.startswith(rest) and len(needle) > len(rest) for needle in self.needles):
                return len(rest)
        return 0

    def _candidates(self, tail: bytes) -> Iterator[int]:
        """Where in a tail a value may begin, in order."""
        if self._starts is None:
            with self._lock:
                self._starts = self._starts or BytesAhoCorasick(
                    sorted({needle[:SHORTEST_VALUE] for needle in self.needles})
                )
        for _, start, _ in self._starts.find_matches_as_indexes(tail, overlapping=True):
            yield start
        yield from range(max(0, len(tail) - SHORTEST_VALUE + 1), len(tail))


def _widen(text: bytes, first: int, last: int) -> Span:
    low, high = max(0, first - 2), min(len(text), last + 4)
    while first > low and text[first - 1] in _BASE64:
        first -= 1
    while last < high and text[last] in _BASE64:
        last += 1
    return first, last


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _forms(value: str) -> Iterator[tuple[bytes, bool]]:
    """A value in all its forms, and whether that form is Base64."""
    yield _bytes(value), False
    lines = value.splitlines()
    if len(lines) > 1:
        yield _bytes("\r\n".join(lines)), False
        yield _bytes("\n".join(lines)), False
        for line in lines:
            if len(line.strip()) >= 2 * SHORTEST_VALUE:
                yield _bytes(line.strip()), False
    stripped = value.strip()
    if stripped != value and len(stripped) >= SHORTEST_VALUE:
        yield _bytes(stripped), False
    for text in dict.fromkeys((value, stripped, *(["\n".join(lines)] if len(lines) > 1 else []))):
        if len(text) >= SHORTEST_VALUE:
            for form in _escaped(text):
                yield _bytes(form), False
            for encoded in _encoded(text):
                yield encoded, True


def _escaped(text: str) -> Iterator[str]:
    as_json = json.dumps(text)[1:-1]
    yield as_json
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(as_json)[1:-1]
    yield as_json.replace("/", "\\/")
    yield repr(text)[1:-1]
    yield text.replace("'", "'\\''")
    yield text.replace("'", "'\"'\"'")
    yield html.escape(text)
    yield html.escape(text).replace("&#x27;", "&#39;")
    for coded in (
        quote(text, safe="", errors="replace"),
        quote(text, errors="replace"),
        quote_plus(text, errors="replace"),
    ):
        yield coded
        yield _lower_escapes(coded)
    yield quote(text, safe="!~*'()", errors="replace")  # as browsers' scripts do it


def _lower_escapes(coded: str) -> str:
    parts = coded.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


def _encoded(text: str) -> Iterator[bytes]:
    """Base64 at each of the three places where a value can begin in a longer text, and hexadecimal."""
    raw = _bytes(text)
    if len(raw.hex()) >= SHORTEST_ENCODED:
        yield raw.hex().encode()
        yield raw.hex().upper().encode()
        yield from _in_lines(raw.hex().encode(), _HEX_LINES)
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw)
        # the letters that this value alone decides
        sure = whole[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        if len(sure) >= SHORTEST_ENCODED - 1:
            yield sure
            yield sure.translate(bytes.maketrans(b"+/", b"-_"))
            if not before:
                yield from _in_lines(sure, _BASE64_LINES)


def _in_lines(letters: bytes, widths: tuple[int, ...]) -> Iterator[bytes]:
    """What is longer than a line, in lines: all of them, and each for itself, where something stands between them."""
    for width in widths:
        lines = [letters[at : at + width] for at in range(0, len(letters), width)]
        if len(lines) > 1:
            yield b"\n".join(lines)
            if len(lines) <= _MOST_LINES:
                yield from (line for line in lines if len(line) >= SHORTEST_ENCODED)


_known: WeakValueDictionary[int, SecretValues] = WeakValueDictionary()
NOTHING = SecretValues(())
