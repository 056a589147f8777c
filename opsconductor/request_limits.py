"""How much the web server takes in of a request, before anything has looked at it.

Daphne receives a body whole and hands it on through memory, whoever sent it; Django's own limits come after that. So
the limit is here: at the headers where they say the length, and byte by byte where they do not (chunked). What is too
large is answered at once, and what is still sent is thrown away as it comes.
"""

from __future__ import annotations

import json
from typing import Any, cast

import daphne.server
from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet import reactor

from executions.api.problems import describe

KIB, MIB = 1024, 1024 * 1024
# Who shows neither a token nor a session can fill in the sign-in form.
UNKNOWN_BYTES = 64 * KIB
# A plan has 1 MiB at most, and up to three times that in a form.
USUAL_BYTES = 4 * MIB
BATCH_PATH, BATCH_BYTES = b"/api/v1/executions/batch", 64 * MIB  # 1,000 plans
# All large bodies together, from their first byte to the end of their answer. A forged token can take this up and keep
# other large requests waiting; it cannot take the machine's memory.
HELD_BYTES = 256 * MIB
SMALL_BYTES = 64 * KIB  # bodies up to this are not counted
RECEIVE_SECONDS = 120  # for a whole body: who drips one in is not waited for
LINGER_SECONDS = 3  # after a refusal, so that it is read before the connection is cut


class Held:
    """The bytes of large bodies that this process holds now. Used in the event loop's thread alone."""

    def __init__(self, most: int = HELD_BYTES) -> None:
        self.most = most
        self.now = 0

    def take(self, count: int) -> bool:
        if self.now + count > self.most:
            return False
        self.now += count
        return True

    def give_back(self, count: int) -> None:
        self.now -= count


held = Held()


def limit_for(path: bytes, *, shows_who: bool) -> int:
    """Return how many bytes of body a request to this path may have."""
    if not shows_who:
        return UNKNOWN_BYTES
    return BATCH_BYTES if path.partition(b"?")[0].rstrip(b"/") == BATCH_PATH else USUAL_BYTES


class LimitedRequest(WebRequest):
    """A request that is refused as soon as it is known to be too large."""

    _limit = UNKNOWN_BYTES
    _received = 0
    _taken = 0
    _is_refused = False
    _give_up: Any = None  # a call of the reactor

    def gotLength(self, length: int | None) -> None:
        """The headers are there. `length` is None when they do not say it."""
        self._limit = limit_for(self.channel._path, shows_who=self._shows_who())
        if length is not None and length > self._limit:
            self._refuse("payload_too_large", f"The body has {length:,} bytes; {self._limit:,} are taken here.")
        elif length is not None and not self._hold(length):
            self._refuse("overloaded", "Too many large requests are being received.")
        if length != 0 and not self._is_refused:
            self._give_up = cast(Any, reactor).callLater(RECEIVE_SECONDS, self._cut)
        super().gotLength(0 if self._is_refused else length)

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body."""
        if self._is_refused:
            return
        self._received += len(data)
        if self._received > self._limit:
            self._refuse("payload_too_large", f"The body has more than {self._limit:,} bytes, which are taken here.")
        elif not self._hold(self._received):
            self._refuse("overloaded", "Too many large requests are being received.")
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of it is there."""
        self._stop_waiting()
        if not self._is_refused:
            super().requestReceived(command, path, version)

    def finish(self) -> None:
        self._release()
        super().finish()

    def connectionLost(self, reason: Any) -> None:
        self._stop_waiting()
        self._release()
        super().connectionLost(reason)

    def _shows_who(self) -> bool:
        cookies = b";".join(self.requestHeaders.getRawHeaders(b"cookie", []))
        return self.requestHeaders.hasHeader(b"authorization") or b"sessionid=" in cookies

    def _hold(self, count: int) -> bool:
        """Count a body that has grown to `count` bytes."""
        more = count - self._taken
        if count <= SMALL_BYTES or more <= 0:
            return True
        if not held.take(more):
            return False
        self._taken = count
        return True

    def _release(self) -> None:
        held.give_back(self._taken)
        self._taken = 0

    def _stop_waiting(self) -> None:
        if self._give_up is not None and self._give_up.active():
            self._give_up.cancel()

    def _refuse(self, code: str, detail: str) -> None:
        """Answer, read on without keeping anything, and cut the connection soon."""
        self._is_refused = True
        self._stop_waiting()
        self._release()
        told = describe(code, detail, instance=self.channel._path.partition(b"?")[0].decode("latin1")[:200])
        body = json.dumps(told).encode()
        head = [
            f"HTTP/1.1 {told['status']} Refused", "Content-Type: application/problem+json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store", "X-Content-Type-Options: nosniff", "Connection: close",
            *(["Retry-After: 5"] if told["status"] == 503 else []),
        ]  # fmt: skip
        transport = self.channel.transport
        transport.write("\r\n".join([*head, "", ""]).encode() + body)
        getattr(transport, "loseWriteConnection", transport.loseConnection)()
        cast(Any, reactor).callLater(LINGER_SECONDS, transport.abortConnection)

    def _cut(self) -> None:
        self._is_refused = True
        self._release()
        self.channel.transport.abortConnection()


class LimitedFactory(HTTPFactory):
    """Daphne's factory of HTTP connections, with our requests; what serves them is nobody's business."""

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        server.server_name = ""

    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = LimitedRequest
        return protocol


def install() -> None:
    """Have Daphne make its connections with these limits: it has no setting for its factory."""
    daphne.server.HTTPFactory = LimitedFactory
