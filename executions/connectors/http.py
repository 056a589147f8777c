"""Sends HTTP requests, and knows for each failure whether the other side may have acted on it."""

from __future__ import annotations

import asyncio
import codecs
import logging
import re
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from executions.connectors.addresses import AddressPolicy, Network
from executions.connectors.base import ErrorCode, HttpRequest, Invocation, Outcome, OutputSink, Stop, Target
from executions.connectors.http_probe import probe_endpoint
from executions.connectors.http_target import NotAddressed, addressed, is_path
from executions.connectors.http_transport import AddressRefused, CheckedTransport, trusted_context
from executions.connectors.redirects import REDIRECT_STATUSES, RedirectRefused, follow

if TYPE_CHECKING:
    from executions.connectors.registry import Surroundings

FENCE_HEADER = "OpsConductor-Fence"
MAX_REDIRECTS = 5
# httpx logs every URL at INFO, and a URL may hold a token.
logging.getLogger("httpx").setLevel(logging.WARNING)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Set by the protocol itself. A plan that sets them could make two readers see two different requests, or reach a host
# that it did not name, behind an address that it may reach.
_FRAMING_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_KEPT_HEADERS = 40
_KEPT_HEADER_CHARACTERS = 512
_HIDDEN_HEADERS = frozenset({"set-cookie", "www-authenticate", "authorization"})
_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpx.HTTPError, ssl.SSLError)


class _RightIsOver(Exception):
    """The worker may not act any more, so the request was not sent."""


@dataclass(slots=True)
class _Progress:
    """How far the current request got, and whether an earlier one may have had an effect."""

    may_act: Callable[[], bool]
    began_at: float = field(default_factory=time.monotonic)
    where: str = ""
    phase: str = "connecting"  # connecting, securing, sent, answered
    is_safe: bool = True
    had_effect: bool = False  # an unsafe request was answered by a redirect to a page to read
    redirects: int = 0
    received_bytes: int = 0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        if event == "connection.start_tls.started":
            self.phase = "securing"
        elif event.endswith("send_request_headers.started"):
            # The last moment before the first byte. A worker that was frozen, and goes on after its lease, is stopped
            # here and not by its heart, which may wake up later. Frozen between this line and the next, it is only the
            # fence in the header that tells the other side.
            if not self.may_act():
                raise _RightIsOver
            self.phase = "sent"
        elif event.endswith("receive_response_headers.complete"):
            self.phase = "answered"

    @property
    def may_have_acted(self) -> bool:
        """Whether the other side may be, or have been, changing something of which we heard nothing."""
        return self.had_effect or (self.phase == "sent" and not self.is_safe)

    def data(self) -> dict[str, object]:
        data: dict[str, object] = {"elapsed_seconds": round(time.monotonic() - self.began_at, 4)}
        if self.status is not None:
            data |= {"status_code": self.status, "headers": self.headers, "received_bytes": self.received_bytes}
        if self.redirects:
            data["redirects"] = self.redirects
        if self.is_cut:
            data["response_limit_reached"] = True
        return data


