"""What every answer tells the browser: run and load nothing but our own files, frame us nowhere, keep no copy.

The first middleware, so that answers of every other one, and of faults in them, carry the headers too. Decision 18 says
why each is as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

ADMIN = "/admin/"  # as opsconductor/urls.py has it
GetResponse = Callable[[HttpRequest], HttpResponseBase]

# Nothing that this leaves out is allowed. `connect-src 'self'` holds for WebSockets of the same host and port, too.
_BASE = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "object-src": "'none'",
    "frame-ancestors": "'none'",
}
# The admin's Alpine makes functions of the expressions in its templates, which is eval to a browser. A script in the
# page is still refused there, and so is one from elsewhere; see decision 18 for what is left.
# It also writes the width of the bar of actions as an attribute `style`.
_ADMIN = _BASE | {"script-src": "'self' 'unsafe-eval'", "style-src-attr": "'unsafe-inline'"}

_EVERYWHERE = {
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "accelerometer=(), autoplay=(), browsing-topics=(), camera=(), display-capture=(), geolocation=(),"
        " gyroscope=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), usb=()"
    ),
    # Static files say themselves how long they may be kept. Everything else is somebody's: kept nowhere.
    "Cache-Control": "no-store",
}


class SecurityHeaders:
    """Adds the headers to whatever has not set them itself."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._of_pages, self._of_admin = policy(_BASE), policy(_ADMIN)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        _believe_no_stranger(request)
        response = self._get_response(request)
        in_admin = request.path_info.startswith(ADMIN)
        response.headers.setdefault("Content-Security-Policy", self._of_admin if in_admin else self._of_pages)
        for name, value in _EVERYWHERE.items():
            response.headers.setdefault(name, value)
        return response


def policy(directives: dict[str, str]) -> str:
    """Return the header's value. Where people sign in elsewhere, signing out leads there after a form was sent."""
    directives = dict(directives)
    if settings.OIDC is not None:
        issuer = urlsplit(settings.OIDC.issuer)
        directives["form-action"] += f" {issuer.scheme}://{issuer.netloc}"
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _believe_no_stranger(request: HttpRequest) -> None:
    """Forget what others than our own proxies say of how a request came in.

    Django believes X-Forwarded-Proto whoever sent it (SECURE_PROXY_SSL_HEADER): who reaches the web server past the
    proxy could pass plain HTTP off as HTTPS, and would get cookies and pages over it.
    """
    if "HTTP_X_FORWARDED_PROTO" in request.META and not _is_our_proxy(request.META.get("REMOTE_ADDR", "")):
        del request.META["HTTP_X_FORWARDED_PROTO"]


def _is_our_proxy(peer: str) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in settings.TRUSTED_PROXIES)
