"""JSON answers, written by orjson: times as ISO 8601 in UTC with a Z."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from django.http import HttpResponse

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


def to_json(data: object) -> bytes:
    """Return `data` as JSON. Raises TypeError for what JSON has no form for."""
    return orjson.dumps(data, option=_OPTIONS)


def answer(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return `data` as an application/json response that no cache keeps."""
    response = HttpResponse(to_json(data), status=status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response
