"""What people see when something goes wrong, and what debug pages may tell.

No page here shows what was sent, a trace, or anything of the installation; each says a way out. Under /api/ the same is
said as a problem document. A fault of ours has a reference that is in the log as well: what to give to the operators.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import get_template
from django.views.debug import SafeExceptionReporterFilter

from executions.api.problems import problem

logger = logging.getLogger(__name__)

_HIDDEN = r"API|AUTH|CREDENTIAL|DATABASE|DSN|KEY|PASS|SECRET|SIGNATURE|TOKEN|URL|HTTP_COOKIE"


class QuietReporter(SafeExceptionReporterFilter):
    """Of debug pages: addresses of databases and whatever else may hold a password are not told either."""

    hidden_settings = re.compile(_HIDDEN, re.IGNORECASE)

    def is_active(self, request: HttpRequest | None) -> bool:
        """Whatever DEBUG says: variables that are marked as sensitive stay hidden."""
        return True


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """400: also for a host that is none of ours."""
    if _is_call(request):
        return problem("bad_request", "The request cannot be understood.", instance=request.path)
    return _page(
        request, 400, "The request cannot be understood", "It is malformed, too large, or meant for another host."
    )


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403."""
    if _is_call(request):
        return problem("forbidden", "You may not do this.", instance=request.path)
    return _page(
        request, 403, "You may not do this", "An administrator can give you the role or the right that it takes."
    )


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404: nothing is there, or it is not for this person to see: the two look the same."""
    if _is_call(request):
        return problem("not_found", "There is nothing here that you may see.", instance=request.path)
    return _page(request, 404, "There is nothing here", "It does not exist, or it is not for you to see.")


def form_token_missing(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403: a form without its token: an old page, a signed-out session, or another site's attempt."""
    logger.warning("A form was refused: %s", reason)
    if _is_call(request):
        return problem("csrf_failed", "The form token is missing or stale.", instance=request.path)
    return _page(
        request,
        403,
        "Nothing was sent",
        "The page was open for too long, or cookies are off. Open it again and repeat.",
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """500, with a reference that stands in the log beside the trace."""
    reference = secrets.token_hex(6)
    logger.error("Fault %s at %s %s", reference, request.method, request.path, exc_info=sys.exc_info())
    if _is_call(request):
        detail = f"Something went wrong on our side; it was logged as {reference}."
        return problem("internal_error", detail, instance=request.path)
    said = "It is our fault, not yours, and it was logged. What you sent may or may not have been carried out."
    return _page(request, 500, "Something went wrong on our side", said, reference=reference)


def _is_call(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def _page(request: HttpRequest, status: int, title: str, said: str, **more: str) -> HttpResponse:
    """Render without context processors: they ask for the user, and the database may be what is broken."""
    context = {"status": status, "title": title, "said": said, "home": settings.FORCE_SCRIPT_NAME or "/", **more}
    return HttpResponse(get_template("error.html").render(context), status=status)
