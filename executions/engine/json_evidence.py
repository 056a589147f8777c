"""What a plan expects of an answer in JSON, judged by what really came."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import re2

_MISSING = object()
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_LONGEST_SHOWN = 100


def unmet(expectations: Sequence[Mapping[str, Any]], text: str, *, whole: bool) -> str | None:
    """A sentence about the first expectation that does not hold of the JSON in `text`; None when all do.

    `whole`: text is all that came. What was found is not repeated: it may be anything.
    """
    if not whole:
        return "The answer is too long to be judged as JSON."
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return "The answer is not JSON, and the plan expects something of it."
    for expectation in expectations:
        found = _at(document, expectation["path"])
        said = _unmet(expectation, found)
        if said is not None:
            return f"The answer's JSON is not as expected: {_place(expectation['path'])} {said}."
    return None


def _unmet(expectation: Mapping[str, Any], found: Any) -> str | None:
    if "exists" in expectation:
        if (found is not _MISSING) == expectation["exists"]:
            return None
        return "is not there" if expectation["exists"] else "is there"
    if found is _MISSING:
        return "is not there"
    if "equals" in expectation:
        wanted = expectation["equals"]
        if _same(found, wanted):
            return None
        return f"is {_kind(found)} other than {json.dumps(wanted, ensure_ascii=False)[:_LONGEST_SHOWN]}"
    if isinstance(found, dict | list):
        return f"is {_kind(found)}, which no pattern can match"
    text = found if isinstance(found, str) else json.dumps(found)
    if re2.search(expectation["matches"], text) is not None:
        return None
    return f"does not match {expectation['matches'][:_LONGEST_SHOWN]!r}"


def _at(document: Any, path: str) -> Any:
    """The value at `a.b[0].c`, or at a JSON pointer (RFC 6901), which begins with /; the empty path is all of it."""
    if path.startswith("/"):
        tokens = [token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/")]
    else:
        tokens = [token for token in re.sub(r"\[([0-9]+)\]", r".\1", path).split(".") if token]
    for token in tokens:
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list) and _INDEX.fullmatch(token) and int(token) < len(document):
            document = document[int(token)]
        else:
            return _MISSING
    return document


def _same(found: Any, wanted: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but neither is true, nor is the text 1."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted)


def _kind(value: Any) -> str:
    kinds: dict[type, str] = {str: "a text", bool: "true or false", dict: "an object", list: "a list"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _place(path: str) -> str:
    return path[:_LONGEST_SHOWN] or "the whole of it"
