"""What a plan expects of an answer in JSON: `[{path: status.db, equals: up}, {path: /items/0, exists: true}]`."""

from __future__ import annotations

from typing import Any

import re2

from executions.tools.problems import Unfit
from executions.tools.values import Check, boolean_check, has_template, text_check

MOST = 50
_HOW_TO_FIX = "Write {path: status.db, equals: up}, {path: ..., matches: PATTERN} or {path: ..., exists: true}."
_PATH = text_check(pattern=r"[^\r\n]*", pattern_says="Write a path on one line.", min_length=0, max_length=500)
_PATTERN = text_check(pattern=None, pattern_says=None, min_length=1, max_length=1000)


def expectations_check(value: Any, final: bool) -> Any:
    """A list of expectations, or a single one; each has a path, and one of equals, matches and exists."""
    entries = value if type(value) is list else [value]
    if not entries or len(entries) > MOST:
        raise Unfit(f"must have from 1 to {MOST} entries", _HOW_TO_FIX)
    return [_one(entry, final, f"[{at}]") for at, entry in enumerate(entries)]


def _one(entry: Any, final: bool, where: str) -> dict[str, Any]:
    words = set(entry) - {"path"} if type(entry) is dict else set()
    if type(entry) is not dict or len(words) != 1 or not words <= _CHECKS.keys():
        raise Unfit("must have one of equals, matches and exists", _HOW_TO_FIX, where)
    (word,) = words
    checked = {"path": _PATH, word: _CHECKS[word]}
    found: dict[str, Any] = {"path": ""}
    for name, check in checked.items():
        if name in entry:
            try:
                found[name] = check(entry[name], final)
            except Unfit as unfit:
                raise Unfit(unfit.message, unfit.how_to_fix, f"{where}.{name}") from None
    return found


def _scalar(value: Any, final: bool) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise Unfit("must be a text, a number, true, false or null", "Expect each value inside it for itself.")


def _pattern(value: Any, final: bool) -> Any:
    pattern = _PATTERN(value, final)
    if final or not has_template(pattern):
        try:
            re2.compile(pattern)
        except re2.error:
            raise Unfit("is not a regular expression of RE2", "Write one without look-around.") from None
    return pattern


_CHECKS: dict[str, Check] = {"equals": _scalar, "matches": _pattern, "exists": boolean_check}
