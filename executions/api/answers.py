"""JSON answers, written by orjson: times as ISO 8601 in UTC with a Z."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from django.http import HttpResponse

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


def to_json(data: object) -> bytes:
    """Return `data` as JSON. Raises TypeError for what JSON has no form for."""
    try:
        return orjson.dumps(data, option=_OPTIONS)
    except TypeError:
        # A number like 1e300 that was once stored comes back from the database as a whole number of 300 digits.
        return orjson.dumps(_with_numbers_that_fit(data), option=_OPTIONS)


def _with_numbers_that_fit(value: Any) -> Any:
    """Return the value with every whole number beyond 64 bits as one with an exponent, which it is read as anyhow."""
    if isinstance(value, Mapping):
        return {name: _with_numbers_that_fit(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_numbers_that_fit(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 10**308 else str(value)
    return value


def answer(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return `data` as an application/json response that no cache keeps."""
    response = HttpResponse(to_json(data), status=status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response
