"""What the clients of both services have in common: one request, its limits, its retries and its breaker.

Tried again by themselves are only GETs, and requests of which surely nothing was sent. Everything else is sent once: a
lost answer is told as such, and whoever asked decides what that means.
"""

from __future__ import annotations

import errno
import json
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from django.conf import settings

from executions.clients.breaker import Breaker
from executions.clients.pauses import LONGEST_RETRY_AFTER_SECONDS, backoff_seconds, retry_after_seconds
from executions.clients.traffic import Outcome, traffic
from executions.clients.transport import Call, NotingAdapter
from executions.clients.troubles import (
    AnswerLost,
    BadAnswer,
    BreakerOpen,
    Declined,
    GivenUp,
    NotReached,
    ServiceTrouble,
    Why,
)
from opsconductor.service_settings import ServiceSettings
from safety.masking import mask_text

CONNECT_SECONDS = 3.0
MOST_TRIES = 4
PROBE_SECONDS = 5.0
READ_BYTES = 64 * 1024
LARGEST_BYTES = 64 * 1024 * 1024
CONNECTIONS = 20  # kept open for GETs
LONGEST_DETAIL = 200
MASKED_DETAIL = 20_000  # how much of it is looked through

_TIMEOUTS = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)

TRACE_HEADER = "X-Trace-Id"
LONGEST_TRACE = 120
_CARRIED = re.compile(r"[!-~]")  # what a header can carry of an id that a caller chose
trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""What the requests of this thread or task belong to; each gets an id of its own where nothing is set."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take.

    read      seconds without a byte
    total     seconds for one try, whatever comes
    retries   seconds within which another try may begin
    waits_for_breaker  whether an open breaker is waited for, within `retries`
    """

    read: float = 10.0
    total: float = 20.0
    retries: float = 20.0
    waits_for_breaker: bool = False


AT_A_DOOR = Patience(read=5.0, total=8.0, retries=8.0)  # somebody waits for an answer of ours
IN_A_WORKER = Patience(read=10.0, total=20.0, retries=25.0, waits_for_breaker=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a status of the 200s."""

    service: str
    status: int
    body: bytes = field(repr=False)
    trace_id: str

    def object(self) -> dict[str, Any]:
        """Return the JSON object that the body is. Raises BadAnswer."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            raise BadAnswer(
                self.service, f"The {self.service} service answered with something that is no JSON."
            ) from None
        if not isinstance(value, dict):
            raise BadAnswer(self.service, f"The {self.service} service answered with JSON that is no object.")
        return value


class ServiceClient:
    """Asks one service. Used from many threads at once; one for each process.

    probe_path: a GET that does nothing, for a breaker that has been open.
    """

    def __init__(self, service: ServiceSettings, *, probe_path: str) -> None:
        self.name = service.name
        self.breaker = Breaker()
        self._service = service
        self._probe_path = probe_path
        self._kept_open = self._session()

    def get(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        patience: Patience,
        largest: int = LARGEST_BYTES,
    ) -> Reply:
        """GET, tried again while that may help. Raises ServiceTrouble."""
        return self._persist("GET", path, patience, Call(), params=params, largest=largest)

    def post(
        self, path: str, body: Mapping[str, Any], *, patience: Patience, call: Call, largest: int = LARGEST_BYTES
    ) -> Reply:
        """POST, sent once at most; tried again while surely nothing was sent. Raises ServiceTrouble.

        Over a connection of its own: one that was kept open may be closed over there at this moment, and whether the
        request still came in could not be known.
        """
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Connection": "close"}
        with self._session() as alone:
            return self._persist(
                "POST", path, patience, call, data=data, headers=headers, largest=largest, session=alone
            )

    def put_in_use(self) -> None:
        """Have reporting.py tell how this process finds the service."""
        in_use[self.name] = self

    def ask_if_due(self) -> None:
        """Probe, if the breaker has been open for long enough. Raises ServiceTrouble."""
        if self.breaker.is_due():
            self._pass_breaker(Call())

    def close(self) -> None:
        self._kept_open.close()

    def _session(self) -> requests.Session:
        session = requests.Session()
        # Neither another Authorization, from a .netrc, nor a proxy that would see credentials.
        session.trust_env = False
        session.verify = self._service.ca_file or True
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        token = self._service.token
        session.headers.update(
            {"User-Agent": f"OpsConductor/{settings.VERSION}", "Accept": "application/json"}
            | ({"Authorization": f"Bearer {token}"} if token else {})
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, NotingAdapter(pool_maxsize=CONNECTIONS))
        return session

    # -- tries --------------------------------------------------------------------------------------------------------

    def _persist(self, method: str, path: str, patience: Patience, call: Call, **request: Any) -> Reply:
        until = time.monotonic() + patience.retries
        tries = 0
        while True:
            try:
                self._pass_breaker(call)
                tries += 1
                return self._count_in(method, path, patience, call, **request)
            except BreakerOpen as trouble:
                if not patience.waits_for_breaker:
                    raise
                failure: ServiceTrouble = trouble
                pause = trouble.retry_after or 0.0
            except ServiceTrouble as trouble:
                if tries >= MOST_TRIES or not _may_try_again(method, trouble):
                    raise
                failure, pause = trouble, max(backoff_seconds(tries), trouble.retry_after or 0.0)
            if pause > LONGEST_RETRY_AFTER_SECONDS or time.monotonic() + pause > until:
                raise failure
            if not isinstance(failure, BreakerOpen):
                traffic.note_retry(self.name, _outcome(failure))
            if call.aborted.wait(pause):
                raise GivenUp(self.name, sent=False)

    def _pass_breaker(self, call: Call) -> None:
        """Return when the service may be asked. Raises BreakerOpen, GivenUp."""
        if call.aborted.is_set():
            raise GivenUp(self.name, sent=False)
        wait = self.breaker.wait_seconds()
        if wait is None:
            self._probe()
            return
        if wait > 0:
            reason = self.breaker.standing().reason
            raise BreakerOpen(
                self.name,
                f"The {self.name} service is left alone for {wait:.0f} s more, because it failed repeatedly: {reason}",
                retry_after=wait,
            )

    def _probe(self) -> None:
        """Ask once whether the service is well; the breaker hears of it however that ends. Raises NotReached."""
        reason: str | None = "The probe was interrupted."
        try:
            self._once("GET", self._probe_path, Patience(PROBE_SECONDS, PROBE_SECONDS), Call())
            reason = None
        except (Declined, BadAnswer):
            reason = None  # it answers
        except ServiceTrouble as trouble:
            reason = trouble.plain
            raise NotReached(self.name, trouble.message, plain=trouble.plain, why="breaker") from None
        finally:
            self.breaker.probed(reason)

    def _count_in(self, method: str, path: str, patience: Patience, call: Call, **request: Any) -> Reply:
        """One try, of which the breaker and the figures hear."""
        began = time.monotonic()
        outcome: Outcome = "bad_answer"
        try:
            reply = self._once(method, path, patience, call, **request)
            outcome = "ok"
            self.breaker.passed()
            return reply
        except ServiceTrouble as trouble:
            outcome = _outcome(trouble)
            if isinstance(trouble, Declined):
                self.breaker.passed()
            elif not isinstance(trouble, GivenUp):
                self.breaker.failed(trouble.plain)  # which /readyz tells everybody
            raise
        finally:
            traffic.note(self.name, outcome, time.monotonic() - began)

    # -- one try ------------------------------------------------------------------------------------------------------

    def _once(
        self,
        method: str,
        path: str,
        patience: Patience,
        call: Call,
        *,
        params: Mapping[str, str | int] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        largest: int = LARGEST_BYTES,
        session: requests.Session | None = None,
    ) -> Reply:
        trace = "".join(_CARRIED.findall(trace_id.get()))[:LONGEST_TRACE] or secrets.token_hex(16)
        limit = threading.Timer(patience.total, call.run_late)
        limit.daemon = True
        call.begin()
        limit.start()
        try:
            with (session or self._kept_open).request(
                method,
                self._service.url + path,
                params=dict(params or {}),
                data=data,
                headers={TRACE_HEADER: trace, **(headers or {})},
                timeout=(CONNECT_SECONDS, patience.read),
                allow_redirects=False,  # the token would go along
                stream=True,
            ) as response:
                body = b"".join(self._parts(response, largest))
                if call.late or call.aborted.is_set():
                    raise ConnectionAbortedError("cut")  # a body without a length looks whole when it is cut
                self._check_status(method, response, body)
                return Reply(self.name, response.status_code, body, trace)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._trouble(error, call, patience) from None
        finally:
            limit.cancel()
            call.end()

    def _parts(self, response: requests.Response, largest: int) -> Iterator[bytes]:
        size = 0
        while part := response.raw.read(READ_BYTES, decode_content=True):
            size += len(part)
            if size > largest:
                raise BadAnswer(self.name, f"The answer of the {self.name} service is larger than {largest:,} bytes.")
            yield part

    def _check_status(self, method: str, response: requests.Response, body: bytes) -> None:
        status, retry_after = response.status_code, retry_after_seconds(response.headers)
        if 200 <= status < 300:
            return
        plain = f"The {self.name} service answered {status}."
        said = f"{plain[:-1]}{_detail(body)}." if method == "GET" else plain
        if status >= 500:
            raise AnswerLost(self.name, said, plain=plain, retry_after=retry_after)
        if status >= 400:
            raise Declined(self.name, said, status, plain=plain, retry_after=retry_after)
        raise BadAnswer(self.name, said, plain=plain)

    def _trouble(self, error: Exception, call: Call, patience: Patience) -> ServiceTrouble:
        """Return what an exception of the HTTP client means. Its text, which may hold anything, is not told."""
        if call.aborted.is_set():
            return GivenUp(self.name, sent=call.sent)
        if call.sent:
            late = f"did not answer within {patience.total:.0f} s, or was silent for {patience.read:.0f} s"
            is_late = call.late or any(isinstance(cause, _TIMEOUTS) for cause in _causes(error))
            return AnswerLost(self.name, f"The {self.name} service {late if is_late else 'broke the connection off'}.")
        why, what = _why_not_reached(error)
        return NotReached(self.name, f"The {self.name} service {what}.", why=why)


in_use: dict[str, ServiceClient] = {}
"""The clients of this process by service; one that nobody has asked for is not there."""


def _may_try_again(method: str, trouble: ServiceTrouble) -> bool:
    if isinstance(trouble, NotReached):
        return trouble.why != "tls"
    if method != "GET":
        return False
    return isinstance(trouble, AnswerLost) or (isinstance(trouble, Declined) and trouble.status == 429)


def _outcome(trouble: ServiceTrouble) -> Outcome:
    kinds: tuple[tuple[type[ServiceTrouble], Outcome], ...] = (
        (NotReached, "not_reached"),
        (AnswerLost, "answer_lost"),
        (Declined, "declined"),
        (GivenUp, "given_up"),
    )
    return next((outcome for kind, outcome in kinds if isinstance(trouble, kind)), "bad_answer")


def _detail(body: bytes) -> str:
    """Return what a refusal says of itself, masked: a service may quote anything. Lists of faults are left out: they
    repeat what was sent."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    # Masked before it is cut, since half of a secret is found by nobody.
    return f" ({mask_text(detail[:MASKED_DETAIL])[:LONGEST_DETAIL]})" if isinstance(detail, str) else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception with those that it wraps: requests and urllib3 put one into the other in four ways."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]


def _why_not_reached(error: Exception) -> tuple[Why, str]:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "tls", f"has a certificate that cannot be trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "tls", "does not speak TLS as it should"
    if any(isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED for cause in causes):
        return "refused", "refuses connections: nothing listens at its address"
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "unreachable", "has a host name that cannot be resolved"
    return "unreachable", f"took no connection within {CONNECT_SECONDS:.0f} s"
