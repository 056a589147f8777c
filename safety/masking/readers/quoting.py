"""Where a value ends that begins somewhere in a line: at its quote, or with its word."""

from __future__ import annotations

import re

from safety.masking import words

Span = tuple[int, int]

QUOTES = b"\"'`"
QUOTE_ON_A_PAGE = re.compile(rb"&(?:quot|#x27|#39|#34);")
LOOKED_AT = 256  # of a value, to tell whether it is one: so no text is looked at again and again
# Possessive: it never goes back, so it keeps no place to go back to for each letter.
UNQUOTED = re.compile(rb"(?:[^\s\"'`\\<>]++|\\(?![nrt\"'`]))++")
_NEXT_PAIR = re.compile(rb"[,;&]\s{0,4}[\"']?[\w.-]{1,60}[\"']?\s{0,4}[=:]")


def value_at(text: bytes, at: int, line_end: int) -> tuple[int, int, bool]:
    """The value that begins at `at`: its span without quotes, and whether it is quoted."""
    start = at
    while start < line_end and text[start] == 0x5C and start - at < 4:  # \" is a quote within a quote
        start += 1
    if start < line_end and text[start] in QUOTES:
        closing = text[at : start + 1]
        inner = start + 1
        end = _closing(text, closing, inner, line_end)
        return inner, end, True
    matched = UNQUOTED.match(text, at, min(line_end, at + LOOKED_AT))
    if matched is None:
        return at, at, False
    end = matched.end()
    if end == at + LOOKED_AT and not words.is_innocent(text[at:end]):  # what is as long as that is no word
        matched = UNQUOTED.match(text, at, line_end)
        end = matched.end() if matched else end
    following = _NEXT_PAIR.search(text, at, min(line_end, end + 80))
    if following is not None and following.start() < end:
        end = following.start()
    entity = QUOTE_ON_A_PAGE.search(text, at, end)
    if entity is not None:
        return at, max(entity.start(), at + 1), False
    while end > at + 1 and text[end - 1] in b",;)}]":
        end -= 1
    return at, end, False


def _closing(text: bytes, closing: bytes, start: int, line_end: int) -> int:
    """Where the quote ends that `closing` ends; at the end of the line if it does not."""
    at = start
    while True:
        found = text.find(closing, at, line_end)
        if found < 0:
            return line_end
        # a quote after a backslash belongs to the value, unless the opening one had backslashes too
        if len(closing) == 1 and found > start and text[found - 1] == 0x5C and not _even(text, found, start):
            at = found + 1
            continue
        return found


def _even(text: bytes, at: int, start: int) -> bool:
    count = 0
    while at - 1 - count >= start and text[at - 1 - count] == 0x5C:
        count += 1
    return count % 2 == 0