class HttpConnector:
    """HTTP and HTTPS requests from this worker, to any address or to that of `target`.

    Only public addresses and those of `allowed_networks` are connected to. Certificates are always checked. No proxy,
    .netrc or cookie of the worker is used. The body of the answer goes to the sink as stdout, unpacked and in UTF-8.
    """

    def __init__(
        self,
        *,
        allowed_networks: Iterable[Network] = (),
        connect_timeout_seconds: float = 10.0,
        read_timeout_seconds: float = 60.0,
        total_timeout_seconds: float = 600.0,
        ssl_context: ssl.SSLContext | None = None,
        may_act: Callable[[], bool] = lambda: True,
    ) -> None:
        """`read_timeout_seconds`: between two parts of an answer; the total covers redirects and the body, too, and
        an invocation's own timeout takes its place. `may_act` is asked before each request is sent."""
        self._policy = AddressPolicy(allowed_networks)
        self._total_timeout_seconds = total_timeout_seconds
        self._timeouts = httpx.Timeout(
            connect=connect_timeout_seconds, read=read_timeout_seconds, write=read_timeout_seconds, pool=None
        )
        self._ssl_context = ssl_context
        self._may_act = may_act
        # A client belongs to the event loop it was first used on, and a worker may have one after the other.
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bool, httpx.AsyncClient]] = (
            weakref.WeakKeyDictionary()
        )

    async def close(self) -> None:
        """Close the connections of this event loop. The next request opens new ones."""
        for client in self._clients.pop(asyncio.get_running_loop(), {}).values():
            await client.aclose()

    async def run(self, invocation: Invocation, target: Target, *, sink: OutputSink, stop: Stop, fence: int) -> Outcome:
        """Send `invocation.http`. exit_code is 0 for an expected status, 1 for another. Raises what the sink raises."""
        request = invocation.http
        if request is not None and is_path(request.url):
            try:
                request = addressed(request, target)
            except NotAddressed as error:
                return Outcome(None, error.code, str(error))
        request = request and _with_private_headers(request, invocation.secret_values)
        problem = _problem_of(request)
        if request is None or problem is not None:
            return Outcome(None, ErrorCode.INVALID_INVOCATION, problem)
        if stop.requested:
            return Outcome(None, ErrorCode.NOT_STARTED, "Not started: asked to stop before.", stop_confirmed=True)
        progress = _Progress(self._may_act)
        working = asyncio.ensure_future(self._request(request, invocation, progress, sink, fence))
        asked = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                outcome = working.result()
                return replace(outcome, stop_confirmed=True) if stop.requested else outcome
        finally:
            asked.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
        return _stopped(progress, stop)

    async def probe(self, target: Target, *, timeout_seconds: float) -> Outcome:
        """Connect to the target's port (443 when it names none), with TLS on those that are for it. Nothing is sent."""
        return await probe_endpoint(self._policy, self._context(), target, timeout_seconds)

    def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = trusted_context()
        return self._ssl_context

    async def _request(
        self, request: HttpRequest, invocation: Invocation, progress: _Progress, sink: OutputSink, fence: int
    ) -> Outcome:
        seconds = invocation.timeout_seconds or self._total_timeout_seconds
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await self._exchange(request, invocation.max_output_bytes, progress, sink, fence)
        except TimeoutError:
            if not deadline.expired():
                raise
            return _failed(progress, httpcore.ReadTimeout(f"no complete answer within {seconds:g} seconds"))
        except _RightIsOver:
            sentence = "Not sent: the worker's right to act had ended before. Another worker may take it."
            code = ErrorCode.STOPPED if progress.redirects else ErrorCode.NOT_STARTED
            return Outcome(None, code, sentence, stop_confirmed=not progress.may_have_acted, data=progress.data())
        except AddressRefused as refused:
            return _refused_address(progress, refused)
        except RedirectRefused as refused:
            return Outcome(None, ErrorCode.REDIRECT_REFUSED, str(refused), data=progress.data())
        except httpcore.LocalProtocolError as error:
            return Outcome(None, ErrorCode.INVALID_INVOCATION, f"The request cannot be sent like this: {error}.")
        except _FAILURES as error:
            return _failed(progress, error)

    async def _exchange(
        self, request: HttpRequest, max_bytes: int, progress: _Progress, sink: OutputSink, fence: int
    ) -> Outcome:
        while True:
            async with self._answer(request, progress, fence) as response:
                location = response.headers.get("location")
                is_redirect = response.status_code in REDIRECT_STATUSES and location is not None
                if not is_redirect or response.status_code in request.expect_status:
                    await _deliver_body(response, max_bytes, progress, sink)
                    return _judge(request, progress)
            following = follow(request, response.status_code, str(location))
            progress.had_effect = progress.had_effect or not (progress.is_safe or following.method == request.method)
            progress.redirects += 1
            if progress.redirects > MAX_REDIRECTS:
                raise RedirectRefused(f"{progress.where} redirects more than {MAX_REDIRECTS} times.")
            request = following

    @asynccontextmanager
    async def _answer(self, request: HttpRequest, progress: _Progress, fence: int) -> AsyncIterator[httpx.Response]:
        progress.is_safe = request.method.upper() in SAFE_METHODS
        progress.phase = "connecting"
        client = self._client(keep_alive=progress.is_safe)
        given = {name: value for name, value in request.headers.items() if name.lower() != FENCE_HEADER.lower()}
        built = client.build_request(
            request.method.upper(),
            request.url,
            headers={**given, FENCE_HEADER: str(fence)},
            content=request.body,
            extensions={"trace": progress.trace},
        )
        progress.where = f"{built.url.scheme}://{built.url.netloc.decode('ascii', 'replace')}"
        response = await client.send(built, stream=True, follow_redirects=False)
        progress.status = response.status_code
        progress.headers = _small(response.headers)
        try:
            yield response
        finally:
            await response.aclose()

    def _client(self, *, keep_alive: bool) -> httpx.AsyncClient:
        """A connection kept open may be closed by the server while a request is on its way: harmless for one that
        can be repeated. The others go over new connections, so that `no_answer` means what it says."""
        clients = self._clients.setdefault(asyncio.get_running_loop(), {})
        if keep_alive not in clients:
            context = self._context()
            clients[keep_alive] = httpx.AsyncClient(
                transport=CheckedTransport(self._policy, context, keep_alive=keep_alive),
                timeout=self._timeouts,
                trust_env=False,
                headers={"User-Agent": "OpsConductor", "Accept-Encoding": "gzip, deflate"},
                cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),  # one plan's is not another's
            )
        return clients[keep_alive]


