"""What a redirect makes of a request, and which redirects are not followed."""

from __future__ import annotations

from dataclasses import replace

import httpx

from executions.connectors.base import HttpRequest
from executions.connectors.http_target import HARMLESS_HEADERS

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_BODY_HEADERS = frozenset({"content-type", "content-encoding", "content-language"})


class RedirectRefused(Exception):
    """An answer points to somewhere that the request must not follow to. The text is the sentence for the operator."""


def follow(request: HttpRequest, status: int, location: str) -> HttpRequest:
    """The request that follows after an answer with this status and Location. Raises RedirectRefused.

    A body goes to the same origin only; 303, and 301 or 302 after a POST, mean "now read over there".
    """
    here = httpx.URL(request.url)
    try:
        there = here.join(location)
    except (httpx.InvalidURL, ValueError):
        raise RedirectRefused(f"{here.host} redirects to something that is no URL.") from None
    if there.scheme not in ("http", "https") or not there.host:
        raise RedirectRefused(f"{here.host} redirects to an address that is not HTTP.")
    if here.scheme == "https" and there.scheme == "http":
        raise RedirectRefused(f"{here.host} redirects from https to http: the request would go unprotected.")
    method, body, headers = request.method.upper(), request.body, dict(request.headers)
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if name.lower() not in _BODY_HEADERS}
    if _origin(here) != _origin(there):
        if method not in ("GET", "HEAD", "OPTIONS"):
            raise RedirectRefused(
                f"{here.host} redirects a {method} to {there.host}. If that is right, name {there.host} in the plan."
            )
        harmless = HARMLESS_HEADERS - request.private_headers
        headers = {name: value for name, value in headers.items() if name.lower() in harmless}
        body = None
        there = there.copy_with(userinfo=b"")
    elif here.userinfo and not there.userinfo:
        there = there.copy_with(userinfo=here.userinfo)
    return replace(request, method=method, url=str(there.copy_with(fragment=None)), headers=headers, body=body)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
