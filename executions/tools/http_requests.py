"""An HTTP request from a tool's inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from executions.connectors.base import HttpRequest
from executions.tools.schema import HttpSpec


def build_request(spec: HttpSpec, inputs: Mapping[str, Any]) -> HttpRequest:
    """The request that `inputs`, checked and rendered, ask for. `spec` says which input is which part.

    A body that is text goes as it is, in UTF-8; any other is sent as JSON and says so in its Content-Type, unless the
    headers already have one.
    """
    headers: Mapping[str, str] = inputs.get(spec.headers, {}) if spec.headers else {}
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
        url=inputs[spec.url],
        headers=headers,
        body=body,
        expect_status=tuple(inputs.get(spec.expect_status, ())) if spec.expect_status else (),
    )
