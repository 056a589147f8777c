"""Checks of lists, mappings and JSON values, built from the checks of single values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from executions.connectors.http_target import HARMLESS_HEADERS
from executions.tools.problems import Unfit
from executions.tools.values import Check, has_template, is_secret_reference, plain_text, text_check

_MAX_LIST_BYTES = 1_000_000  # half of what Linux lets argv and environment have together by default
_MAX_DEPTH = 50


def scalar_check(value: Any, final: bool) -> Any:
    """A text, a number, true or false."""
    if type(value) is str:
        return plain_text(value)
    if type(value) in (int, float, bool):
        return value
    raise Unfit("must be a single value", "Give a text, a number, true or false; nothing nested.")


def scalar_or_list_check(value: Any, final: bool) -> Any:
    """A single value or a list of single values."""
    if type(value) is list:
        return [_at(f"[{index}]", scalar_check, entry, final) for index, entry in enumerate(value)]
    return scalar_check(value, final)


def list_check(item: Check, *, min_length: int, max_length: int, wrap_single: bool) -> Check:
    """A list whose entries all pass `item`. `wrap_single`: one entry may stand without its list."""

    def check(value: Any, final: bool) -> Any:
        if type(value) is not list:
            if not final and has_template(value):
                return value
            if not wrap_single or type(value) is dict:
                raise Unfit("must be a list", 'Write a list, such as ["df", "-h", "/var"].')
            value = [value]
        if len(value) < min_length:
            raise Unfit("is empty" if not value else "is too short", f"Give at least {min_length} entries.")
        if len(value) > max_length:
            raise Unfit(f"has more than {max_length:,} entries", "Divide it over several steps.")
        entries = [_at(f"[{index}]", item, entry, final) for index, entry in enumerate(value)]
        if sum(len(entry) for entry in entries if type(entry) is str) > _MAX_LIST_BYTES // 4:
            raise Unfit("is longer than a command line can be", "Send the data through a file or standard input.")
        return entries

    return check


def mapping_check(item: Check, keys: Callable[[str], object] | None, keys_say: str, *, max_length: int) -> Check:
    """A mapping from names that `keys` accepts to values that pass `item`."""

    def check(value: Any, final: bool) -> Any:
        if type(value) is not dict or is_secret_reference(value):
            if not final and has_template(value):
                return value
            raise Unfit("must be a mapping", "Write names with their values.")
        if len(value) > max_length:
            raise Unfit(f"has more than {max_length:,} entries", "Take entries out.")
        checked = {}
        for name, entry in value.items():
            if type(name) is not str or (keys is not None and keys(name) is None):
                raise Unfit("has a name that is not allowed", keys_say)
            checked[name] = _at(f".{name}", item, entry, final)
        return checked

    return check


def _at(path: str, item: Check, entry: Any, final: bool) -> Any:
    try:
        return item(entry, final)
    except Unfit as unfit:
        unfit.path = path + unfit.path
        raise


# What each kind of auth needs, and what it may have besides.
_ENTRIES_OF_AUTH = {
    "bearer": ({"token"}, set()),
    "basic": ({"username", "password"}, set()),
    "api_key": ({"api_key"}, {"header"}),
    "asset": (set(), {"header"}),
    "none": (set(), set()),
}
_HEADER_NAME = text_check(
    pattern=r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", pattern_says="Write a header's name.", min_length=1, max_length=128
)
_HEADER_TEXT = text_check(pattern=r"[^\r\n\0]+", pattern_says="Give text of one line.", min_length=1, max_length=32_000)


def _key_header(value: Any, final: bool) -> Any:
    """The header of an API key: none that has a meaning of its own, and that a redirect takes to another host."""
    name = _HEADER_NAME(value, final)
    if name.lower() in HARMLESS_HEADERS:
        raise Unfit("is a header that says something else, and that everybody may see", "Name the API's own header.")
    return name


def auth_check(value: Any, final: bool) -> Any:
    """Who asks: bearer with token, basic with username and password, api_key with api_key (and header, X-API-Key
    without it), asset for the credential of the step's target, or none for a request without it."""
    kind = value.get("type") if type(value) is dict else None
    entries = _ENTRIES_OF_AUTH.get(kind) if isinstance(kind, str) else None
    how_to_fix = (
        "Write {type: bearer, token: ...}, {type: basic, username: ..., password: ...}, {type: api_key, api_key: ...},"
        " {type: asset} or {type: none}."
    )
    if entries is None:
        raise Unfit("does not say who asks", how_to_fix)
    needed, possible = entries
    if not needed <= value.keys() - {"type"} <= needed | possible:
        has = " and ".join(sorted(needed, reverse=True)) or "nothing"
        raise Unfit(f"must have {has} beside its type{', and nothing else' if needed else ''}", how_to_fix)
    checks = {"header": _key_header}
    checked = {
        name: _at(f".{name}", checks.get(name, _HEADER_TEXT), value[name], final) for name in value if name != "type"
    }
    if final and ":" in checked.get("username", ""):
        raise Unfit("has a colon, which no user name of basic can have", "Correct the user name.", ".username")
    return {"type": kind, **checked}


def json_check(max_length: int) -> Check:
    """Text as it is, or any value that JSON can say. Secret references may stand anywhere until the step runs."""

    def check(value: Any, final: bool) -> Any:
        if type(value) is str:
            text = plain_text(value)
            if len(text) > max_length:
                raise Unfit(f"is longer than {max_length:,} characters", "Send less.")
            return text
        _walk(value, final, 0, "")
        try:
            length = len(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            raise Unfit("has a number that JSON cannot say", "Leave out infinities and NaN.") from None
        if length > max_length:
            raise Unfit(f"is longer than {max_length:,} characters", "Send less.")
        return value

    return check


def _walk(value: Any, final: bool, depth: int, path: str) -> None:
    if depth > _MAX_DEPTH:
        raise Unfit(f"is nested deeper than {_MAX_DEPTH} levels", "Flatten it.", path)
    if final and type(value) is dict and is_secret_reference(value):
        raise Unfit("is a secret reference that was not resolved", "Submit the step again.", path)
    if type(value) is dict:
        for name, entry in value.items():
            if type(name) is not str:
                raise Unfit("has a name that is not text", "Put the name in quotes.", path)
            _walk(entry, final, depth + 1, f"{path}.{name}")
    elif type(value) is list:
        for index, entry in enumerate(value):
            _walk(entry, final, depth + 1, f"{path}[{index}]")
    elif value is not None and type(value) not in (str, int, float, bool):
        raise Unfit("is not something that JSON can say", "Write dates and the like as text, in quotes.", path)
