"""Patterns of an installation's own: what may be one, and how it becomes part of the rules."""

from __future__ import annotations

import re2

from safety.masking import readers
from safety.masking.patterns import Pattern, options

LARGEST_PROGRAM = 5_000  # instructions of RE2; more would slow down every line
# Whatever finds a secret in one of these finds one everywhere.
_NOTHING_SECRET = (b"", b"a", b"Z", b"5", b" ", b"-", b".", b"/", b"ok", b"the", b"error", b"10", b"2026", b"root")


class Unusable(ValueError):
    """The expression cannot be a pattern: the sentence says why, and what to write instead."""


def check_expression(expression: str) -> None:
    """Raises Unusable for an expression that is none, is too big, or matches what is in every line."""
    if not expression.strip():
        raise Unusable("Write what the secrets look like, for example ACME-[0-9A-F]{32}.")
    if "(?P<" in expression or "(?<" in expression:
        raise Unusable("Groups with names are not taken: write (...) around the secret, without a name.")
    try:
        compiled = re2.compile(b"(?m)(?:" + expression.encode() + b")", options())
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise Unusable(f"RE2 cannot read it: {reason}. Look-around and back references are not in RE2.") from None
    if compiled.programsize > LARGEST_PROGRAM:
        raise Unusable("It is too big: make its repetitions smaller, or use * and + instead of counts.")
    for text in _NOTHING_SECRET:
        if compiled.search(text) is not None:
            shown = f"'{text.decode()}'" if text else "the empty text"
            raise Unusable(f"It matches {shown}, and so nearly every line: say more of what the secrets look like.")


def custom_pattern(name: str, expression: str) -> Pattern:
    """The pattern for a row."""
    return Pattern(name, "", expression.encode(), (), readers.group)
