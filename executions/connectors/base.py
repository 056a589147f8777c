"""What every connector takes and gives back: the words of the boundary between the engine and the outside world.

A connector carries out one invocation on one target and reports what it saw. It never decides whether that was a
success, never waits longer than the engine lets it (the engine asks it to stop), and never raises for trouble
outside: expected trouble is an `Outcome` with an `error_code`. An exception out of `run` is a bug, or `WardenLost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, Protocol

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
    FILES_CHANGED = "files_changed"  # what it takes in of the worker is not what the plan is bound to; nothing ran
    NOT_STARTED = "not_started"  # asked to stop before it began; nothing ran
    KILLED_BY_SIGNAL = "killed_by_signal"  # the command was ended by a signal: exit_code is 128 + its number
    STOPPED = "stopped"  # ended because the engine asked for it
    UNREACHABLE = "unreachable"  # name not resolved, no route, connecting timed out; nothing was sent
    CONNECTION_REFUSED = "connection_refused"  # nothing was sent
    ADDRESS_NOT_ALLOWED = "address_not_allowed"  # private, loopback, link-local ...; nothing was sent
    HOST_KEY_UNKNOWN = "host_key_unknown"  # nobody has said which key the host has; nothing was sent
    HOST_KEY_CHANGED = "host_key_changed"  # it is not the host that is known, or it was set up anew; nothing was sent
    AUTHENTICATION_FAILED = "authentication_failed"  # the host refused user name, password or key; nothing ran
    CREDENTIAL_UNUSABLE = "credential_unusable"  # none, or of a form that the connection cannot use; nothing was sent
    RUN_AS_REFUSED = "run_as_refused"  # sudo, or its like, refused; nothing ran
    NOT_SUPPORTED = "not_supported"  # this way of reaching the target cannot do that; nothing ran
    TLS_FAILED = "tls_failed"  # nothing of the request was sent
    REDIRECT_REFUSED = "redirect_refused"  # too many, or https to http
    NO_ANSWER = "no_answer"  # it was sent, the answer was lost: nobody knows whether it took effect
    CONNECTION_LOST = "connection_lost"  # broken in the middle: nobody knows how far it came
    DISK_FULL = "disk_full"  # no room for a file on the target; what was there is as it was
    CHECKSUM_MISMATCH = "checksum_mismatch"  # what arrived is not what was sent; what was there is as it was
    INVALID_ANSWER = "invalid_answer"  # something answered that does not speak the protocol
    UNEXPECTED_STATUS = "unexpected_status"  # an HTTP status that is not expected

    @property
    def nothing_happened(self) -> bool:
        """True when it is certain that the target was not touched, so that trying again is safe."""
        return self in _NOTHING_HAPPENED

    @property
    def is_unreachable(self) -> bool:
        """True when the target could not be talked to at all: told apart from a command that failed."""
        return self in _UNREACHABLE

    @property
    def is_transient(self) -> bool:
        """True when the same invocation may well work later without anybody changing it."""
        return self in _TRANSIENT

    @property
    def left_as_it_was(self) -> bool:
        """True when something may have been tried, but what it was about is certainly as it was."""
        return self in _NOTHING_HAPPENED or self in _UNDONE

    @property
    def is_hopeless(self) -> bool:
        """True when it ends in the same way until somebody changes something: trying again helps nobody, and may lock
        an account."""
        return self in _HOPELESS


_NOTHING_HAPPENED = frozenset(
    {
        ErrorCode.COMMAND_NOT_FOUND,
        ErrorCode.PERMISSION_DENIED,
        ErrorCode.WORKING_DIRECTORY,
        ErrorCode.ARGUMENTS_TOO_LONG,
        ErrorCode.INVALID_INVOCATION,
        ErrorCode.START_FAILED,
        ErrorCode.FILES_CHANGED,
        ErrorCode.NOT_STARTED,
        ErrorCode.UNREACHABLE,
        ErrorCode.CONNECTION_REFUSED,
        ErrorCode.ADDRESS_NOT_ALLOWED,
        ErrorCode.TLS_FAILED,
        ErrorCode.HOST_KEY_UNKNOWN,
        ErrorCode.HOST_KEY_CHANGED,
        ErrorCode.AUTHENTICATION_FAILED,
        ErrorCode.CREDENTIAL_UNUSABLE,
        ErrorCode.RUN_AS_REFUSED,
        ErrorCode.NOT_SUPPORTED,
    }
)
_UNREACHABLE = frozenset(
    {
        ErrorCode.UNREACHABLE,
        ErrorCode.CONNECTION_REFUSED,
        ErrorCode.ADDRESS_NOT_ALLOWED,
        ErrorCode.TLS_FAILED,
        ErrorCode.HOST_KEY_UNKNOWN,
        ErrorCode.HOST_KEY_CHANGED,
        ErrorCode.AUTHENTICATION_FAILED,
        ErrorCode.CREDENTIAL_UNUSABLE,
    }
)
_UNDONE = frozenset({ErrorCode.DISK_FULL, ErrorCode.CHECKSUM_MISMATCH})
_HOPELESS = frozenset(
    {
        ErrorCode.ARGUMENTS_TOO_LONG,
        ErrorCode.INVALID_INVOCATION,
        ErrorCode.FILES_CHANGED,
        ErrorCode.ADDRESS_NOT_ALLOWED,
        ErrorCode.HOST_KEY_UNKNOWN,
        ErrorCode.HOST_KEY_CHANGED,
        ErrorCode.AUTHENTICATION_FAILED,
        ErrorCode.CREDENTIAL_UNUSABLE,
        ErrorCode.RUN_AS_REFUSED,
        ErrorCode.NOT_SUPPORTED,
    }
)
_TRANSIENT = frozenset(
    {
        ErrorCode.START_FAILED,
        ErrorCode.UNREACHABLE,
        ErrorCode.CONNECTION_REFUSED,
        ErrorCode.NO_ANSWER,
        ErrorCode.CONNECTION_LOST,
    }
)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a target is reached with: the value of the secret that its asset names, for one attempt.

    What is absent is empty. agent: path of an SSH agent's socket on the worker. jump_hosts: to be passed in this
    order, each {host, port, username, password or private_key, passphrase, host_key}. sudo_password: for `run_as`.
    Nothing of it is in a repr.
    """

    username: str = field(default="", repr=False)
    domain: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    agent: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    bearer_token: str = field(default="", repr=False)
    sudo_password: str = field(default="", repr=False)
    jump_hosts: tuple[Mapping[str, object], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """The machine or endpoint that an invocation is carried out on; `NO_TARGET` for a tool that needs none.

    connection   how it is reached: local, ssh, powershell, api, or what an added connector calls it
    host_keys    OpenSSH public keys ("ssh-ed25519 AAAA...") or fingerprints ("SHA256:..."), any of which it may have
    credential   None when its asset names none
    """

    tenant_id: int = 0
    asset_id: int | None = None
    external_id: str = ""
    name: str = ""
    hostname: str | None = None
    ip_address: str | None = None
    connection: str = ""
    port: int | None = None
    username: str = ""
    domain: str = ""
    os_type: str = ""
    service_type: str = ""
    host_keys: tuple[str, ...] = ()
    credential: Credential | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """What to connect to: the IP address, else the host name, else the name."""
        return self.ip_address or self.hostname or self.name


NO_TARGET = Target()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be put in place on the target, in one move. `mode` octal; empty: as before, or by the umask."""

    path: str
    content: bytes = field(repr=False)
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """A PowerShell script. With `inputs` it is a program of the catalog, whose first argument is a table of them, and
    whose second is standard input as bytes; without, it is somebody's own, which finds its input as `$input`."""

    text: str = field(repr=False)
    inputs: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. `expect_status` empty means any of 200-299. What may hold a secret is in no repr.

    A url that begins with / is at the target, whose credential is sent there when `with_credential` says so; an API key
    goes into `api_key_header`. expect_json: what must hold of the answer's JSON, judged by the engine. private_headers:
    in lower case, those that a redirect takes to no other origin, whatever they are called.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: _EMPTY, repr=False)
    body: bytes | None = field(default=None, repr=False)
    expect_status: tuple[int, ...] = ()
    expect_json: tuple[Mapping[str, object], ...] = ()
    with_credential: bool = False
    api_key_header: str = "X-API-Key"
    private_headers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Invocation:
    """What to do on a target, ready to be carried out: rendered, checked, secrets filled in.

    `timeout_seconds` is information for the far side; the engine keeps the time and asks to stop.
    script: what a connector for Windows runs instead of argv, where the two differ.
    upload: the file that argv and stdin put in place, for a connector that can do so itself; argv does it elsewhere.
    files: what the files of the worker were, that it takes in, when the plan was accepted (contents.StoredFiles).
    run_as: the user on the target, by sudo or its like; empty: whoever the credential names.
    check: say what would change, change nothing.
    at_once: on how many targets of a group it may be carried out at the same time; None leaves it to the connector.
    `secret_values` are kept out of the repr, and so are stdin, environment and argv that may hold them.
    """

    argv: tuple[str, ...] = field(default=(), repr=False)
    stdin: bytes | None = field(default=None, repr=False)
    environment: Mapping[str, str] = field(default_factory=lambda: _EMPTY, repr=False)
    working_directory: str | None = None
    http: HttpRequest | None = field(default=None, repr=False)
    upload: Upload | None = field(default=None, repr=False)
    script: Script | None = field(default=None, repr=False)
    files: Mapping[str, Any] | None = None
    run_as: str = ""
    check: bool = False
    at_once: int | None = None
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
    """Carries out invocations on targets of one kind. One instance serves many at the same time.

    It is used on one event loop at a time. `fence` is the number of the lock that is held on the target.
    """

    async def run(
        self, invocation: Invocation, target: Target, *, sink: OutputSink, stop: Stop, fence: int
    ) -> Outcome: ...

    async def close(self) -> None:
        """Give up connections that are kept for later. Nothing runs any more when this is called."""


