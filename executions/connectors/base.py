"""What every connector takes and gives back: the words of the boundary between the engine and the outside world.

A connector carries out one invocation on one target and reports what it saw. It never decides whether that was a
success, never waits longer than the engine lets it (the engine asks it to stop), and never raises for trouble
outside: expected trouble is an `Outcome` with an `error_code`. An exception out of `run` is a bug, or `WardenLost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Protocol

DEFAULT_MAX_OUTPUT_BYTES = 50 * 1024 * 1024

Stream = Literal["stdout", "stderr"]
StopReason = Literal["user", "timeout", "lease_lost", "shutdown", "approval_withdrawn"]

_EMPTY: Mapping[str, str] = MappingProxyType({})
_NO_DATA: Mapping[str, object] = MappingProxyType({})


class ErrorCode(StrEnum):
    """Everything that can keep an invocation from giving a plain result. The list is closed.

    `nothing_happened` of a code says whether it is certain that the target was left alone.
    """

    COMMAND_NOT_FOUND = "command_not_found"  # nothing ran
    PERMISSION_DENIED = "permission_denied"  # nothing ran
    WORKING_DIRECTORY = "working_directory"  # cannot be entered; nothing ran
    ARGUMENTS_TOO_LONG = "arguments_too_long"  # the kernel refused argv and environment; nothing ran
    INVALID_INVOCATION = "invalid_invocation"  # e.g. a NUL byte in argv, no URL; nothing ran
    START_FAILED = "start_failed"  # this machine could not start it (processes or memory used up); nothing ran
    NOT_STARTED = "not_started"  # asked to stop before it began; nothing ran
    KILLED_BY_SIGNAL = "killed_by_signal"  # the command was ended by a signal: exit_code is 128 + its number
    STOPPED = "stopped"  # ended because the engine asked for it
    UNREACHABLE = "unreachable"  # name not resolved, no route, connecting timed out; nothing was sent
    CONNECTION_REFUSED = "connection_refused"  # nothing was sent
    ADDRESS_NOT_ALLOWED = "address_not_allowed"  # private, loopback, link-local ...; nothing was sent
    TLS_FAILED = "tls_failed"  # nothing of the request was sent
    REDIRECT_REFUSED = "redirect_refused"  # too many, or https to http
    NO_ANSWER = "no_answer"  # it was sent, the answer was lost: nobody knows whether it took effect
    INVALID_ANSWER = "invalid_answer"  # something answered that does not speak the protocol
    UNEXPECTED_STATUS = "unexpected_status"  # an HTTP status that is not expected

    @property
    def nothing_happened(self) -> bool:
        """True when it is certain that the target was not touched, so that trying again is safe."""
        return self in _NOTHING_HAPPENED

    @property
    def is_transient(self) -> bool:
        """True when the same invocation may well work later without anybody changing it."""
        return self in _TRANSIENT


_NOTHING_HAPPENED = frozenset(
    {
        ErrorCode.COMMAND_NOT_FOUND,
        ErrorCode.PERMISSION_DENIED,
        ErrorCode.WORKING_DIRECTORY,
        ErrorCode.ARGUMENTS_TOO_LONG,
        ErrorCode.INVALID_INVOCATION,
        ErrorCode.START_FAILED,
        ErrorCode.NOT_STARTED,
        ErrorCode.UNREACHABLE,
        ErrorCode.CONNECTION_REFUSED,
        ErrorCode.ADDRESS_NOT_ALLOWED,
        ErrorCode.TLS_FAILED,
    }
)
_TRANSIENT = frozenset(
    {ErrorCode.START_FAILED, ErrorCode.UNREACHABLE, ErrorCode.CONNECTION_REFUSED, ErrorCode.NO_ANSWER}
)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. `expect_status` empty means any of 200-299. What may hold a secret is in no repr."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: _EMPTY, repr=False)
    body: bytes | None = field(default=None, repr=False)
    expect_status: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Invocation:
    """What to do on a target, ready to be carried out: rendered, checked, secrets filled in.

    `timeout_seconds` is information for the far side; the engine keeps the time and asks to stop.
    `secret_values` are kept out of the repr, and so are stdin, environment and argv that may hold them.
    """

    argv: tuple[str, ...] = field(default=(), repr=False)
    stdin: bytes | None = field(default=None, repr=False)
    environment: Mapping[str, str] = field(default_factory=lambda: _EMPTY, repr=False)
    working_directory: str | None = None
    http: HttpRequest | None = field(default=None, repr=False)
    timeout_seconds: float | None = None
    max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES
    idempotent: bool = False
    secret_values: tuple[str, ...] = field(default=(), repr=False)


class Stop:
    """The engine's wish that an invocation ends. To be used from the event loop's thread only.

    The first reason stays: a timeout during a user's cancel is still that user's cancel. Only `lease_lost` takes over,
    and ends a grace that has begun, since a worker without its lease may not let anything go on.
    """

    __slots__ = ("_event", "_lease_lost", "grace_seconds", "reason")

    def __init__(self, *, grace_seconds: float | None = None) -> None:
        """`grace_seconds`: between the polite and the hard way; None leaves it to the connector and the reason."""
        self.reason: str | None = None
        self.grace_seconds = grace_seconds
        self._event = asyncio.Event()
        self._lease_lost = asyncio.Event()

    def request(self, reason: str) -> None:
        """Ask to stop because of `reason` (see StopReason). Asking again does no harm."""
        if self.reason is None or reason == "lease_lost":
            self.reason = reason
        self._event.set()
        if reason == "lease_lost":
            self._lease_lost.set()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> str:
        """Return the reason once somebody has asked."""
        await self._event.wait()
        return self.reason or "user"

    async def wait_for_lease_lost(self) -> None:
        """Return once the lease is lost, whatever was asked before."""
        await self._lease_lost.wait()


class OutputSink(Protocol):
    """Where output goes while it comes. Awaiting `write` is the back-pressure: the connector reads no further."""

    def write(self, stream: Stream, data: bytes) -> Awaitable[None] | None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a connector saw.

    exit_code      of the command (128 + N when signal N ended it), 0/1 for HTTP (status as expected or not), or None
    error_code     why there is no plain result; None when the command ended by itself, whatever its exit code
    error          one sentence for the operator, with what to do where that is known
    stop_confirmed None: was not asked to stop; True: nothing of it is left; False: something may still be going on
    data           small facts, e.g. HTTP status_code, headers, elapsed_seconds
    """

    exit_code: int | None
    error_code: ErrorCode | None = None
    error: str | None = None
    stop_confirmed: bool | None = None
    data: Mapping[str, object] = field(default_factory=lambda: _NO_DATA)


class Connector(Protocol):
    """Carries out invocations on targets of one kind. One instance serves many at the same time."""

    async def run(
        self, invocation: Invocation, target: Mapping[str, object], *, sink: OutputSink, stop: Stop, fence: int
    ) -> Outcome: ...
