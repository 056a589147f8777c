"""A server that answers as Vault's HTTP API documents: AppRole login, tokens with leases, KV version 2, errors.

Not a store worth the name: it keeps everything in memory, and can be told to be sealed, slow, or of another opinion.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROLE_ID, SECRET_ID = "role-of-the-workers", "secret-id-of-the-workers"
POLICY = "secret/data/opsconductor/"


@dataclass
class Token:
    ends_at: float | None
    ttl_seconds: float
    largest_age_ends_at: float | None = None
    renewable: bool = True
    may_read: bool = True


@dataclass
class Behaviour:
    """What the server is told to do; `log` is what it was asked, `METHOD path`, in order."""

    sealed: bool = False
    status: int | None = None  # answer every request for a secret with this status
    delay: threading.Event | None = None  # hold requests for secrets back until it is set
    redirect_to: str = ""
    ttl_seconds: float = 3600
    largest_age_seconds: float | None = None
    log: list[str] = field(default_factory=list)


class VaultServer:
    """Runs in a thread of its own on a port of 127.0.0.1, with TLS when a context is given."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = Behaviour()
        self.tokens: dict[str, Token] = {"root-token": Token(None, 0, renewable=False)}
        self.secrets: dict[str, list[dict[str, Any]]] = {}
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        scheme = "http"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.address = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, path: str, data: dict[str, Any]) -> None:
        """Store a new version, as somebody else would."""
        with self.lock:
            self.secrets.setdefault(path, []).append({"data": data, "deletion_time": "", "destroyed": False})

    def delete_newest(self, path: str) -> None:
        with self.lock:
            self.secrets[path][-1]["deletion_time"] = "2026-11-25T10:00:00Z"

    def new_token(self, **fields: Any) -> str:
        told = self.behaviour
        value, now = f"hvs.{uuid.uuid4().hex}", time.monotonic()
        largest = now + told.largest_age_seconds if told.largest_age_seconds is not None else None
        with self.lock:
            self.tokens[value] = Token(now + told.ttl_seconds, told.ttl_seconds, largest, **fields)
        return value

    def end_all_tokens(self) -> None:
        with self.lock:
            self.tokens.clear()

    def count(self, ask: str) -> int:
        return sum(line == ask for line in self.behaviour.log)


class _Refused(Exception):
    def __init__(self, status: int, *errors: str, body: dict[str, Any] | None = None) -> None:
        self.status = status
        self.body = {"errors": list(errors)} if body is None else body


def _handler(vault: VaultServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None: ...

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            vault.behaviour.log.append(f"{self.command} {self.path}")
            try:
                status, answer = 200, self._answer(body)
            except _Refused as refused:
                status, answer = refused.status, refused.body
            if vault.behaviour.redirect_to and "/data/" in self.path:
                status = 307
            sent = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(204 if answer is None else status)
            if status == 307:
                self.send_header("Location", vault.behaviour.redirect_to)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _serve

        def _answer(self, body: dict[str, Any]) -> dict[str, Any] | None:
            if vault.behaviour.sealed:
                raise _Refused(503, "Vault is sealed")
            path = self.path.split("?")[0]
            if path == "/v1/auth/approle/login":
                return self._login(body)
            value, token = self._token()
            if path == "/v1/auth/token/lookup-self":
                left = 0 if token.ends_at is None else max(0, int(token.ends_at - time.monotonic()))
                return {"data": {"id": value, "ttl": left, "renewable": token.renewable, "policies": ["ops"]}}
            if path == "/v1/auth/token/renew-self":
                return self._renew(value, token)
            if vault.behaviour.delay is not None:
                vault.behaviour.delay.wait(30)
            if vault.behaviour.status is not None:
                raise _Refused(vault.behaviour.status, "told to")
            return self._secret(path, token, body)

        def _login(self, body: dict[str, Any]) -> dict[str, Any]:
            if (body.get("role_id"), body.get("secret_id")) != (ROLE_ID, SECRET_ID):
                raise _Refused(400, "invalid role or secret ID")
            return _auth(vault.new_token(), vault.behaviour.ttl_seconds)

        def _token(self) -> tuple[str, Token]:
            value = self.headers.get("X-Vault-Token") or ""
            with vault.lock:
                token = vault.tokens.get(value)
            if token is None or (token.ends_at is not None and token.ends_at <= time.monotonic()):
                raise _Refused(403, "permission denied")
            return value, token

        def _renew(self, value: str, token: Token) -> dict[str, Any]:
            if not token.renewable:
                raise _Refused(400, "lease is not renewable")
            now = time.monotonic()
            ends_at = now + token.ttl_seconds
            if token.largest_age_ends_at is not None:
                ends_at = min(ends_at, token.largest_age_ends_at)
            token.ends_at = ends_at
            return _auth(value, max(0.0, ends_at - now))

        def _secret(self, path: str, token: Token, body: dict[str, Any]) -> dict[str, Any] | None:
            mount, kind, name = path.removeprefix("/v1/").split("/", 2)
            if mount != "secret":
                raise _Refused(404, f'no handler for route "{path.removeprefix("/v1/")}". route entry not found.')
            if not token.may_read or not f"secret/data/{name}".startswith(POLICY):
                raise _Refused(403, "1 error occurred:\n\t* permission denied\n\n")
            with vault.lock:
                if kind == "data":
                    return self._data(name, body)
                return self._metadata(name)

        def _data(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
            versions = vault.secrets.setdefault(name, [])
            if self.command in ("POST", "PUT"):
                versions.append({"data": body["data"], "deletion_time": "", "destroyed": False})
                return {"data": {"version": len(versions), "deletion_time": "", "destroyed": False}}
            if not versions:
                raise _Refused(404)
            newest = versions[-1]
            metadata = {"version": len(versions), **{key: newest[key] for key in ("deletion_time", "destroyed")}}
            if newest["deletion_time"] or newest["destroyed"]:
                raise _Refused(404, body={"data": {"data": None, "metadata": metadata}})
            return {"data": {"data": newest["data"], "metadata": metadata}}

        def _metadata(self, name: str) -> dict[str, Any] | None:
            there = {path: versions for path, versions in vault.secrets.items() if versions}
            if self.command == "LIST" or "list=true" in self.path:
                folder = name.rstrip("/") + "/"
                below = sorted({_next(path[len(folder) :]) for path in there if path.startswith(folder)})
                if not below:
                    raise _Refused(404)
                return {"data": {"keys": below}}
            if name not in there:
                raise _Refused(404)
            if self.command == "DELETE":
                del vault.secrets[name]
                return None
            return {"data": {"current_version": len(there[name])}}

    return Handler


def _next(path: str) -> str:
    head, slash, _ = path.partition("/")
    return head + slash


def _auth(token: str, seconds: float) -> dict[str, Any]:
    return {"auth": {"client_token": token, "lease_duration": seconds, "renewable": True, "policies": ["ops"]}}
