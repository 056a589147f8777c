"""HTTP connections that know whether anything was sent, and can be cut by another thread.

Both are what `requests` does not tell: its exceptions look the same for a connection that broke before and after the
request was on its way, and a thread that waits for an answer waits until the time limit.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_current = threading.local()


class Call:
    """One request, with its tries. `abort` may be called from any thread, at any time, more than once.

    sent  whether a byte of the request that is on its way now, or was last, may have left
    late  whether it was cut because its time was up
    """

    def __init__(self) -> None:
        self.sent = False
        self.late = False
        self.aborted = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def abort(self) -> None:
        """Cut the connection, if there is one, and let no other begin."""
        self.aborted.set()
        self.cut()

    def run_late(self) -> None:
        self.late = True
        self.cut()

    def cut(self) -> None:
        """Cut the connection: whoever waits for it gets an error at once."""
        with self._lock:
            sock = self._socket
        if sock is not None:
            # Past SSLSocket.shutdown, which would take the TLS state from under the thread that reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def begin(self) -> None:
        self.sent = self.late = False
        _current.call = self

    def end(self) -> None:
        _current.call = None
        with self._lock:
            self._socket = None

    def uses(self, sock: socket.socket | None) -> None:
        with self._lock:
            self._socket = sock
        # After the entry, so that an abort either finds the connection or is found here.
        if self.aborted.is_set():
            raise ConnectionAbortedError("given up")


class _Noted:
    """Tells the call of this thread which connection it has, and when something is sent."""

    def connect(self: Any) -> None:
        super().connect()  # type: ignore[misc]
        if (call := getattr(_current, "call", None)) is not None:
            call.uses(self.sock)

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        if (call := getattr(_current, "call", None)) is not None:
            call.uses(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]

    def send(self: Any, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if (call := getattr(_current, "call", None)) is not None:
            call.sent = True
        super().send(data)  # type: ignore[misc]


class _Connection(_Noted, HTTPConnection):
    pass


class _SecureConnection(_Noted, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class NotingAdapter(HTTPAdapter):
    """The adapter of requests, with these connections. It never tries again by itself."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
