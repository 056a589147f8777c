"""HTTP steps through a real worker, against a server that answers, keeps silent, breaks off or is not there."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from executions.models import Execution
from executions.services import approve, cancel, resolve
from queueing.models import DeadLetter
from safety.models import Tenant, User
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    step_statuses,
    target_of,
)
from tests.installations import free_port, wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: Counter[str] = Counter()
        self.let_go = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        name = self.path.strip("/")
        self.server.seen[name] += 1
        if name.startswith("silent"):
            self.server.let_go.wait(30)
        if name.startswith(("silent", "hang-up")):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if name.startswith("garbage"):
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            self.close_connection = True
            return
        self.send_response(503 if name.startswith("down") else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.let_go.set()
    server.shutdown()
    server.server_close()


def request(key: str, url: str, method: str = "GET", **fields: Any) -> dict[str, Any]:
    return {"id": key, "tool": "http", "inputs": {"method": method, "url": url}, **fields}


@pytest.fixture
def post(begin: Begin) -> Begin:
    """As `begin`, and approved: what is sent to a URL is in no development environment."""
    approver = User.objects.create_superuser(
        "approver", password="not-a-password", tenant=Tenant.objects.get(name="default")
    )

    def post(*steps: dict[str, Any]) -> int:
        execution_id = begin(*steps)
        if Execution.objects.get(pk=execution_id).status == "pending_approval":
            approve(execution_id, by=approver, comment="")
        return execution_id

    return post


RETRY = {"max_attempts": 3, "delay_seconds": 0.1}


def test_a_post_whose_answer_is_lost_is_not_sent_again(workers: Workers, post: Begin, server: Server) -> None:
    workers.start(WORKER_PROCESSES="1", HTTP_ALLOWED_NETWORKS="127.0.0.0/8")
    nobody = f"http://127.0.0.1:{free_port()}/"
    lost = [
        post(request("post", server.url("hang-up-post"), "POST", retry=RETRY), request("next", server.url("never"))),
        post(request("post", server.url("garbage-post"), "POST", retry=RETRY)),
        post(request("post", server.url("silent-post"), "POST", retry=RETRY, timeout_seconds=1)),
    ]
    repeated = post(request("get", server.url("hang-up-get"), retry=RETRY))
    slow = post(request("get", server.url("silent-get"), timeout_seconds=1))
    down = post(request("post", server.url("down-post"), "POST", retry=RETRY))
    refused = post(request("post", nobody, "POST", retry=RETRY))
    fine = post(request("post", server.url("fine"), "POST"))

    for execution_id in lost:
        assert ended(execution_id).status == "needs_attention"
        assert DeadLetter.objects.get(execution_id=execution_id).reason == "outcome_unknown"
        assert target_of(execution_id, "post").attempt == 1
    assert step_statuses(lost[0]) == {"post": "unknown", "next": "pending"}
    assert target_of(lost[0], "post").error_code == "no_answer"
    assert ended(repeated).status == "failed"
    assert target_of(repeated, "get").error_code == "no_answer"
    assert ended(slow).status == "timed_out"
    assert ended(down).status == "failed"
    assert target_of(down, "post").error_code == "unexpected_status"
    assert ended(refused).status == "failed"
    assert target_of(refused, "post").error_code == "connection_refused"
    assert ended(fine).status == "succeeded"
    assert server.seen == {
        "hang-up-post": 1,
        "garbage-post": 1,
        "silent-post": 1,
        "hang-up-get": 3,
        "silent-get": 1,
        "down-post": 3,
        "fine": 1,
    }
    assert_nothing_left_behind()


def test_a_cancelled_post_that_was_sent_waits_for_a_person(
    workers: Workers, post: Begin, server: Server, requester: User
) -> None:
    workers.start(WORKER_PROCESSES="1", HTTP_ALLOWED_NETWORKS="127.0.0.0/8")
    posted = post(request("post", server.url("silent-post"), "POST"), request("next", server.url("never")))
    read = post(request("get", server.url("silent-get")))
    wait_until(lambda: server.seen["silent-post"] and server.seen["silent-get"], what="both requests")
    asked = time.monotonic()
    for execution_id in (posted, read):
        cancel(execution_id, by=requester, reason="enough")
    assert ended(read).status == "cancelled"
    assert ended(posted).status == "needs_attention"
    assert time.monotonic() - asked < 2
    assert step_statuses(posted) == {"post": "unknown", "next": "skipped"}
    resolve(posted, by=requester, step="post", outcome="failed", reason="it did nothing")
    wait_until(lambda: ended(posted).status != "needs_attention", what="the end")
    assert ended(posted).status == "failed"
    assert server.seen["never"] == 0
    assert_nothing_left_behind()
