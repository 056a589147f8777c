"""What the `type` of a problem leads to: what a code means and the way out of it."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from executions.api.answers import answer
from executions.api.base import ApiView
from executions.api.codes import CODES
from executions.api.problems import ApiProblem, shortened
from executions.api.schema import call
from executions.api.shapes import CodeShape


class OpenView(ApiView):
    """A call that needs nobody."""

    authentication_classes = ()
    permission_classes: Any = ()


class ErrorView(OpenView):
    """One code."""

    @call("errors_read", "Explain the code of a problem", tag="errors", gives=CodeShape, refuses=("not_found",))
    def get(self, request: Request, code: str) -> HttpResponse:
        known = CODES.get(code)
        if known is None:
            raise ApiProblem("not_found", f"There is no code {shortened(code)}.")
        return answer({"code": code, "status": known.status, "title": known.title, "way_out": known.way_out})


class NoSuchCall(OpenView):
    """Whatever else is asked for under /api/: refused like everything else, not with an HTML page."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise ApiProblem("not_found", f"There is no call {shortened(request.path)}; /api/docs/ lists them.")
