"""HTTP requests: what is sent, what comes back, and what is known when nothing does."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest
import trustme

from executions.connectors import NO_TARGET, ErrorCode, HttpRequest, Invocation, Outcome, OutputCollector, Stop
from executions.connectors.http import HttpConnector
from tests.executions.connectors.recording import RecordingSink
from tests.executions.connectors.web_servers import (
    RawServer,
    WebServer,
    answer_in_another_language,
    read_then_hang_up,
    read_then_reset,
    read_then_stay_silent,
)

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def other_web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_web(authority: trustme.CA) -> Iterator[WebServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = WebServer(tls=context)
    yield server
    server.close()


@pytest.fixture
def start_raw() -> Iterator[Callable[[Callable[[socket.socket], None]], RawServer]]:
    servers: list[RawServer] = []

    def start(deal_with: Callable[[socket.socket], None]) -> RawServer:
        servers.append(RawServer(deal_with))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


StartRaw = Callable[[Callable[[socket.socket], None]], RawServer]


def make_connector(authority: trustme.CA | None = None, *, read_timeout_seconds: float = 5) -> HttpConnector:
    context = None
    if authority is not None:
        context = ssl.create_default_context()
        authority.configure_trust(context)
    return HttpConnector(
        allowed_networks=LOOPBACK,
        connect_timeout_seconds=2,
        read_timeout_seconds=read_timeout_seconds,
        ssl_context=context,
    )


async def send(
    connector: HttpConnector,
    url: str,
    method: str = "GET",
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    expect_status: tuple[int, ...] = (),
    timeout_seconds: float | None = None,
    stop: Stop | None = None,
) -> tuple[Outcome, RecordingSink]:
    sink = RecordingSink()
    request = HttpRequest(method, url, headers or {}, body, expect_status)
    invocation = Invocation(http=request, timeout_seconds=timeout_seconds)
    try:
        outcome = await connector.run(invocation, NO_TARGET, sink=sink, stop=stop or Stop(), fence=42)
    finally:
        await connector.close()
    return outcome, sink


async def test_an_answer_comes_back_with_its_body_and_status(web: WebServer) -> None:
    outcome, sink = await send(make_connector(), f"http://127.0.0.1:{web.port}/hello")

    assert (outcome.exit_code, outcome.error_code, outcome.stop_confirmed) == (0, None, None)
    assert sink.stdout == "hello\n"
    assert outcome.data["status_code"] == 200
    headers = outcome.data["headers"]
    assert isinstance(headers, dict)
    assert headers["content-type"] == "text/plain"
    assert headers["set-cookie"] == "[not kept]"
    assert isinstance(outcome.data["elapsed_seconds"], float)


async def test_method_headers_body_and_the_fence_are_sent(web: WebServer) -> None:
    outcome, _ = await send(
        make_connector(),
        f"http://127.0.0.1:{web.port}/hello?a=1",
        "POST",
        headers={"X-Token": "t", "opsconductor-fence": "1"},
        body=b"content",
    )

    assert outcome.exit_code == 0
    method, path, headers, body = web.seen[0]
    assert (method, path, body) == ("POST", "/hello?a=1", b"content")
    fences = [value for name, value in headers.items() if name.lower() == "opsconductor-fence"]
    assert (headers["X-Token"], fences) == ("t", ["42"])


@pytest.mark.parametrize(
    ("status", "expect", "exit_code"),
    [(204, (), 0), (299, (), 0), (404, (), 1), (500, (), 1), (404, (404,), 0), (200, (201, 202), 1), (302, (302,), 0)],
)
async def test_the_expected_status_decides_the_exit_code(
    web: WebServer, status: int, expect: tuple[int, ...], exit_code: int
) -> None:
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{web.port}/status/{status}", expect_status=expect)

    assert outcome.exit_code == exit_code
    assert outcome.error_code == (ErrorCode.UNEXPECTED_STATUS if exit_code else None)
    assert outcome.data["status_code"] == status
    if exit_code:
        assert f"answered {status}" in (outcome.error or "")


async def test_a_head_request_has_no_body(web: WebServer) -> None:
    outcome, sink = await send(make_connector(), f"http://127.0.0.1:{web.port}/hello", "HEAD")

    assert (outcome.exit_code, sink.writes) == (0, [])


@pytest.mark.parametrize(("path", "text"), [("gzip", "unpacked\n" * 1000), ("latin", "grün\n"), ("strange", "abc\n")])
async def test_bodies_are_unpacked_and_in_utf8(web: WebServer, path: str, text: str) -> None:
    outcome, sink = await send(make_connector(), f"http://127.0.0.1:{web.port}/{path}")

    assert (outcome.exit_code, sink.stdout) == (0, text)


async def test_a_body_that_cannot_be_unpacked_is_an_invalid_answer(web: WebServer) -> None:
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{web.port}/badgzip")

    assert (outcome.exit_code, outcome.error_code) == (None, ErrorCode.INVALID_ANSWER)


async def test_an_endless_answer_is_cut_off_at_the_limit(web: WebServer) -> None:
    connector = make_connector()
    chunks: list[str] = []
    collector = OutputCollector(lambda stream, text, count: chunks.append(text), max_bytes=1_000_000)
    invocation = Invocation(http=HttpRequest("GET", f"http://127.0.0.1:{web.port}/big"), max_output_bytes=1_000_000)
    outcome = await connector.run(invocation, NO_TARGET, sink=collector, stop=Stop(), fence=1)
    collector.finish()
    await connector.close()

    assert (outcome.exit_code, outcome.data["response_limit_reached"]) == (0, True)
    assert collector.truncated
    assert "output truncated" in chunks[-1]
    assert await asyncio.to_thread(web.was_hung_up.wait, 5)


async def test_cookies_of_one_request_are_not_sent_with_another(web: WebServer) -> None:
    connector = make_connector()
    for _ in range(2):
        request = HttpRequest("GET", f"http://127.0.0.1:{web.port}/hello")
        await connector.run(Invocation(http=request), NO_TARGET, sink=RecordingSink(), stop=Stop(), fence=1)
    await connector.close()

    assert all("Cookie" not in headers for _, _, headers, _ in web.seen)


async def test_a_proxy_in_the_workers_environment_is_not_used(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{web.port}/hello")

    assert outcome.exit_code == 0


async def test_urls_are_not_logged(web: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await send(make_connector(), f"http://127.0.0.1:{web.port}/hello?token=hunter2")

    assert "hunter2" not in caplog.text


# -- redirects -------------------------------------------------------------------------------------


async def test_redirects_are_followed_and_a_post_becomes_a_get_where_it_should(web: WebServer) -> None:
    web.redirects["hello"] = "/hello"
    for status, method in ((301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")):
        web.seen.clear()
        outcome, sink = await send(
            make_connector(), f"http://127.0.0.1:{web.port}/to/{status}/hello", "POST", body=b"content"
        )
        assert (outcome.exit_code, sink.stdout, outcome.data["redirects"]) == (0, "hello\n", 1)
        assert web.seen[1][0] == method
        assert web.seen[1][3] == (b"content" if method == "POST" else b"")


async def test_more_than_five_redirects_are_refused(web: WebServer) -> None:
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{web.port}/loop/1")

    assert (outcome.exit_code, outcome.error_code) == (None, ErrorCode.REDIRECT_REFUSED)
    assert len(web.seen) == 6


async def test_secrets_do_not_follow_a_redirect_to_another_host(web: WebServer, other_web: WebServer) -> None:
    web.redirects["other"] = f"http://127.0.0.1:{other_web.port}/hello"
    web.redirects["here"] = "/hello"
    secrets = {"Authorization": "Bearer s", "Cookie": "c=s", "X-Api-Key": "s", "Accept": "text/plain"}
    await send(make_connector(), f"http://user:s@127.0.0.1:{web.port}/to/302/other", headers=secrets)
    await send(make_connector(), f"http://127.0.0.1:{web.port}/to/302/here", headers=secrets)

    elsewhere = other_web.seen[0][2]
    assert elsewhere["Accept"] == "text/plain"
    assert elsewhere["OpsConductor-Fence"] == "42"
    assert not {"Authorization", "Cookie", "X-Api-Key"} & set(elsewhere)
    assert web.seen[2][1] == "/hello"
    assert web.seen[2][2]["X-Api-Key"] == "s"


async def test_a_body_does_not_follow_a_redirect_to_another_host(web: WebServer, other_web: WebServer) -> None:
    web.redirects["other"] = f"http://127.0.0.1:{other_web.port}/hello"
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{web.port}/to/307/other", "POST", body=b"secret")

    assert outcome.error_code is ErrorCode.REDIRECT_REFUSED
    assert other_web.seen == []


async def test_a_redirect_from_https_to_http_is_refused(
    secure_web: WebServer, web: WebServer, authority: trustme.CA
) -> None:
    secure_web.redirects["plain"] = f"http://localhost:{web.port}/hello"
    outcome, _ = await send(make_connector(authority), f"https://localhost:{secure_web.port}/to/302/plain")

    assert outcome.error_code is ErrorCode.REDIRECT_REFUSED
    assert "https to http" in (outcome.error or "")
    assert web.seen == []


async def test_a_redirect_to_a_refused_address_is_refused(web: WebServer) -> None:
    web.redirects["metadata"] = "http://169.254.169.254/latest/meta-data/"
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{web.port}/to/302/metadata")

    assert outcome.error_code is ErrorCode.REDIRECT_REFUSED
    assert "169.254.169.254" in (outcome.error or "")


async def test_a_post_that_was_answered_by_a_redirect_to_nowhere_may_have_happened(web: WebServer) -> None:
    web.redirects["nowhere"] = "http://127.0.0.1:1/"
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{web.port}/to/303/nowhere", "POST", body=b"x")

    assert outcome.error_code is ErrorCode.NO_ANSWER
    assert "may have taken effect" in (outcome.error or "")


# -- TLS -------------------------------------------------------------------------------------------


async def test_a_trusted_certificate_is_accepted(secure_web: WebServer, authority: trustme.CA) -> None:
    outcome, sink = await send(make_connector(authority), f"https://localhost:{secure_web.port}/hello")

    assert (outcome.exit_code, sink.stdout) == (0, "hello\n")
    assert secure_web.seen[0][2]["Host"] == f"localhost:{secure_web.port}"


async def test_an_unknown_authority_is_refused_before_anything_is_sent(secure_web: WebServer) -> None:
    outcome, _ = await send(make_connector(), f"https://localhost:{secure_web.port}/hello", "POST", body=b"secret")

    assert (outcome.exit_code, outcome.error_code) == (None, ErrorCode.TLS_FAILED)
    assert "unable to get local issuer certificate" in (outcome.error or "")
    assert secure_web.seen == []


async def test_a_certificate_of_another_name_is_refused(secure_web: WebServer, authority: trustme.CA) -> None:
    outcome, _ = await send(make_connector(authority), f"https://127.0.0.1:{secure_web.port}/hello")

    assert outcome.error_code is ErrorCode.TLS_FAILED
    assert secure_web.seen == []


async def test_https_to_a_server_without_tls_is_a_tls_failure(web: WebServer) -> None:
    outcome, _ = await send(make_connector(), f"https://127.0.0.1:{web.port}/hello")

    assert outcome.error_code is ErrorCode.TLS_FAILED


# -- trouble ---------------------------------------------------------------------------------------


async def test_a_refused_connection_is_known_to_have_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{port}/", "POST", body=b"x")

    assert outcome.error_code is ErrorCode.CONNECTION_REFUSED
    assert outcome.error_code.nothing_happened


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    outcome, _ = await send(make_connector(), "http://no-such-host.invalid/", "POST", body=b"x")

    assert outcome.error_code is ErrorCode.UNREACHABLE
    assert "no-such-host.invalid" in (outcome.error or "")


@pytest.mark.parametrize("deal_with", [read_then_hang_up, read_then_reset])
async def test_a_connection_lost_after_sending_is_no_answer(
    start_raw: StartRaw, deal_with: Callable[[socket.socket], None]
) -> None:
    server = start_raw(deal_with)
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{server.port}/", "POST", body=b"x")

    assert outcome.error_code is ErrorCode.NO_ANSWER
    assert not outcome.error_code.nothing_happened
    assert "may have taken effect" in (outcome.error or "")
    assert server.connections == 1, "it was sent again"


async def test_no_answer_in_time_is_no_answer(start_raw: StartRaw) -> None:
    server = start_raw(read_then_stay_silent)
    outcome, _ = await send(make_connector(read_timeout_seconds=0.2), f"http://127.0.0.1:{server.port}/", "POST")

    assert outcome.error_code is ErrorCode.NO_ANSWER


async def test_the_invocations_own_timeout_covers_the_whole(start_raw: StartRaw) -> None:
    server = start_raw(read_then_stay_silent)
    began_at = time.monotonic()
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{server.port}/", timeout_seconds=0.3)

    assert time.monotonic() - began_at < 2
    assert outcome.error_code is ErrorCode.NO_ANSWER
    assert "0.3 seconds" in (outcome.error or "")


async def test_an_answer_that_breaks_off_is_no_result(web: WebServer) -> None:
    outcome, sink = await send(make_connector(), f"http://127.0.0.1:{web.port}/halfway")

    assert (outcome.exit_code, outcome.error_code) == (None, ErrorCode.NO_ANSWER)
    assert outcome.data["status_code"] == 200
    assert sink.stdout == "the beginning"


async def test_an_answer_that_is_not_http_is_said_to_be_so(start_raw: StartRaw) -> None:
    server = start_raw(answer_in_another_language)
    outcome, _ = await send(make_connector(), f"http://127.0.0.1:{server.port}/")

    assert outcome.error_code is ErrorCode.INVALID_ANSWER


@pytest.mark.parametrize(
    ("method", "url", "headers"),
    [
        ("GET", "ftp://example.org/", {}),
        ("GET", "file:///etc/passwd", {}),
        ("GET", "gopher://127.0.0.1:6379/_FLUSHALL", {}),
        ("GET", "unix:///run/docker.sock", {}),
        ("GET", "http+unix://%2Frun%2Fdocker.sock/info", {}),
        ("GET", "http://", {}),
        ("GET", "http://[::1", {}),
        ("GET", "", {}),
        ("GET /x HTTP/1.1\r\nX:", "http://127.0.0.1/", {}),
        ("GET", "http://127.0.0.1/", {"X": "a\r\nHost: b"}),
        ("GET", "http://127.0.0.1/", {"X": "ü"}),
        ("GET", "http://127.0.0.1/", {"Transfer-Encoding": "chunked"}),
        ("GET", "http://127.0.0.1/", {"a b": "c"}),
        ("GET", "http://127.0.0.1/", {"Host": "internal.example"}),
    ],
)
async def test_a_request_that_cannot_be_sent_is_refused_with_a_sentence(
    method: str, url: str, headers: dict[str, str]
) -> None:
    outcome, _ = await send(make_connector(), url, method, headers=headers)

    assert outcome.error_code is ErrorCode.INVALID_INVOCATION
    assert outcome.error


# -- stop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "is_certain"), [("GET", True), ("POST", False)])
async def test_stop_aborts_a_request_at_once_and_says_whether_it_may_go_on(
    web: WebServer, method: str, is_certain: bool
) -> None:
    stop = Stop()
    running = asyncio.ensure_future(send(make_connector(), f"http://127.0.0.1:{web.port}/slow", method, stop=stop))
    assert await asyncio.to_thread(web.is_waiting.wait, 5)
    began_at = time.monotonic()
    stop.request("user")
    outcome, _ = await running

    assert time.monotonic() - began_at < 0.5
    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, is_certain)


async def test_stop_aborts_an_answer_that_is_still_coming(web: WebServer) -> None:
    stop, sink, connector = Stop(), RecordingSink(), make_connector()
    request = HttpRequest("GET", f"http://127.0.0.1:{web.port}/big")
    invocation = Invocation(http=request, max_output_bytes=10**12)
    running = asyncio.ensure_future(connector.run(invocation, NO_TARGET, sink=sink, stop=stop, fence=1))
    await sink.something_came.wait()
    stop.request("timeout")
    outcome = await running
    await connector.close()

    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, True)
    assert await asyncio.to_thread(web.was_hung_up.wait, 5)


def test_one_connector_serves_one_event_loop_after_another(web: WebServer) -> None:
    connector = make_connector()

    async def request_without_closing() -> Outcome:
        request = HttpRequest("GET", f"http://127.0.0.1:{web.port}/hello")
        outcome = await connector.run(Invocation(http=request), NO_TARGET, sink=RecordingSink(), stop=Stop(), fence=1)
        await connector.close()
        return outcome

    for _ in range(2):
        assert asyncio.run(request_without_closing()).exit_code == 0


async def test_many_requests_at_once_are_answered(web: WebServer) -> None:
    connector = make_connector()
    request = HttpRequest("GET", f"http://127.0.0.1:{web.port}/hello")
    outcomes = await asyncio.gather(
        *(
            connector.run(Invocation(http=request), NO_TARGET, sink=RecordingSink(), stop=Stop(), fence=1)
            for _ in range(60)
        )
    )
    await connector.close()

    assert [outcome.exit_code for outcome in outcomes] == [0] * 60
