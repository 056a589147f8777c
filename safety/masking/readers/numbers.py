"""What is told by its letters and digits alone."""

from __future__ import annotations

from typing import Any

from safety.masking import words
from safety.masking.readers.quoting import Span


def whole(text: bytes, found: Any, line_end: int) -> Span | None:
    """All of the match."""
    return found.span()  # type: ignore[no-any-return]


def group(text: bytes, found: Any, line_end: int) -> Span:
    """The group that took part; all of the match where none did."""
    for number in range(1, len(found.groups()) + 1):
        if found.span(number)[0] >= 0:
            return found.span(number)  # type: ignore[no-any-return]
    return found.span()  # type: ignore[no-any-return]


def mixed_group(text: bytes, found: Any, line_end: int) -> Span | None:
    """The group, if there are letters and digits in it that make no words."""
    start, end = found.span(1)
    return (start, end) if words.looks_random(text[start:end].partition(b"_")[2] or text[start:end], least=12) else None


def card_number(text: bytes, found: Any, line_end: int) -> Span | None:
    """A number of a known issuer whose check digit is right (Luhn)."""
    start, end = found.span(1)
    shown = text[start:end]
    digits = bytes(sign for sign in shown if 48 <= sign <= 57)
    signs = {sign for sign in shown if not 48 <= sign <= 57}
    if len(signs) > 1 or not _is_issued(digits.decode()) or len(set(digits)) < 2:
        return None
    total = 0
    for place, sign in enumerate(reversed(digits)):
        number = (sign - 48) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return (start, end) if total % 10 == 0 else None


def _is_issued(number: str) -> bool:
    two, three, four, length = int(number[:2]), int(number[:3]), int(number[:4]), len(number)
    if number[0] == "4":
        return length in (16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return length == 16
    if two in (34, 37):
        return length == 15
    if three in range(300, 306) or two in (36, 38, 39):
        return length == 14
    if four == 6011 or two == 65 or 644 <= three <= 649 or two == 62:
        return 16 <= length <= 19
    return 3528 <= four <= 3589 and length == 16


def social_security_number(text: bytes, found: Any, line_end: int) -> Span | None:
    start, end = found.span(1)
    area, middle, last = text[start:end].split(b"-")
    return None if area in (b"000", b"666") or middle == b"00" or last == b"0000" else (start, end)


def aws_secret(text: bytes, found: Any, line_end: int) -> Span | None:
    """Forty characters: under a name that says so, or such as only chance makes them."""
    start, end = found.span(2)
    if start >= 0:
        return start, end
    start, end = found.span(1)
    value = text[start:end]
    kinds = (any(map(is_kind, value)) for is_kind in (_is_upper, _is_lower, _is_digit))
    return (start, end) if all(kinds) and words.entropy(value) > 4.25 and value[:1] != b"/" else None


def _is_upper(sign: int) -> bool:
    return 65 <= sign <= 90


def _is_lower(sign: int) -> bool:
    return 97 <= sign <= 122


def _is_digit(sign: int) -> bool:
    return 48 <= sign <= 57
