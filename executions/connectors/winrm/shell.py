"""The blocking side of the conversation with one machine: WinRS over HTTPS, by pypsrp. Runs in threads of the pool."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import requests
from pypsrp.exceptions import WSManFaultError
from pypsrp.shell import CommandState, SignalCode, WinRS
from pypsrp.wsman import WSMan

from executions.connectors.winrm.orders import COMMAND_LINE

# What they log at lower levels holds whole messages, and so whatever a script is told.
for _name in ("pypsrp", "spnego"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

CONNECT_SECONDS = 10
ANSWER_SECONDS = 20  # for everything but output, which comes when it comes
POLL_SECONDS = 10  # how long the machine waits with an answer until there is output
# After that long without a question from us, the machine ends the shell with all that runs in it. Less is not to be
# had: Windows takes shorter times for 60 s.
IDLE_SECONDS = 60

TIMED_OUT = 2150858793  # no output within POLL_SECONDS
SHELL_GONE = frozenset({2150858843, 2147943395, 995})  # not found; the operation was aborted
NOBODY_READS = frozenset({109, 232, 2147942509, 2147942632})  # the pipe has been ended, or is being closed
UTF_8 = 65001


class Abandoned(Exception):
    """The engine asked to stop before the machine had been told everything; so it does nothing."""


@dataclass(frozen=True, slots=True)
class Login:
    """Where to, and as whom. `authentication`: negotiate, ntlm, kerberos, basic or certificate."""

    host: str
    port: int
    authentication: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    authorities: str | bool = True  # the file of the authorities that may have signed the machine's certificate


@dataclass(frozen=True, slots=True)
class Received:
    stdout: bytes
    stderr: bytes
    is_done: bool
    exit_code: int | None


class RemoteShell:
    """One WinRS shell with one command in it. Used by one thread at a time, except for `abandon` and `end`."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._files: list[int] = []
        self._wsman = self._connection()
        self._shell = WinRS(self._wsman, idle_time_out=IDLE_SECONDS, codepage=UTF_8)
        self._selector: Any = None
        self._command_id = ""
        self._lock = threading.Lock()
        self._is_abandoned = False
        self.may_have_begun = False

    def open(self) -> None:
        """Sign in and have an empty shell made."""
        self._stay()
        self._shell.open()
        self._selector = self._shell._selector_set

    def start(self, orders: bytes) -> None:
        """Start the agent and tell it its orders. Raises Abandoned; nothing was carried out then."""
        self._stay()
        response = self._shell.command(COMMAND_LINE, [])
        self._command_id = _text_at(response, "CommandResponse", "CommandId")
        size = self._wsman.max_payload_size
        for at in range(0, len(orders), size):
            is_last = at + size >= len(orders)
            with self._lock:
                # Decided under the lock: whoever abandons it later than this must stop what runs.
                if self._is_abandoned:
                    raise Abandoned
                self.may_have_begun = self.may_have_begun or is_last
            try:
                self._shell.send("stdin", orders[at : at + size], command_id=self._command_id, end=is_last)
            except WSManFaultError as fault:
                if fault.code not in NOBODY_READS:
                    raise
                return  # it has ended already, and what it printed says why

    def receive(self) -> Received:
        """Wait for output, POLL_SECONDS at most."""
        try:
            state, code, streams = self._shell.receive("stdout stderr", self._command_id, timeout=POLL_SECONDS)
        except WSManFaultError as fault:
            if fault.code == TIMED_OUT:
                return Received(b"", b"", False, None)
            raise
        return Received(streams["stdout"], streams["stderr"], state == CommandState.DONE, code)

    def abandon(self) -> bool:
        """Keep from beginning what has not begun; return whether that was in time."""
        with self._lock:
            self._is_abandoned = True
            return not self.may_have_begun

    def end(self) -> None:
        """End the command and the shell, over a connection of its own: the first one may be waiting for output.

        Returns when the machine has said that both are gone.
        """
        if self._selector is None:
            return
        wsman = self._connection()
        try:
            other = WinRS(wsman, id=self._shell.id)
            other._selector_set = self._selector
            other.opened = True
            if self._command_id:
                with _unless_gone():
                    other.signal(SignalCode.TERMINATE, self._command_id)
            with _unless_gone():
                other.close()
            self._selector = None
        finally:
            wsman.close()

    def close(self) -> None:
        """Have the shell removed, with everything that is still in it, and hang up."""
        try:
            if self._selector is not None:
                with _unless_gone():
                    self._shell.close()
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection and forget the key; the shell stays until the machine misses us."""
        self._wsman.close()
        files, self._files = self._files, []
        for number in files:
            os.close(number)

    def _stay(self) -> None:
        if self._is_abandoned:
            raise Abandoned

    def _connection(self) -> WSMan:
        login = self._login
        options: dict[str, Any] = {}
        if login.authentication == "certificate":
            options = {
                "certificate_pem": self._file_of(login.certificate),
                "certificate_key_pem": self._file_of(login.private_key),
                "certificate_key_password": login.passphrase or None,
            }
        wsman = _Connection(
            login.host,
            port=login.port,
            ssl=True,
            auth=login.authentication,
            username=login.username or None,
            password=login.password or None,
            cert_validation=login.authorities,  # type: ignore[arg-type]  # a file is as good
            connection_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS + 10,
            operation_timeout=ANSWER_SECONDS,
            no_proxy=True,
            **options,
        )
        wsman.transport.session = _strict(wsman.transport._build_session())
        return wsman

    def _file_of(self, text: str) -> str:
        """A name that the TLS library can read a key by, of a file that is in memory and belongs to this process."""
        number = os.memfd_create("key", os.MFD_CLOEXEC)
        self._files.append(number)
        os.write(number, text.encode())
        return f"/proc/self/fd/{number}"


class _Connection(WSMan):
    """A WSMan that asks for output once: what is lost is told to the engine, not waited for minutes."""

    def invoke(self, *args: Any, retries_on_read_timeout: int = 0, **kwargs: Any) -> Any:
        return super().invoke(*args, **kwargs)


def _strict(session: requests.Session) -> requests.Session:
    """Speaks to that one machine and over TLS only: no redirects, proxies, .netrc or plain HTTP."""
    session.trust_env = False
    session.max_redirects = 0
    session.adapters.pop("http://", None)
    return session


@contextmanager
def _unless_gone() -> Iterator[None]:
    """What is gone already need not be ended."""
    try:
        yield
    except WSManFaultError as fault:
        if fault.code not in SHELL_GONE:
            raise


def _text_at(body: ElementTree.Element, *path: str) -> str:
    where = "/".join(f"{{http://schemas.microsoft.com/wbem/wsman/1/windows/shell}}{name}" for name in path)
    found = body.find(where)
    return (found.text or "") if found is not None else ""
