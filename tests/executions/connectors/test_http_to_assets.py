"""Requests to an asset that is an API: where they go, who they say is asking, and to whom that is never said."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from executions.connectors.base import NO_TARGET, Credential, ErrorCode, HttpRequest, Invocation, Outcome, Stop, Target
from executions.connectors.http import HttpConnector
from executions.connectors.http_target import addressed
from executions.tools.http_requests import build_request
from executions.tools.schema import HttpSpec
from tests.executions.connectors.recording import RecordingSink
from tests.executions.connectors.web_servers import WebServer

TOKEN = "t0ken-of-the-test"


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


def target(web: WebServer, **fields: Any) -> Target:
    known = {"name": "shop", "hostname": "127.0.0.1", "connection": "api", "service_type": "http", "port": web.port}
    return Target(**{**known, **fields})


async def send(where: Target, url: str = "/hello", **fields: Any) -> Outcome:
    return await run(Invocation(http=HttpRequest("GET", url, **{"with_credential": True, **fields})), where)


async def run(invocation: Invocation, where: Target = NO_TARGET) -> Outcome:
    connector = HttpConnector(allowed_networks=[ip_network("127.0.0.0/8")])
    try:
        return await connector.run(invocation, where, sink=RecordingSink(), stop=Stop(), fence=1)
    finally:
        await connector.close()


@pytest.mark.parametrize(
    ("credential", "fields", "name", "value"),
    [
        ({"bearer_token": TOKEN}, {}, "Authorization", f"Bearer {TOKEN}"),
        ({"api_key": TOKEN}, {}, "X-API-Key", TOKEN),
        ({"api_key": TOKEN}, {"api_key_header": "X-Shop-Key"}, "X-Shop-Key", TOKEN),
        ({"username": "u", "password": "p:"}, {}, "Authorization", f"Basic {b64encode(b'u:p:').decode()}"),
    ],
)
async def test_the_assets_credential_says_who_asks(
    web: WebServer, credential: dict[str, Any], fields: dict[str, Any], name: str, value: str
) -> None:
    outcome = await send(target(web, credential=Credential(**credential)), **fields)
    assert outcome.exit_code == 0
    method, path, headers, _ = web.seen[0]
    assert (method, path, headers[name]) == ("GET", "/hello", value)


async def test_a_user_name_may_be_the_assets(web: WebServer) -> None:
    await send(target(web, username="u", credential=Credential(password="p")))
    assert web.seen[0][2]["Authorization"] == f"Basic {b64encode(b'u:p').decode()}"


async def test_without_being_asked_for_no_credential_is_sent(web: WebServer) -> None:
    where = target(web, credential=Credential(bearer_token=TOKEN))
    await send(where, with_credential=False)
    await send(where, f"http://127.0.0.1:{web.port}/hello")  # a whole address is not known to be the asset's
    assert [TOKEN in str(headers) for _, _, headers, _ in web.seen] == [False, False]


async def test_a_credential_does_not_follow_to_another_place(web: WebServer) -> None:
    elsewhere = WebServer()
    web.redirects["elsewhere"] = f"http://127.0.0.1:{elsewhere.port}/hello"
    try:
        for credential in (Credential(bearer_token=TOKEN), Credential(api_key=TOKEN)):
            assert (await send(target(web, credential=credential), "/to/302/elsewhere")).exit_code == 0
        assert [TOKEN in str(headers) for _, _, headers, _ in elsewhere.seen] == [False, False]
    finally:
        elsewhere.close()


@pytest.mark.parametrize("header", ["User-Agent", "accept", "Content-Type"])
async def test_an_api_key_does_not_follow_to_another_place_whatever_its_header_is_called(
    web: WebServer, header: str
) -> None:
    elsewhere = WebServer()
    web.redirects["elsewhere"] = f"http://127.0.0.1:{elsewhere.port}/hello"
    spec, url = HttpSpec(method="GET", url="url", auth="auth"), f"http://127.0.0.1:{web.port}/to/302/elsewhere"
    said = build_request(spec, {"url": url, "auth": {"type": "api_key", "api_key": TOKEN, "header": header}})
    secret = HttpRequest("GET", url, headers={header: f"key {TOKEN}"})
    try:
        where = target(web, credential=Credential(api_key=TOKEN))
        assert (await send(where, "/to/302/elsewhere", api_key_header=header)).exit_code == 0
        assert (await run(Invocation(http=said))).exit_code == 0
        assert (await run(Invocation(http=secret, secret_values=(TOKEN,)))).exit_code == 0
        assert [TOKEN in str(headers) for _, _, headers, _ in web.seen] == [True, True, True]
        assert [TOKEN in str(headers) for _, _, headers, _ in elsewhere.seen] == [False, False, False]
    finally:
        elsewhere.close()


async def test_what_no_api_can_be_asked_with_is_not_sent(web: WebServer) -> None:
    outcome = await send(target(web, credential=Credential(private_key="k")))
    assert outcome.error_code == ErrorCode.CREDENTIAL_UNUSABLE
    assert outcome.error_code.nothing_happened
    assert web.seen == []


@pytest.mark.parametrize("where", [NO_TARGET, Target(name="web-1", hostname="127.0.0.1", connection="ssh")])
async def test_a_path_needs_an_asset_that_is_an_api(where: Target) -> None:
    outcome = await send(where)
    assert outcome.error_code == ErrorCode.NOT_SUPPORTED
    assert "relative to an asset with connection api" in str(outcome.error)


def at(**fields: Any) -> Target:
    return Target(name="shop", hostname="shop.example.org", connection="api", **fields)


@pytest.mark.parametrize(
    ("where", "url"),
    [
        (at(), "https://shop.example.org/a?b=c"),
        (at(port=8443), "https://shop.example.org:8443/a?b=c"),
        (at(port=8080, service_type="http"), "http://shop.example.org:8080/a?b=c"),
        (replace(at(), hostname="", ip_address="fe80::1", port=1), "https://[fe80::1]:1/a?b=c"),
    ],
)
def test_the_base_address_is_the_assets(where: Target, url: str) -> None:
    assert addressed(HttpRequest("GET", "/a?b=c"), where).url == url


async def test_a_credential_never_crosses_the_network_unprotected() -> None:
    where = at(service_type="http", credential=Credential(bearer_token=TOKEN))
    outcome = await send(where)
    assert outcome.error_code == ErrorCode.CREDENTIAL_UNUSABLE
    assert "unprotected" in str(outcome.error)
    assert TOKEN not in str(outcome)
    assert addressed(HttpRequest("GET", "/"), where).headers == {}
