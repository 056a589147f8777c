"""Real HTTP servers for the tests: well-behaved ones, and sockets that misbehave in a given way."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.seen.append((self.command, self.path, dict(self.headers.items()), body))
        route = self.path.split("?")[0].strip("/").split("/")
        getattr(self, f"answer_{route[0] or 'hello'}")(*route[1:])

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_any

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_hello(self) -> None:
        self.reply(200, b"hello\n", Content_Type="text/plain", Set_Cookie="session=secret; Path=/")

    def answer_status(self, status: str) -> None:
        self.reply(int(status), b"body\n")

    def answer_to(self, status: str, *target: str) -> None:
        self.reply(int(status), Location=self.server.redirects["/".join(target)])

    def answer_loop(self, number: str) -> None:
        self.reply(302, Location=f"/loop/{int(number) + 1}")

    def answer_gzip(self) -> None:
        self.reply(200, gzip.compress(b"unpacked\n" * 1000), Content_Encoding="gzip")

    def answer_badgzip(self) -> None:
        self.reply(200, b"this is not gzip", Content_Encoding="gzip")

    def answer_latin(self) -> None:
        self.reply(200, "grün\n".encode("latin-1"), Content_Type="text/plain; charset=iso-8859-1")

    def answer_strange(self) -> None:
        self.reply(200, b"abc\n", Content_Type="text/plain; charset=rot13")

    def answer_big(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * 65536)
                self.server.sent_bytes += 65536
        except OSError:
            self.server.was_hung_up.set()

    def answer_slow(self) -> None:
        self.server.is_waiting.set()
        self.server.go_on.wait(10)
        try:
            self.reply(200, b"late\n")
        except OSError:
            pass

    def answer_halfway(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"the beginning")
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


class WebServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.redirects: dict[str, str] = {}
        self.sent_bytes = 0
        self.is_waiting = threading.Event()
        self.go_on = threading.Event()
        self.was_hung_up = threading.Event()
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients of these tests hang up as they like

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def close(self) -> None:
        self.go_on.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class RawServer:
    """Accepts one connection after the other and does with it what it was told."""

    def __init__(self, deal_with: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._deal_with = deal_with
        self.connections = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                try:
                    self._deal_with(connection)
                except OSError:
                    pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def read_then_hang_up(connection: socket.socket) -> None:
    connection.recv(65536)


def read_then_reset(connection: socket.socket) -> None:
    connection.recv(65536)
    # Closing with a linger of zero seconds sends a reset.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def read_then_stay_silent(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.settimeout(5)
    try:
        while connection.recv(65536):
            time.sleep(0.01)
    except TimeoutError:
        pass


def answer_in_another_language(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
