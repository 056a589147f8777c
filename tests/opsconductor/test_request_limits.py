"""What is too large is refused before it is held, over real sockets to a real web process."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from opsconductor.request_limits import BATCH_BYTES, MIB, UNKNOWN_BYTES, USUAL_BYTES, Held, limit_for
from safety.accounts import issue_token
from safety.models import User
from tests.executions.live.rows import make_user
from tests.executions.live.web import WebProcess

pytestmark = pytest.mark.django_db(transaction=True)
SUBMIT, BATCH = "/api/v1/executions/", "/api/v1/executions/batch/"
DOORS = [(SUBMIT, USUAL_BYTES), (BATCH, BATCH_BYTES), ("/executions/new/", USUAL_BYTES)]


@pytest.fixture
def web(transactional_db: None) -> Iterator[WebProcess]:
    with WebProcess() as process:
        yield process


def connect(web: WebProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", web.port), timeout=20)


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode()


def answer(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Read one answer to its end."""
    reader = connection.makefile("rb")
    status = int(reader.readline().split()[1])
    headers = {}
    while line := reader.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    body = reader.read(int(headers["content-length"]))
    return status, headers, json.loads(body) if "json" in headers.get("content-type", "") else {}


def token_of(name: str = "alice") -> str:
    user: User = make_user(name, is_superuser=True)
    return f"Authorization: Bearer {issue_token(user)}"


@pytest.mark.parametrize("path", [SUBMIT, BATCH, "/login/", "/admin/login/", "/no/such/page/"])
def test_who_shows_nothing_is_refused_at_the_headers(web: WebProcess, path: str) -> None:
    with connect(web) as connection:
        connection.sendall(head(path, f"Content-Length: {64 * MIB}"))  # and not one byte of it
        status, headers, told = answer(connection)

    assert (status, told["code"], headers["content-type"]) == (413, "payload_too_large", "application/problem+json")
    assert told["how_to_fix"]
    assert headers["connection"] == "close"


@pytest.mark.parametrize(("path", "limit"), DOORS)
def test_every_door_has_its_limit(web: WebProcess, path: str, limit: int) -> None:
    with connect(web) as connection:
        connection.sendall(head(path, token_of(), f"Content-Length: {limit + 1}"))
        assert answer(connection)[0] == 413


def test_what_does_not_say_its_length_is_counted_as_it_comes(web: WebProcess) -> None:
    part = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with connect(web) as connection:
        connection.sendall(head(SUBMIT, "Transfer-Encoding: chunked") + part + part)
        status, _, told = answer(connection)

    assert (status, told["code"]) == (413, "payload_too_large")
    assert f"{UNKNOWN_BYTES:,}" in told["detail"]


def test_a_large_request_of_somebody_known_is_taken(web: WebProcess) -> None:
    """Also one that says nothing of its length."""
    body = b"[" + b" " * (USUAL_BYTES // 2) + b"]"
    token = token_of()
    for encoding, sent in (
        (f"Content-Length: {len(body)}", body),
        ("Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)),
    ):  # fmt: skip
        with connect(web) as connection:
            connection.sendall(head(SUBMIT, token, encoding) + sent)
            status, _, told = answer(connection)
        assert (status, told["code"]) == (400, "malformed_body")  # it was read, and is no object


def most_memory(process_id: int) -> int:
    """The most bytes that a process ever had in memory."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc, which tells the peak of a process")
def test_twenty_strangers_who_send_a_lot_cost_next_to_nothing(web: WebProcess) -> None:
    """Each sends a body of 16 MiB to its end, half of them without saying its length."""
    assert web.process is not None
    with connect(web) as connection:
        connection.sendall(head("/healthz", "Connection: close", method="GET"))
        assert answer(connection)[0] == 200
    before = most_memory(web.process.pid)
    piece = b" " * 0x10000

    def send(number: int) -> None:
        chunked = number % 2 == 1
        with connect(web) as connection, suppress(OSError):  # being cut is as good as being answered
            connection.sendall(head(SUBMIT, "Transfer-Encoding: chunked" if chunked else f"Content-Length: {16 * MIB}"))
            for _ in range(16 * MIB // len(piece)):
                connection.sendall(b"10000\r\n" + piece + b"\r\n" if chunked else piece)
            connection.sendall(b"0\r\n\r\n" if chunked else b"")
            connection.recv(1)

    with ThreadPoolExecutor(20) as strangers:
        list(strangers.map(send, range(20)))
    grown = most_memory(web.process.pid) - before

    assert grown < 20 * MIB, f"{grown / MIB:.0f} MiB"


def test_the_server_does_not_say_what_it_is(web: WebProcess) -> None:
    with connect(web) as connection:
        connection.sendall(head("/healthz", method="GET"))
        assert "server" not in answer(connection)[1]


def test_headers_beyond_measure_are_refused(web: WebProcess) -> None:
    with connect(web) as connection:
        connection.sendall(head("/healthz", f"X-Long: {'x' * 20_000}", method="GET"))
        assert connection.recv(64).startswith((b"HTTP/1.1 4", b""))
    with connect(web) as connection:  # and it goes on serving
        connection.sendall(head("/healthz", method="GET"))
        assert answer(connection)[0] == 200


def test_a_json_that_is_nested_without_end_is_refused(web: WebProcess) -> None:
    body = b'{"plan": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with connect(web) as connection:
        connection.sendall(head(SUBMIT, token_of(), f"Content-Length: {len(body)}") + body)
        status, _, told = answer(connection)

    assert (status, told["code"]) == (400, "malformed_body")


def test_what_all_large_bodies_hold_together_has_an_end() -> None:
    held = Held(most=10)

    assert held.take(6)
    assert not held.take(5)
    held.give_back(6)
    assert held.take(10)


def test_only_the_batch_is_larger_and_only_for_somebody_known() -> None:
    assert limit_for(b"/api/v1/executions/batch/?x=1", shows_who=True) == BATCH_BYTES
    assert limit_for(b"/api/v1/executions/batch", shows_who=True) == BATCH_BYTES
    assert limit_for(b"/api/v1/executions/batch/", shows_who=False) == UNKNOWN_BYTES
    assert limit_for(b"/admin/", shows_who=True) == USUAL_BYTES