def _problem_of(request: HttpRequest | None) -> str | None:
    if request is None:
        return "There is no HTTP request to send."
    try:
        url = httpx.URL(request.url)
    except (httpx.InvalidURL, TypeError, ValueError):
        return "The URL cannot be read. It must look like https://host/path."
    if url.scheme not in ("http", "https") or not url.host:
        return "The URL must begin with http:// or https:// and a host."
    if not request.method.isascii() or not request.method.isalpha():
        return "The method must be one word, such as GET."
    for name, value in request.headers.items():
        if name.lower() in _FRAMING_HEADERS:
            return f"The header {name} is set by the protocol and cannot be given."
        if not _HEADER_NAME.fullmatch(name) or not value.isascii() or any(character in value for character in "\r\n\0"):
            return f"The header {name!r} holds characters that no header can have."
    return None


def _with_private_headers(request: HttpRequest, secret_values: Sequence[str]) -> HttpRequest:
    """A secret is one in any header, also where the plan puts it into a User-Agent."""
    private = {name.lower() for name, value in request.headers.items() if any(s and s in value for s in secret_values)}
    return replace(request, private_headers=request.private_headers | private) if private else request


async def _deliver_body(response: httpx.Response, max_bytes: int, progress: _Progress, sink: OutputSink) -> None:
    transcode = _Transcoder(response.charset_encoding)
    async for part in response.aiter_bytes():
        progress.received_bytes += len(part)
        waiting = sink.write("stdout", transcode.feed(part))
        if waiting is not None:
            await waiting
        if progress.received_bytes > max_bytes:  # one part too many is given on, so that the sink sees it, too
            progress.is_cut = True
            return
    rest = transcode.finish()
    if rest:
        waiting = sink.write("stdout", rest)
        if waiting is not None:
            await waiting


class _Transcoder:
    """Text in a declared charset becomes UTF-8; everything else passes as it is."""

    def __init__(self, charset: str | None) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None
        if charset:
            try:
                info = codecs.lookup(charset)
                if info.name not in ("utf-8", "ascii") and getattr(info, "_is_text_encoding", True):
                    self._decoder = codecs.getincrementaldecoder(info.name)("replace")
            except (LookupError, ValueError):  # a server may name a charset that nobody knows
                self._decoder = None

    def feed(self, data: bytes) -> bytes:
        return data if self._decoder is None else self._decoder.decode(data).encode("utf-8", "replace")

    def finish(self) -> bytes:
        return b"" if self._decoder is None else self._decoder.decode(b"", final=True).encode("utf-8", "replace")


