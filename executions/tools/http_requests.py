"""An HTTP request from a tool's inputs."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from executions.connectors.base import HttpRequest
from executions.connectors.http_target import is_path
from executions.tools.problems import Unfit
from executions.tools.schema import HttpSpec

DEFAULT_API_KEY_HEADER = "X-API-Key"


def build_request(spec: HttpSpec, inputs: Mapping[str, Any]) -> HttpRequest:
    """The request that `inputs`, checked and rendered, ask for. `spec` says which input is which part.

    A body that is text goes as it is, in UTF-8; any other is sent as JSON and says so in its Content-Type, unless the
    headers already have one. Raises Unfit, whose path is the input's name.
    """
    headers: Mapping[str, str] = inputs.get(spec.headers, {}) if spec.headers else {}
    url = inputs[spec.url]
    auth = inputs.get(spec.auth) if spec.auth else None
    who = _header_of(auth) if auth is not None else None
    at_target = is_path(url)
    said = False
    if headers and (auth is not None or at_target):
        said = any(header.lower() in ("authorization", who and who[0].lower()) for header in headers)
    if auth is not None and said:
        raise Unfit("says a second time who asks", "Keep auth, or the header.", spec.auth or "")
    if auth is not None and auth["type"] == "asset" and not at_target:
        raise Unfit(
            "would send the asset's credential to an address that is not known to be the asset's",
            "Write the url as a path, such as /health, and name the asset as the step's target.",
            spec.auth or "",
        )
    if who is not None:
        headers = {**headers, who[0]: who[1]}
    body: bytes | None = None
    for name in spec.body:
        if name not in inputs:
            continue
        value = inputs[name]
        if type(value) is str and name != "json":
            body = value.encode()
            continue
        body = json.dumps(value, allow_nan=False).encode()
        if not any(header.lower() == "content-type" for header in headers):
            headers = {**headers, "Content-Type": "application/json"}
    return HttpRequest(
        method=inputs.get(spec.method, spec.method),
        url=_with_query(url, inputs.get(spec.query, {}) if spec.query else {}),
        headers=headers,
        body=body,
        expect_status=tuple(inputs.get(spec.expect_status, ())) if spec.expect_status else (),
        expect_json=tuple(inputs.get(spec.expect_json, ())) if spec.expect_json else (),
        # At its own address an asset is asked with its own credential, unless the plan says who asks.
        with_credential=at_target and not said and (auth is None or auth["type"] == "asset"),
        private_headers=frozenset({who[0].lower()} if who is not None else ()),
        api_key_header=auth.get("header", DEFAULT_API_KEY_HEADER) if auth is not None else DEFAULT_API_KEY_HEADER,
    )


def _header_of(auth: Mapping[str, str]) -> tuple[str, str] | None:
    """The header by which the inputs themselves say who asks: RFC 6750, RFC 7617, or an API key."""
    kind = auth["type"]
    if kind in ("none", "asset"):
        return None
    if kind == "api_key":
        return auth.get("header", DEFAULT_API_KEY_HEADER), auth["api_key"]
    if kind == "bearer":
        return "Authorization", f"Bearer {auth['token']}"
    pair = f"{auth['username']}:{auth['password']}"
    return "Authorization", f"Basic {b64encode(pair.encode()).decode()}"


def _with_query(url: str, query: Mapping[str, str]) -> str:
    if not query:
        return url
    parts = urlsplit(url)
    joined = "&".join(part for part in (parts.query, urlencode(query)) if part)
    return urlunsplit(parts._replace(query=joined))