class GroupConnector(Protocol):
    """Carries out one invocation on many targets as one run, for tools that know of all their targets at once."""

    async def run_group(
        self,
        invocation: Invocation,
        targets: Sequence[Target],
        *,
        sinks: Sequence[OutputSink],
        stop: Stop,
        fence: int,
        on_outcome: Callable[[int, Outcome], None],
    ) -> None:
        """Call `on_outcome` once for each target, by its place in `targets`, as soon as it is known.

        Nothing is written to a target's sink after that. A target without an outcome when this returns is one of which
        nobody knows. No more than `invocation.at_once` targets are worked at at the same time.
        """
        ...

    async def close(self) -> None: ...


class CanProbe(Protocol):
    """What a connector has that can tell whether a target answers, without doing anything to it."""

    async def probe(self, target: Target, *, timeout_seconds: float) -> Outcome:
        """Connect and sign in, no more. exit_code 0 and `data` with what was learned, or an error_code."""
        ...


class ShowsHostKeys(Protocol):
    """What a connector has that can tell which host keys a target shows, without believing any of them."""

    async def show_host_keys(self, target: Target, *, timeout_seconds: float) -> Outcome:
        """exit_code 0 and `data` with host_keys: [{"base64", "fingerprint"}], the preferred first; or an error_code."""
        ...
