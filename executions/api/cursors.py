"""Pages of a list, newest first: a cursor is the id beside which the page begins, so new rows shift nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from executions.api.answers import answer
from executions.api.problems import invalid_parameter
from executions.api.reading import Query, as_id

PARAMETERS = ("cursor", "limit")
DEFAULT_LIMIT = 50
MOST = 500

Row = TypeVar("Row", bound=Model)


def page(request: Request, query: Query, rows: QuerySet[Row], show: Callable[[Row], dict[str, Any]]) -> HttpResponse:
    """Answer with one page of `rows`: {"next", "previous", "results"}; the links are null where there is no more.

    One statement. Raises ApiProblem(invalid_parameter) for a cursor that was not made here.
    """
    limit = query.whole("limit", DEFAULT_LIMIT, least=1, most=MOST)
    newer, beside = _decode(query.text("cursor"))
    if newer:
        found = list(rows.filter(pk__gt=beside).order_by("pk")[: limit + 1])
        more = len(found) > limit
        found = found[:limit][::-1]
        next_id = found[-1].pk if found else None
        previous_id = found[0].pk if more else None
    else:
        below = rows if beside is None else rows.filter(pk__lt=beside)
        found = list(below.order_by("-pk")[: limit + 1])
        next_id = found[limit - 1].pk if len(found) > limit else None
        found = found[:limit]
        previous_id = found[0].pk if found and beside is not None else None
    return answer(
        {
            "next": _link(request, "older", next_id),
            "previous": _link(request, "newer", previous_id),
            "results": [show(row) for row in found],
        }
    )


def _decode(cursor: str | None) -> tuple[bool, int | None]:
    if cursor is None:
        return False, None
    try:
        direction, _, number = base64.urlsafe_b64decode(cursor.encode() + b"==").decode().partition(":")
        beside = as_id(number)
    except (ValueError, binascii.Error):
        direction, beside = "", None
    if direction not in ("older", "newer") or beside is None:
        raise invalid_parameter("cursor", "is not one that this list gave.", "Follow `next` or `previous` as they are.")
    return direction == "newer", beside


def _link(request: Request, direction: str, beside: int | None) -> str | None:
    if beside is None:
        return None
    cursor = base64.urlsafe_b64encode(f"{direction}:{beside}".encode()).decode().rstrip("=")
    given = request.query_params.copy()
    given["cursor"] = cursor
    return f"{request.path}?{given.urlencode()}"
