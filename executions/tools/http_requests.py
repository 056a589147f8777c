"""An HTTP request from a tool's inputs."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from executions.connectors.base import HttpRequest
from executions.tools.problems import Unfit
from executions.tools.schema import HttpSpec


def build_request(spec: HttpSpec, inputs: Mapping[str, Any]) -> HttpRequest:
    """The request that `inputs`, checked and rendered, ask for. `spec` says which input is which part.

    A body that is text goes as it is, in UTF-8; any other is sent as JSON and says so in its Content-Type, unless the
    headers already have one. Raises Unfit, whose path is the input's name.
    """
    headers: Mapping[str, str] = inputs.get(spec.headers, {}) if spec.headers else {}
    if spec.auth and spec.auth in inputs:
        if any(header.lower() == "authorization" for header in headers):
            raise Unfit("says a second time who asks", "Keep auth, or the header Authorization.", spec.auth)
        headers = {**headers, "Authorization": _authorization(inputs[spec.auth])}
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
        url=_with_query(inputs[spec.url], inputs.get(spec.query, {}) if spec.query else {}),
        headers=headers,
        body=body,
        expect_status=tuple(inputs.get(spec.expect_status, ())) if spec.expect_status else (),
    )


def _authorization(auth: Mapping[str, str]) -> str:
    """RFC 6750 and RFC 7617."""
    if auth["type"] == "bearer":
        return f"Bearer {auth['token']}"
    pair = f"{auth['username']}:{auth['password']}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def _with_query(url: str, query: Mapping[str, str]) -> str:
    if not query:
        return url
    parts = urlsplit(url)
    joined = "&".join(part for part in (parts.query, urlencode(query)) if part)
    return urlunsplit(parts._replace(query=joined))
