"""Reading a request: its body (JSON or YAML), the headers that mean something, the parameters of its query."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NoReturn

from django.conf import settings
from django.utils.dateparse import parse_datetime
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from executions.api.problems import ApiProblem, invalid_parameter, shortened
from executions.plans.yaml_reading import NotYaml, TooLarge, parse_yaml
from safety.idempotency import MAX_KEY_LENGTH

MAX_WAIT_SECONDS = 300
BIGGEST_ID = 2**63 - 1  # PostgreSQL's bigint
_MAX_DEPTH = 60  # of a YAML body; a plan in it has its own, smaller limit
_JSON_TYPES = frozenset({"application/json", "text/json", ""})
_YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?(?=\s*(?:[,;]|$))", re.IGNORECASE)


class _Unread(BaseParser):
    """For the schema only: bodies are read by `read_body`."""

    def parse(self, stream: object, media_type: str | None = None, parser_context: object = None) -> dict[str, Any]:
        """Read nothing. A session's check asks for a form's field; its token comes in the header, never in the body."""
        return {}


class JsonBody(_Unread):
    media_type = "application/json"


class YamlBody(_Unread):
    media_type = "application/yaml"


def read_body(request: Request) -> dict[str, Any]:
    """Return the body as an object; an empty body is an empty object.

    Raises ApiProblem: unsupported_media_type, payload_too_large or malformed_body, with line and column.
    """
    kind = request.META.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    data = body_bytes(request)
    if not data.strip():
        return {}
    if kind not in _JSON_TYPES and kind not in _YAML_TYPES:
        raise ApiProblem("unsupported_media_type", f"The body is {shortened(kind)}, which is not understood here.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ApiProblem(
            "malformed_body", f"The body is not UTF-8: byte {fault.start + 1} does not belong there."
        ) from None
    body = _yaml(text) if kind in _YAML_TYPES else _json(text)
    if not isinstance(body, dict):
        raise ApiProblem("malformed_body", "The body must be one object, with names and values.")
    return body


def body_bytes(request: Request) -> bytes:
    """Return the body as it came. Raises ApiProblem: payload_too_large."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdecimal() and int(length) > limit:
        raise ApiProblem("payload_too_large", f"The body has {int(length):,} bytes; {limit:,} are taken.")
    return request._request.body


def _json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as fault:
        message = f"The body cannot be read as JSON: {fault.msg} at line {fault.lineno}, column {fault.colno}."
        raise ApiProblem("malformed_body", message) from None
    except RecursionError:
        raise ApiProblem("malformed_body", "The body is nested too deeply.") from None
    except ValueError:  # an integer of more digits than Python converts
        raise ApiProblem("malformed_body", "A number in the body is too long.") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ApiProblem("malformed_body", f"The key {shortened(twice)!r} is given twice in one object.")
    return made


def _constant(word: str) -> NoReturn:
    raise ApiProblem("malformed_body", f"{word} is not a number of JSON.")


def _yaml(text: str) -> object:
    try:
        return parse_yaml(text, max_depth=_MAX_DEPTH, max_size=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    except NotYaml as fault:
        message = f"The body cannot be read as YAML: {fault.message} at line {fault.line}, column {fault.column}."
        raise ApiProblem("malformed_body", message) from None
    except TooLarge as fault:
        raise ApiProblem("malformed_body", str(fault)) from None


def wait_seconds(request: Request) -> int | None:
    """Return N of `Prefer: wait=N`, at most 300; None without it. Other preferences are ignored, as RFC 7240 asks."""
    found = _WAIT.search(request.META.get("HTTP_PREFER", ""))
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else None


def idempotency_key(request: Request) -> str | None:
    """Return the Idempotency-Key header; raises ApiProblem when it is empty, too long or not printable ASCII."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not key or len(key) > MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise ApiProblem("invalid_header", f"An Idempotency-Key is 1 to {MAX_KEY_LENGTH} printable ASCII characters.")
    return key


class Query:
    """The parameters of a query string, each checked. An unknown one is refused: no filter is ever ignored."""

    def __init__(self, request: Request, known: Iterable[str]) -> None:
        self._given = request.query_params
        names = set(known)
        for name in self._given:
            if name not in names:
                fix = f"This call takes: {', '.join(sorted(names)) or 'none'}."
                raise invalid_parameter(shortened(name), "is not a parameter of this call.", fix)
            for value in self._given.getlist(name):
                if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
                    raise invalid_parameter(name, "holds a character that is not text.", "Leave it out.")

    def text(self, name: str) -> str | None:
        """The last value given, without surrounding space; None when absent or empty."""
        return self._given.get(name, "").strip() or None

    def words(self, name: str) -> list[str]:
        """All values: comma-separated, or the parameter given several times."""
        return [word.strip() for value in self._given.getlist(name) for word in value.split(",") if word.strip()]

    def choices(self, name: str, allowed: Iterable[str]) -> list[str]:
        """`words`, each of them one of `allowed`."""
        listed = list(allowed)
        for word in (words := self.words(name)):
            if word not in listed:
                raise invalid_parameter(name, f"{shortened(word)} is not one of them.", f"Use: {', '.join(listed)}.")
        return words

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number; one beyond `most` is refused, not cut."""
        value = self.text(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,19}", value) or not least <= int(value) <= most:
            raise invalid_parameter(name, "is not a number that fits.", f"Give a whole number from {least} to {most}.")
        return int(value)

    def moment(self, name: str) -> datetime | None:
        """A time in ISO 8601; without a zone it is UTC."""
        value = self.text(name)
        if value is None:
            return None
        try:
            at = parse_datetime(value.replace(" ", "+") if "T" in value else value)
            at = at or parse_datetime(f"{value}T00:00:00")
            if at is not None and at.tzinfo is None:
                at = at.replace(tzinfo=UTC)
            if at is not None:
                return at.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise invalid_parameter(name, "is not a time.", "Write it like 2026-01-31T14:00:00Z or 2026-01-31.")

    def flag(self, name: str) -> bool | None:
        """true or false; None when absent."""
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false", "1", "0"):
            raise invalid_parameter(name, "is neither true nor false.", "Give true or false.")
        return value.lower() in ("true", "1")


def as_id(value: str) -> int | None:
    """Return a row's number, or None when `value` cannot be one."""
    if re.fullmatch(r"[0-9]{1,19}", value) and 1 <= int(value) <= BIGGEST_ID:
        return int(value)
    return None
