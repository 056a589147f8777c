"""From what the caller sent to plain values: JSON or YAML, strict, bounded, and always a copy of our own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from executions.plans.limits import PlanLimits
from executions.plans.problems import Code, PlanRefused, refuse, shown
from executions.plans.yaml_reading import NotYaml, TooLarge, parse_yaml

SIZE_FIX = "Split the plan, or keep large contents in files on the target."
# PostgreSQL's bigint, and what other JSON readers still take without losing digits.
_LARGEST_INTEGER = 2**63


class _Unfit(Exception):
    """A value that a plan may not hold; `where` is filled in from the inside out."""

    def __init__(self, code: Code, message: str, how_to_fix: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.how_to_fix = how_to_fix
        self.where: list[str] = []


def read(document: object, limits: PlanLimits) -> object:
    """Return the document as fresh dicts, lists, str, int, float, bool and None.

    document: bytes or str holding JSON or YAML, or values already parsed, which are copied and never changed.
    Raises PlanRefused: plan_too_large, or invalid_input with the line and column of what cannot be read.
    """
    parsed = _parse(document, limits) if isinstance(document, (str, bytes, bytearray)) else document
    try:
        return _Copier(limits).copy(parsed, 0)
    except _Unfit as unfit:
        path = "".join(reversed(unfit.where)).lstrip(".") or "plan"
        raise refuse(unfit.code, path, unfit.message, unfit.how_to_fix) from None


def _parse(document: str | bytes | bytearray, limits: PlanLimits) -> object:
    if len(document) > limits.max_bytes:
        raise _too_large(limits)
    text = document if isinstance(document, str) else _decode(bytes(document))
    text = text.removeprefix("\ufeff")
    if not text.strip():
        return None
    if text.lstrip()[0] not in "{[":
        return _from_yaml(text, limits)
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as not_json:
        return _from_yaml(text, limits, instead=_unreadable("JSON", not_json.msg, not_json.lineno, not_json.colno))
    except RecursionError:
        raise _too_deep(limits) from None
    except ValueError:  # an integer of more digits than Python converts
        raise refuse(Code.INVALID_INPUT, "plan", "A number is too long.", "Write it as text in quotes.") from None


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse(
            Code.INVALID_INPUT,
            "plan",
            f"The document is not UTF-8: byte {error.start + 1} does not belong there.",
            "Save the document as UTF-8.",
        ) from None


def _from_yaml(text: str, limits: PlanLimits, instead: PlanRefused | None = None) -> object:
    """Parse YAML; `instead` is what to tell of a document that looked like JSON and is neither."""
    try:
        return parse_yaml(text, max_depth=limits.max_depth, max_size=limits.max_bytes)
    except NotYaml as error:
        raise (instead or _unreadable("YAML", error.message, error.line, error.column)) from None
    except TooLarge as error:
        raise refuse(Code.PLAN_TOO_LARGE, "plan", str(error), SIZE_FIX) from None


def _unreadable(kind: str, message: str, line: int, column: int) -> PlanRefused:
    return refuse(
        Code.INVALID_INPUT,
        "plan",
        f"The document cannot be read as {kind}: {message} at line {line}, column {column}.",
        f"Correct the {kind} at line {line}, column {column}.",
    )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise refuse(
                Code.INVALID_INPUT,
                "plan",
                f"The key {shown(key)!r} is given twice in one object.",
                "Keep one of the two; which of them counts is not guessed.",
            )
        seen.add(key)
    return made


def _constant(word: str) -> object:
    raise refuse(Code.INVALID_INPUT, "plan", f"{word} is not a number of JSON.", "Write a number, or null.")


def _too_large(limits: PlanLimits) -> PlanRefused:
    return refuse(Code.PLAN_TOO_LARGE, "plan", f"The document is larger than {limits.max_bytes:,} bytes.", SIZE_FIX)


def _too_deep(limits: PlanLimits) -> PlanRefused:
    return refuse(
        Code.PLAN_TOO_LARGE,
        "plan",
        f"The document is nested deeper than {limits.max_depth} levels.",
        "Flatten it; a plan needs few levels.",
    )


class _Copier:
    """Copies parsed values and checks each: size, depth, and only what JSON and the database can hold."""

    def __init__(self, limits: PlanLimits) -> None:
        self._limits = limits
        self._left = limits.max_bytes

    def copy(self, value: object, depth: int) -> object:
        self._left -= 1
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (int, float)):
            return _number(value)
        if depth >= self._limits.max_depth:
            raise _Unfit(
                Code.PLAN_TOO_LARGE,
                f"The document is nested deeper than {self._limits.max_depth} levels.",
                "Flatten it; a plan needs few levels.",
            )
        if isinstance(value, Mapping):
            return self._mapping(value, depth + 1)
        if isinstance(value, (list, tuple)):
            return self._list(value, depth + 1)
        raise _Unfit(
            Code.INVALID_INPUT,
            f"A value of type {type(value).__name__} cannot be part of a plan.",
            "Use text, numbers, true, false, null, lists and objects only.",
        )

    def _mapping(self, value: Mapping[object, object], depth: int) -> dict[str, object]:
        made: dict[str, object] = {}
        for key, item in value.items():
            name = key if type(key) is str else _key(key)
            try:
                if name in made:
                    raise _Unfit(Code.INVALID_INPUT, "This key is given twice.", "Keep one of the two.")
                made[self._text(name)] = self.copy(item, depth)
            except _Unfit as unfit:
                unfit.where.append(f".{shown(name)}")
                raise
        return made

    def _list(self, value: list[object] | tuple[object, ...], depth: int) -> list[object]:
        made: list[object] = []
        for index, item in enumerate(value):
            try:
                made.append(self.copy(item, depth))
            except _Unfit as unfit:
                unfit.where.append(f"[{index}]")
                raise
        return made

    def _text(self, value: str) -> str:
        self._left -= len(value)
        if self._left < 0:
            raise _Unfit(
                Code.PLAN_TOO_LARGE, f"The document is larger than {self._limits.max_bytes:,} bytes.", SIZE_FIX
            )
        if "\x00" in value or not (value.isascii() or _is_unicode(value)):
            raise _Unfit(
                Code.INVALID_INPUT,
                "The text holds a NUL character or half of a surrogate pair, which cannot be stored.",
                "Remove that character.",
            )
        return str(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _number(value: int | float) -> int | float:
    if isinstance(value, float) and not math.isfinite(value):
        raise _Unfit(Code.INVALID_INPUT, "NaN and infinity are not numbers of a plan.", "Write a number, or null.")
    # Of numbers with a fraction, too: the database gives 1e300 back as a whole number.
    if not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        raise _Unfit(Code.INVALID_INPUT, "The number does not fit 64 bits.", "Write it as text in quotes.")
    return float(value) if isinstance(value, float) else int(value)


def _key(key: object) -> str:
    """A key that is not text, as YAML and Python allow; numbers and words become text."""
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float, str)):
        return str(key)
    raise _Unfit(Code.INVALID_INPUT, "A key is not text.", "Use text as the keys of objects.")
