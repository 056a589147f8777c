"""Pages of a list, mostly newest first: a cursor is the id beside which the page begins, so new rows shift nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
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
T = TypeVar("T")


def page(request: Request, query: Query, rows: QuerySet[Row], show: Callable[[Row], dict[str, Any]]) -> HttpResponse:
    """Answer with one page of `rows`: {"next", "previous", "results"}; the links are null where there is no more.

    One statement. Raises ApiProblem(invalid_parameter) for a cursor that was not made here.
    """
    return page_of(request, query, rows, lambda found: [show(row) for row in found])


def page_of(
    request: Request,
    query: Query,
    rows: QuerySet[Row],
    show: Callable[[list[Row]], list[dict[str, Any]]],
    *,
    oldest_first: bool = False,
    most: int = MOST,
) -> HttpResponse:
    """The same for rows that are shown together, so that what belongs to them is read for all of them at once."""
    limit = query.whole("limit", min(DEFAULT_LIMIT, most), least=1, most=most)
    newer, beside = _decode(query.text("cursor"))
    # `newer` leads up in the numbers: on, in a list of the oldest first, and back in every other.
    upwards = newer if beside is not None else oldest_first
    found = rows
    if beside is not None:
        found = rows.filter(pk__gt=beside) if newer else rows.filter(pk__lt=beside)
    listed = list(found.order_by("pk" if upwards else "-pk")[: limit + 1])
    more = len(listed) > limit
    listed = listed[:limit]
    onwards = upwards == oldest_first
    if not onwards:
        listed.reverse()
    is_first, is_last = (beside is None, not more) if onwards else (not more, False)
    names = ("newer", "older") if oldest_first else ("older", "newer")
    return answer(
        {
            "next": _link(request, names[0], listed[-1].pk if listed and not is_last else None),
            "previous": _link(request, names[1], listed[0].pk if listed and not is_first else None),
            "results": show(listed),
        }
    )


def page_of_all(request: Request, query: Query, rows: Sequence[T], show: Callable[[T], dict[str, Any]]) -> HttpResponse:
    """The same for a list that is in memory and stays so: a cursor is a place in it. All of it, if not limited."""
    limit = query.whole("limit", MOST, least=1, most=MOST)
    backwards, beside = _decode(query.text("cursor"))
    begin = max(0, (beside or 1) - 1 - limit) if backwards else beside or 0
    end = (beside or 1) - 1 if backwards else begin + limit
    listed = rows[begin:end]
    return answer(
        {
            "next": _link(request, "older", begin + len(listed) if listed and end < len(rows) else None),
            "previous": _link(request, "newer", begin + 1 if begin and listed else None),
            "results": [show(row) for row in listed],
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
