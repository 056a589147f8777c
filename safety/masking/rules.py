"""The patterns that are switched on, compiled: where in a text are secrets?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import re2
from ahocorasick_rs import BytesAhoCorasick

from safety.masking import pem
from safety.masking.patterns import Pattern, options
from safety.masking.values import NOTHING, SecretValues

Span = tuple[int, int]

PRIVATE_KEY = "private_key"


class Rules:
    """A set of patterns, and how to find what they and a set of values match.

    One expression that is true wherever any of them could match goes over the text first, at the speed of RE2; only the
    lines where it finds something are looked at closely. Objects are immutable but for a cache, and shared by threads.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        """Raises re2.error when an expression is none."""
        self.patterns = tuple(patterns)
        self._masks_keys = any(pattern.name == PRIVATE_KEY for pattern in patterns)
        self._exact = [(pattern, _compiled(pattern.expression)) for pattern in patterns]
        self._without_anchors = frozenset(number for number, pattern in enumerate(patterns) if not pattern.anchors)
        anchored = [(anchor, number) for number, pattern in enumerate(patterns) for anchor in pattern.anchors]
        self._anchored = [number for _, number in anchored]
        self._anchors = BytesAhoCorasick([anchor for anchor, _ in anchored]) if anchored else None
        self._any = _either(patterns)
        self._hint_of_all = _compiled(self._any, groups=False) if patterns else None
        without_anchors = _either([pattern for pattern in patterns if not pattern.anchors])
        self._hint_of_others = _compiled(without_anchors, groups=False) if without_anchors else None

    def find(self, text: bytes, values: SecretValues = NOTHING, *, in_key: bool = False) -> tuple[list[Span], bool]:
        """Return the spans of the secrets in a text, in order and apart, and whether a private key goes on behind it.

        `in_key`: the text begins within a private key.
        """
        spans: list[Span] = []
        at = 0
        if in_key and self._masks_keys:
            at, is_over = pem.end_of_key(text, 0)
            if at:
                spans.append((0, at))
            if not is_over:
                return spans, True
        if values.has_lines:
            spans += values.find(text, 0, len(text))
        hint = self._hint(values)
        key_goes_on = False
        while hint is not None and (hit := hint.search(text, at)) is not None:
            start, end = hit.span()
            line = text.rfind(b"\n", at, start + 1) + 1 or at
            line_end = text.find(b"\n", max(end - 1, line))
            line_end = len(text) if line_end < 0 else line_end
            if not values.has_lines:
                spans += values.find(text, line, line_end)
            found, at, key_goes_on = self._in_line(text, line, line_end)
            spans += found
        return _apart(spans, text), key_goes_on

    def _hint(self, values: SecretValues) -> Any:
        if not values.needles:
            return self._hint_of_all
        return values.hint(self._any)

    def _in_line(self, text: bytes, line: int, line_end: int) -> tuple[list[Span], int, bool]:
        """The spans that the patterns find in a line, where to go on, and whether a key goes on behind the text."""
        spans: list[Span] = []
        go_on, key_goes_on = line_end, False
        for number in self._possible(text, line, line_end):
            pattern, expression = self._exact[number]
            at = line
            while (found := expression.search(text, at, line_end)) is not None:
                if pattern.name == PRIVATE_KEY:
                    end, key_goes_on = self._key(text, found, line_end)
                    if end > found.end():
                        spans.append((found.end(), end))
                    go_on = max(go_on, end)
                    at = max(found.end(), min(end, line_end))
                    continue
                span = pattern.read(text, found, line_end)
                # What one match ends with may be what the next begins with: the blank between two tokens.
                at = max(found.end() - 1, found.start() + 1)
                if span is not None:
                    spans.append(span)
                    at = max(at, span[1])
                if at >= line_end:
                    break
        return spans, go_on, key_goes_on

    def _possible(self, text: bytes, line: int, line_end: int) -> Iterable[int]:
        """The numbers of the patterns that could match in a line: by their anchors, or by one look for the others."""
        possible: set[int] = set()
        if self._anchors is not None:
            lowered = text[line:line_end].lower()
            found = self._anchors.find_matches_as_indexes(lowered, overlapping=True)
            possible = {self._anchored[which] for which, _, _ in found}
        if self._hint_of_others is not None and self._hint_of_others.search(text, line, line_end) is not None:
            possible |= self._without_anchors
        return possible

    @staticmethod
    def _key(text: bytes, found: Any, line_end: int) -> tuple[int, bool]:
        """Where a private key ends whose BEGIN was found, and whether it goes on behind the text."""
        end, is_over = pem.rest_of_first_line(text, found, line_end)
        if is_over:
            return end, False
        if line_end == len(text):
            return line_end, True
        end, is_over = pem.end_of_key(text, line_end + 1)
        return end, not is_over


def _either(patterns: Iterable[Pattern]) -> bytes:
    return b"|".join(b"(?:" + pattern.expression + b")" for pattern in patterns)


def _compiled(expression: bytes, *, groups: bool = True) -> Any:
    return re2.compile(b"(?m)" + expression, options(groups=groups))


def _apart(spans: Iterable[Span], text: bytes) -> list[Span]:
    """Spans in order, those that overlap made one, and none that cuts a character of several bytes in two."""
    apart: list[Span] = []
    for start, end in sorted(spans):
        while start > 0 and start < len(text) and text[start] & 0xC0 == 0x80:
            start -= 1
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end += 1
        if end <= start:
            continue
        if apart and start < apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        else:
            apart.append((start, end))
    return apart