def _small(headers: httpx.Headers) -> dict[str, str]:
    return {
        name: "[not kept]" if name in _HIDDEN_HEADERS else value[:_KEPT_HEADER_CHARACTERS].replace("\0", "")
        for name, value in list(headers.items())[:_KEPT_HEADERS]
    }


def _judge(request: HttpRequest, progress: _Progress) -> Outcome:
    status = progress.status or 0
    if status in request.expect_status or (not request.expect_status and 200 <= status < 300):
        return Outcome(0, data=progress.data())
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    expected = ", ".join(map(str, request.expect_status)) or "200 to 299"
    sentence = f"{progress.where} answered {phrase}; expected was {expected}."
    return Outcome(1, ErrorCode.UNEXPECTED_STATUS, sentence, data=progress.data())


def _refused_address(progress: _Progress, refused: AddressRefused) -> Outcome:
    sentence = (
        f"{refused.host} stands for {refused.address}, {refused.kind}, which requests may not go to. If they should, "
        "an administrator can add its network to HTTP_ALLOWED_NETWORKS."
    )
    code = ErrorCode.REDIRECT_REFUSED if progress.redirects else ErrorCode.ADDRESS_NOT_ALLOWED
    return Outcome(None, code, sentence, data=progress.data())


def _failed(progress: _Progress, error: BaseException) -> Outcome:
    code, what = _classify(progress, error)
    if code.nothing_happened and progress.had_effect:
        code = ErrorCode.NO_ANSWER
    sentence = f"{progress.where} {what}."
    if progress.may_have_acted:
        sentence += " The request may have taken effect; look there before it is sent again."
    return Outcome(None, code, sentence, data=progress.data())


def _classify(progress: _Progress, error: BaseException) -> tuple[ErrorCode, str]:
    causes = list(_chain(error))
    reason = str(error) or type(error).__name__
    if progress.phase == "securing" or any(isinstance(cause, ssl.SSLError) for cause in causes):
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                reason = cause.verify_message
        code = ErrorCode.TLS_FAILED if progress.phase == "securing" else ErrorCode.NO_ANSWER
        return code, f"could not be talked to securely: {reason}"
    if progress.phase == "connecting":
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return ErrorCode.CONNECTION_REFUSED, "refuses connections on that port"
        if isinstance(error, httpcore.TimeoutException):
            return ErrorCode.UNREACHABLE, "could not be connected to in time"
        return ErrorCode.UNREACHABLE, f"cannot be reached: {reason}"
    if isinstance(error, httpx.DecodingError):
        return ErrorCode.INVALID_ANSWER, f"sent a body that cannot be unpacked: {reason}"
    if isinstance(error, httpcore.RemoteProtocolError) and "disconnected" not in reason and progress.phase == "sent":
        return ErrorCode.INVALID_ANSWER, f"did not answer in HTTP: {reason}"
    if progress.phase == "answered":
        return ErrorCode.NO_ANSWER, f"broke off in the middle of its answer: {reason}"
    if isinstance(error, httpcore.TimeoutException):
        return ErrorCode.NO_ANSWER, f"got the request and gave no answer in time: {reason}"
    return ErrorCode.NO_ANSWER, f"got the request and closed the connection without an answer: {reason}"


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


def _stopped(progress: _Progress, stop: Stop) -> Outcome:
    sentence = f"Stopped ({stop.reason})."
    if progress.may_have_acted:
        sentence += f" {progress.where} had the request already, and may still act on it."
    return Outcome(None, ErrorCode.STOPPED, sentence, stop_confirmed=not progress.may_have_acted, data=progress.data())


def make(surroundings: Surroundings) -> HttpConnector:
    return HttpConnector(allowed_networks=surroundings.allowed_networks, may_act=lambda: surroundings.may_act)
