"""Refusals as application/problem+json (RFC 9457): one shape for everything that goes wrong."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.signals import got_request_exception
from django.db import DatabaseError, DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from pydantic import ValidationError as PydanticError
from rest_framework import exceptions
from rest_framework.request import Request

from executions.api.answers import to_json
from executions.api.codes import CODES, code_of_status
from executions.services import Refused
from safety.masking import mask_text

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
DATABASE_RETRY_SECONDS = 5
_MOST_REPEATED = 200  # characters of a caller's own value in a message

Errors = Sequence[Mapping[str, Any]]


class ApiProblem(Exception):
    """The request is refused; `code` is one of codes.CODES and says what to do next."""

    def __init__(
        self, code: str, detail: str, *, errors: Errors = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})


def error(code: str, path: str, message: str, how_to_fix: str) -> dict[str, str]:
    """One entry of `errors[]`, in the shape that the problems of a plan have."""
    return {"code": code, "path": path, "message": message, "how_to_fix": how_to_fix}


def invalid_parameter(name: str, message: str, how_to_fix: str) -> ApiProblem:
    """The refusal for one parameter of the query string."""
    listed = [error("invalid_parameter", name, message, how_to_fix)]
    return ApiProblem("invalid_parameter", f"{name}: {message}", errors=listed)


def problem(
    code: str,
    detail: str,
    *,
    instance: str,
    status: int | None = None,
    errors: Errors = (),
    how_to_fix: str = "",
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """Return the response for a refusal. An unknown `code` needs `status`, and gets that status's title."""
    body = describe(code, detail, instance=instance, status=status, errors=errors, how_to_fix=how_to_fix)
    response = HttpResponse(to_json(body), status=body["status"], content_type=MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response


def describe(
    code: str, detail: str, *, instance: str, status: int | None = None, errors: Errors = (), how_to_fix: str = ""
) -> dict[str, Any]:
    """The members of a problem: type, title, status, detail, code, how_to_fix, instance, errors."""
    known = CODES.get(code) or CODES[code_of_status(status or 500)]
    return {
        "type": f"/api/errors/{code}/",
        "title": known.title,
        "status": status or known.status,
        "detail": mask_text(detail),
        "code": code,
        "how_to_fix": how_to_fix or known.way_out,
        "instance": instance,
        "errors": [{**entry, "message": mask_text(entry["message"])} for entry in errors],
    }


def refusal(refused: Refused, instance: str) -> HttpResponse:
    """Return the response for a refusal of the services."""
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after else {}
    return problem(
        refused.code,
        refused.message,
        instance=instance,
        status=refused.status,
        errors=refused.errors or (),
        how_to_fix=refused.how_to_fix or "",
        headers=headers,
    )


def exception_handler(exc: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """Turn whatever a view raised into a problem. REST framework calls it; nothing falls through to an HTML page."""
    request: Request = context["request"]
    instance = request.path
    if isinstance(exc, Refused):
        return refusal(exc, instance)
    if isinstance(exc, ApiProblem):
        return problem(exc.code, exc.detail, instance=instance, errors=exc.errors, headers=exc.headers)
    if isinstance(exc, exceptions.APIException):
        return _of_framework(exc, instance)
    if isinstance(exc, PydanticError):
        errors = body_errors(exc)
        return problem("invalid_body", _summary(errors), instance=instance, errors=errors)
    if isinstance(exc, Http404):
        return problem("not_found", "There is nothing here that you may see.", instance=instance)
    if isinstance(exc, DjangoPermissionDenied):
        return problem("forbidden", str(exc) or "You may not do this.", instance=instance)
    if isinstance(exc, RequestDataTooBig):
        return problem("payload_too_large", "The body is larger than this server takes.", instance=instance)
    if isinstance(exc, (BadRequest, SuspiciousOperation)):
        return problem("bad_request", "The request cannot be understood.", instance=instance)
    if isinstance(exc, DatabaseError | InterfaceError):
        return _of_database(exc, request._request, instance)
    return _unexpected(exc, request._request, instance)


def database_unavailable(instance: str) -> HttpResponse:
    """Return the response while the database does not answer."""
    return problem(
        "database_unavailable",
        "The database does not answer. It is not known whether this request was carried out.",
        instance=instance,
        headers={"Retry-After": str(DATABASE_RETRY_SECONDS)},
    )


def _of_database(exc: Exception, request: HttpRequest, instance: str) -> HttpResponse:
    if isinstance(exc, DataError):
        logger.warning(
            "A value passed the API's checks that the database does not take: %s", type(exc.__cause__).__name__
        )
        return problem("invalid_body", "A value cannot be stored.", instance=instance)
    if isinstance(exc, OperationalError | InterfaceError):
        why = str(exc).partition("\n")[0]
        logger.warning("%s %s: the database does not answer: %s", request.method, instance, why)
        return database_unavailable(instance)
    return _unexpected(exc, request, instance)


def _unexpected(exc: Exception, request: HttpRequest, instance: str) -> HttpResponse:
    reference = secrets.token_hex(6)
    logger.error("Fault %s at %s %s", reference, request.method, instance, exc_info=exc)
    got_request_exception.send(sender=None, request=request)
    detail = f"Something went wrong on our side; it was logged as {reference}."
    return problem("internal_error", detail, instance=instance)


def _of_framework(exc: exceptions.APIException, instance: str) -> HttpResponse:
    headers = {}
    if getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = exc.auth_header  # type: ignore[attr-defined]
    if wait := getattr(exc, "wait", None):  # of Throttled
        headers["Retry-After"] = str(int(wait) + 1)
    if isinstance(exc, exceptions.ValidationError):
        errors = list(_flat(exc.detail, ""))
        return problem("invalid_body", _summary(errors), instance=instance, errors=errors)
    detail = str(exc.detail)
    code = code_of_status(exc.status_code)
    named = exc.get_codes()
    if isinstance(named, str) and named in CODES:
        code = named
    elif detail.startswith("CSRF Failed"):
        code = "csrf_failed"
    return problem(code, detail, instance=instance, status=exc.status_code, headers=headers)


def body_errors(exc: PydanticError) -> list[dict[str, str]]:
    """The faults of a body as entries of `errors[]`."""
    found = []
    for fault in exc.errors(include_url=False, include_context=False, include_input=False):
        path = ""
        for part in fault["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{shortened(part)}" if path else shortened(part)
        message = fault["msg"].removeprefix("Value error, ")
        found.append(error("invalid_field", path, f"{message}.", _fix(fault["type"], path)))
    return found


def shortened(value: object) -> str:
    """A caller's own word, short enough to repeat."""
    text = str(value)
    return text if len(text) <= _MOST_REPEATED else text[:_MOST_REPEATED] + "…"


def _fix(kind: str, path: str) -> str:
    if kind == "missing":
        return f"Give {path}."
    if kind == "extra_forbidden":
        return "Leave it out, or correct its name; nothing that was sent is ever ignored silently."
    return f"Correct {path or 'the body'}; /api/docs/ shows what this call takes."


def _flat(detail: Any, path: str) -> list[dict[str, str]]:
    if isinstance(detail, Mapping):
        return [
            entry
            for key, value in detail.items()
            for entry in _flat(value, path if key == "non_field_errors" else f"{path}.{key}" if path else str(key))
        ]
    if isinstance(detail, list | tuple):
        if all(isinstance(item, str) for item in detail):
            return [entry for item in detail for entry in _flat(item, path)]
        return [entry for index, item in enumerate(detail) for entry in _flat(item, f"{path}[{index}]")]
    kind = "missing" if getattr(detail, "code", "") == "required" else ""
    return [error("invalid_field", path, str(detail), _fix(kind, path))]


def _summary(errors: Errors) -> str:
    if not errors:
        return "The body is not what this call takes."
    first = errors[0]
    told = f"{first['path']}: {first['message']}" if first["path"] else first["message"]
    return told if len(errors) == 1 else f"{told} (and {len(errors) - 1} more in errors)"
