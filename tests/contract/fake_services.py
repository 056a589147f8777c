"""The two services as they answer today, each a real HTTP server in threads, and every way in which one can fail."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

NULLS = dict.fromkeys(
    (
        "hostname", "ip_address", "description", "tags", "device_type", "os_type", "os_version", "status",
        "environment", "criticality", "owner", "support_contact", "service_type", "port", "is_secure",
        "credential_type", "username", "domain", "secondary_service_type", "secondary_port", "additional_services",
        "is_active", "created_at", "updated_at", "serial_number", "location",
    )
)  # fmt: skip


def asset(number: int | str, name: str, **fields: Any) -> dict[str, Any]:
    """Return an asset as the service has it: most of it null."""
    return {"id": number, "name": name, **NULLS, **fields}


@dataclass
class Request:
    """What a server was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    client_port: int = 0


@dataclass
class Answer:
    """What it answers. `body` bytes go as they are; `then` is done with the connection instead of, or after, that."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    instead: Callable[[socket.socket], None] | None = None


def reset(connection: socket.socket) -> None:
    """End the connection with a reset, without a byte."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half_an_answer(connection: socket.socket) -> None:
    connection.sendall(
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"success": tr'
    )
    connection.shutdown(socket.SHUT_RDWR)


def never(connection: socket.socket) -> None:
    """Say nothing until the client has gone."""
    connection.settimeout(60)
    connection.recv(1)


def drip(connection: socket.socket) -> None:
    """A byte now and then, so that no silence is ever long."""
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(600):
            connection.sendall(b" ")
            time.sleep(0.05)
    except OSError:
        return


class Service(ThreadingHTTPServer):
    """A server that notes what it is asked. `planned` answers go out first, in order, whatever is asked."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.seen: list[Request] = []
        self.planned: list[Answer] = []
        self.always: Answer | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def answer_to(self, request: Request) -> Answer:
        with self._lock:
            self.seen.append(request)
            if self.planned:
                return self.planned.pop(0)
        return self.always or self.answer(request)

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.seen if request.path == path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no fault of the server."""


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        given = json.loads(body) if body else None
        answer = self.server.answer_to(
            Request(self.command, unquote(parts.path), query, dict(self.headers), given, self.client_address[1])
        )
        if answer.instead is not None:
            self.close_connection = True
            answer.instead(self.connection)
            return
        data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _serve


class FakeAssetService(Service):
    """GET / knows skip, limit, search, os_type, service_type and is_active, and ignores everything else."""

    def __init__(self, *assets: dict[str, Any]) -> None:
        super().__init__()
        self.assets = list(assets)
        self.credentials: dict[str, dict[str, Any]] = {}
        self.has_credentials = True  # newer versions only
        self.credentials_fail = 0  # so many times, from now on
        self.before_page: Callable[[int], None] = lambda skip: None

    def answer(self, request: Request) -> Answer:
        if request.path == "/":
            return self._list(request.query)
        if request.path == "/health":
            return Answer(body=_health("asset-service"))
        key, _, rest = request.path[1:].partition("/")
        found = next((one for one in self.assets if str(one["id"]) == key), None)
        if all(isinstance(one["id"], int) for one in self.assets) and not key.isdigit():
            fault = {"type": "int_parsing", "loc": ["path", "asset_id"], "msg": "not an integer", "input": key}
            return Answer(422, {"detail": [fault]})
        if rest == "credentials" and self.credentials_fail:
            self.credentials_fail -= 1
            return Answer(500, {"detail": "Internal Server Error"})
        if rest == "credentials" and self.has_credentials:
            given = self.credentials.get(key)
            return Answer(404, {"detail": "Asset not found"}) if given is None else _data(given)
        if found is None or rest:
            return Answer(404, {"detail": "Not Found" if rest else "Asset not found"})
        return _data(found)

    def _list(self, query: Mapping[str, str]) -> Answer:
        skip, limit = int(query.get("skip", 0)), int(query.get("limit", 100))
        if not (skip >= 0 and 1 <= limit <= 1000):
            return Answer(422, {"detail": [{"type": "range", "loc": ["query"], "msg": "out of range"}]})
        self.before_page(skip)
        words = query.get("search", "").lower()
        rows = [
            one
            for one in self.assets
            if any(words in str(one[name] or "").lower() for name in ("name", "hostname", "description"))
            and all(query.get(name, one[name]) == one[name] for name in ("os_type", "service_type"))
        ]
        page = {"assets": rows[skip : skip + limit], "total": len(rows), "skip": skip, "limit": limit}
        return _data(page)


def _data(data: Any) -> Answer:
    return Answer(body={"success": True, "data": data})


def _health(service: str) -> dict[str, Any]:
    return {
        "service": service, "status": "healthy", "version": "1.0.0", "timestamp": datetime.now(UTC).isoformat(),
        "checks": [{"name": "database", "status": "healthy", "details": None, "response_time_ms": 1.2}],
        "uptime_seconds": 12.5,
    }  # fmt: skip


class FakeAutomationService(Service):
    """POST /execute answers 200 even when the command failed, and echoes the command."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[dict[str, Any]] = []  # for the next commands; then every one succeeds
        self.running = threading.Event()
        self.go_on: threading.Event | None = None

    def answer(self, request: Request) -> Answer:
        if request.path == "/status":
            return Answer(
                body={
                    "service": "automation-service", "capabilities": ["command_execution"],
                    "connection_types": ["ssh", "powershell", "local"], "active_executions": 0, "total_executions": 1,
                }
            )  # fmt: skip
        if request.path != "/execute":
            return Answer(404, {"detail": "Not Found"})
        self.running.set()
        if self.go_on is not None:
            self.go_on.wait(60)
        with self._lock:
            result = self.results.pop(0) if self.results else {}
        now = datetime.now(UTC).isoformat()
        return Answer(
            body={
                "execution_id": str(uuid.uuid4()), "status": "success", "command": request.body["command"],
                "exit_code": 0, "stdout": "", "stderr": "", "started_at": now, "completed_at": now,
                "duration_seconds": 0.01, "error_message": None, **result,
            }
        )  # fmt: skip
