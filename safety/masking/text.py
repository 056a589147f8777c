"""Masking whole texts and nested data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from safety.masking import active
from safety.masking.keys import names_a_secret
from safety.masking.known import all_known
from safety.masking.rules import Rules, Span
from safety.masking.values import SecretValues
from safety.masking.words import MASK, PLACEHOLDER

DEEPEST = 200  # levels of nested data; what lies deeper is left out, since nobody reads it

Values = SecretValues | Iterable[str]


def mask_text(text: str, values: Values = ()) -> str:
    """Return a text without what the active patterns, `values`, and this process's own secrets match.

    Linear in its length. Line ends stay where they are, but for those within a private key.
    """
    if not text:
        return text
    raw = text.encode("utf-8", "surrogatepass")
    spans, _ = active.rules().find(raw, all_known(values))
    if not spans:
        return text
    return without(raw, spans).decode("utf-8", "surrogatepass")


def without(raw: bytes, spans: Iterable[Span]) -> bytes:
    """The bytes with a placeholder for each span."""
    parts: list[bytes] = []
    at = 0
    for start, end in spans:
        parts += (raw[at:start], MASK)
        at = end
    parts.append(raw[at:])
    return b"".join(parts)


def mask_data(data: Any, values: Values = ()) -> Any:
    """Return a copy of nested data (mappings, lists, texts, numbers) with its secrets masked.

    What stands under a name that says so is masked whatever it is, but for references to secrets, None, booleans and
    empty texts; every other text as `mask_text` does it. A name beside it counts, too: `{"name": "DB_PASSWORD",
    "value": ...}`. Keys that are texts are masked like texts. Objects of other types are returned as they are.
    """
    return _masked(data, all_known(values), False, DEEPEST)


def is_reference(value: object) -> bool:
    """Whether a value only names a secret: `{"type": "secret", "path": ...}`."""
    return isinstance(value, Mapping) and value.get("type") == "secret" and isinstance(value.get("path"), str)


def _masked(data: Any, values: SecretValues, is_secret: bool, levels: int) -> Any:
    if isinstance(data, str):
        if not data:
            return data
        return PLACEHOLDER if is_secret else mask_text(data, values)
    if data is None or isinstance(data, bool):
        return data
    if isinstance(data, bytes | bytearray):
        text = data.decode("utf-8", "replace")
        return data if not is_secret and mask_text(text, values) == text else PLACEHOLDER
    if isinstance(data, Mapping):
        if levels <= 0:
            return PLACEHOLDER
        return _mapping(data, values, is_secret, levels - 1)
    if isinstance(data, list | tuple | set | frozenset):
        if levels <= 0:
            return PLACEHOLDER
        items = [_masked(item, values, is_secret, levels - 1) for item in data]
        return tuple(items) if isinstance(data, tuple) else items
    return PLACEHOLDER if is_secret else data


def _mapping(data: Mapping[Any, Any], values: SecretValues, is_secret: bool, levels: int) -> Any:
    if is_reference(data):
        return dict(data)
    named = data.get("name", data.get("key"))
    names_its_value = isinstance(named, str) and names_a_secret(named)
    masked = {}
    for name, item in data.items():
        says_so = is_secret or (isinstance(name, str) and names_a_secret(name)) or (names_its_value and name == "value")
        masked[mask_text(name, values) if isinstance(name, str) else name] = _masked(item, values, says_so, levels)
    return masked


def masked_with(rules: Rules, text: str) -> str:
    """Return a text as these rules alone mask it: for trying out a rule before it is saved."""
    raw = text.encode("utf-8", "surrogatepass")
    spans, _ = rules.find(raw)
    return without(raw, spans).decode("utf-8", "surrogatepass")
