"""The worker's side of the warden: asks the keeper to run commands and hears what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from executions.connectors.warden.process_table import MARKER_NAME, Runs, kill_until_gone

_T = TypeVar("_T")
_KEEPER = Path(__file__).with_name("keeper.py")
_SEND_TIMEOUT_SECONDS = 5.0
_ANSWER_TIMEOUT_SECONDS = 15.0  # it answers within milliseconds, or within 5 s when something resists SIGKILL
_CLOSE_TIMEOUT_SECONDS = 2.0
# An extension that was not answered for so long shows a keeper that is frozen: it would end nothing. A last look waits
# for a moment, because a machine that was paused as a whole wakes both, in whatever order.
_SILENCE_SECONDS = 5.0
_LAST_LOOK_SECONDS = 0.5
# What the keeper kills, it kills within milliseconds. Whoever asks for it may have only a moment left of its right.
_KILL_ALL_SECONDS = 0.25
_KILL_PATIENCE_SECONDS = 2.0
_MAX_FRAME_BYTES = 16 * 1024 * 1024  # more than any kernel takes as arguments and environment


class WardenLost(Exception):
    """The process that guards this worker's commands is gone, so the worker cannot run commands safely any more.
    Its commands were ended; the worker must give up its leases and start anew."""


class StartFailed(Exception):
    """A command was not started. `number` is the errno; `at` one of directory, search, start, expired, size."""

    def __init__(self, number: int, at: str, path: str = "") -> None:
        super().__init__(number, at, path)
        self.number = number
        self.at = at
        self.path = path


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What was left when a run was over.

    is_gone  nothing that belongs to the run is alive any more
    killed   how many processes other than the leader had to be killed
    left     pids that could not be killed (another user's, or stuck in the kernel)
    outside  pids that opened a session of their own and were left alone, because the command ended by itself
    """

    is_gone: bool
    killed: int = 0
    left: tuple[int, ...] = ()
    outside: tuple[int, ...] = ()


class Run:
    """One command, from the ask to the aftermath. Bound to the event loop it was made on."""

    def __init__(self, warden: Warden, marker: str, status: int) -> None:
        loop = asyncio.get_running_loop()
        self.marker = marker
        self.pid = 0
        self.ended_by: str | None = None  # "deadline" or "kill_all" when the keeper ended it of its own accord
        self.started: asyncio.Future[int] = loop.create_future()  # pid, or StartFailed, or WardenLost
        self.exited: asyncio.Future[int] = loop.create_future()  # exit code; -N when signal N ended it; or WardenLost
        self._aftermath: asyncio.Future[Aftermath] = loop.create_future()
        self._warden = warden
        self._loop = loop
        self._status = status
        self._received = b""
        os.set_blocking(status, False)
        loop.add_reader(status, self._read_status)

    async def wait_until_started(self) -> int:
        """The pid. Raises StartFailed, WardenLost."""
        return await self._answer(self.started, 0)

    async def stop(self, grace_seconds: float) -> Aftermath:
        """SIGTERM to all of the run, after the grace SIGKILL; return when it is over."""
        self._ask({"op": "stop", "run": self.marker, "grace": grace_seconds})
        return await self._answer(self._aftermath, grace_seconds)

    async def finish(self, *, look_around: bool) -> Aftermath:
        """After the exit: end what is left in the session. `look_around`: find those who left the session, too."""
        self._ask({"op": "finish", "run": self.marker, "look": look_around})
        return await self._answer(self._aftermath, 0)

    def _ask(self, frame: Mapping[str, object]) -> None:
        # A keeper that ends it of its own accord needs no asking, and may be on its way out after that.
        if self.ended_by is None and not self._aftermath.done():
            self._warden._send(frame)

    async def _answer(self, future: asyncio.Future[_T], extra_seconds: float) -> _T:
        await asyncio.wait({future}, timeout=_ANSWER_TIMEOUT_SECONDS + extra_seconds)
        if not future.done():  # a keeper that does not answer guards nothing
            self._warden._lose()
            self._end()
        return future.result()

    def abandon(self) -> None:
        """Make sure that it ends, without waiting for it. Does nothing once it is over."""
        if not self._aftermath.done() and not (self.started.done() and self.started.exception() is not None):
            with contextlib.suppress(WardenLost):
                self._warden._send({"op": "stop", "run": self.marker, "grace": 0})
        self._end()

    def _read_status(self) -> None:
        try:
            data = os.read(self._status, 65536)
        except BlockingIOError:
            return
        if not data:  # the keeper closes a status pipe only after the last news, or by dying
            self._close()
            self._warden._lose()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, news: dict[str, object]) -> None:
        if "started" in news:
            self.pid = int(str(news["started"]))
            self._warden._remember(self.marker, self.pid, int(str(news["ticks"])))
            _resolve(self.started, self.pid)
        elif "failed" in news:
            problem = StartFailed(int(str(news["failed"])), str(news["at"]), str(news.get("path", "")))
            _fail(self.started, problem)
            self._end()
        elif "exited" in news:
            _resolve(self.exited, int(str(news["exited"])))
        elif "ended_by" in news:
            if not self.exited.done():
                self.ended_by = str(news["ended_by"])
        elif "gone" in news:
            _resolve(
                self._aftermath,
                Aftermath(bool(news["gone"]), int(str(news["killed"])), _pids(news["left"]), _pids(news["outside"])),
            )
            self._end()

    def _end(self) -> None:
        self._warden._forget(self.marker)
        self._close()

    def _close(self) -> None:
        """No more news will be read: whoever still waits for some learns that there is none."""
        if self._status < 0:
            return
        self._loop.remove_reader(self._status)
        os.close(self._status)
        self._status = -1
        waiting: tuple[asyncio.Future[Any], ...] = (self.started, self.exited, self._aftermath)
        for future in waiting:
            _fail(future, WardenLost("The warden's process is gone or does not answer, while a command was running."))


def _pids(value: object) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else ()


def _resolve(future: asyncio.Future[_T], value: _T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whether or not anybody asks, it is not worth a warning


class Warden:
    """Guards the commands of this worker process: they end at once when the worker dies, or when it could not
    extend its right to run them in time.

    Made cheaply; its process starts with the first use. Every method may be called from any thread. A copy of it
    that a fork took along starts a process of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._until: float | None = None
        self._unanswered: deque[float] = deque()  # when each extension was sent that has not been answered
        self._is_lost = False
        self._live: Runs = {}
        _wardens.add(self)

    @property
    def is_lost(self) -> bool:
        """Whether it was seen that the warden's process is gone."""
        with self._lock:
            if self._process is not None and not self._is_lost and self._process.poll() is not None:
                self._lose()
            return self._is_lost

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the warden's process unless it runs. Raises WardenLost when it ran and is gone."""
        with self._lock:
            if self.is_lost:
                raise WardenLost("The warden's process is gone. The worker must give up its leases and start anew.")
            if self._process is not None:
                return
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.settimeout(_SEND_TIMEOUT_SECONDS)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_KEEPER), str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # a signal to the worker's group is not for the warden
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={"LANG": "C.UTF-8"},
                    cwd="/",
                )
            except OSError:
                ours.close()
                raise
            finally:
                theirs.close()
            self._control = ours
            self._unanswered.clear()
            if self._until is not None:
                self._send_until(self._until)

    @property
    def right_is_over(self) -> bool:
        """Whether the moment that `extend` named has passed. For what acts without a command; waits for nobody."""
        until = self._until
        return until is not None and time.monotonic() >= until

    @property
    def right_ends_at(self) -> float | None:
        """The moment that `extend` named, as of time.monotonic(); None before the first. Waits for nobody."""
        return self._until

    def extend(self, until_monotonic: float) -> None:
        """The worker may run commands until then (CLOCK_MONOTONIC seconds, as of time.monotonic()).

        Before the first call there is no limit. Raises WardenLost, also when earlier calls were not answered.
        """
        with self._lock:
            self._until = until_monotonic
            if self._process is not None:
                self._demand_answers()
                self._send_until(until_monotonic)

    def _send_until(self, until: float) -> None:
        self._send({"op": "until", "until": until})
        self._unanswered.append(time.monotonic())

    def _demand_answers(self) -> None:
        self._take_answers(0)
        if self._is_silent():
            self._take_answers(_LAST_LOOK_SECONDS)
        if self._is_silent():
            self._lose()
            raise WardenLost("The warden's process does not answer.")

    def _is_silent(self) -> bool:
        return bool(self._unanswered) and time.monotonic() - self._unanswered[0] > _SILENCE_SECONDS

    def _take_answers(self, wait_seconds: float) -> None:
        """Strike off what was answered; should it be gone, the next thing that is sent finds out."""
        if self._control is None:
            return
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if not poll.poll(wait_seconds * 1000):
            return
        with contextlib.suppress(OSError):
            for _ in self._control.recv(4096, socket.MSG_DONTWAIT):
                self._unanswered.popleft()

    def kill_all(self, *, wait_seconds: float = 6.0) -> bool:
        """SIGKILL every command at once. True when nothing is left; False when that was not seen in time."""
        with self._lock:
            if self._process is None:
                return True
            if self.is_lost:
                return self._kill_by_ourselves()
            answer, theirs = os.pipe()
            try:
                self._send({"op": "kill_all"}, [theirs])
            except WardenLost:
                os.close(answer)
                return self._kill_by_ourselves()
            finally:
                os.close(theirs)
        with os.fdopen(answer, "rb", buffering=0) as pipe:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            if not poll.poll(min(wait_seconds, _KILL_ALL_SECONDS) * 1000):
                # Something resists, or the keeper is frozen. It keeps dead leaders unreaped: no pid means another now.
                with self._lock:
                    self._kill_by_ourselves()
            return bool(poll.poll(wait_seconds * 1000)) and bool(pipe.read(100))

    def close(self) -> None:
        """End whatever still runs, and the warden's process. The next use starts a new one."""
        with self._lock:
            process, self._process = self._process, None
            if self._control is not None:
                self._control.close()
                self._control = None
            self._is_lost = False
            live, self._live = self._live, {}
        if process is None:
            return
        try:
            process.wait(_CLOSE_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:  # frozen
            with self._lock:
                self._kill_by_ourselves(live)
            process.kill()
            process.wait()

    def run(
        self,
        *,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: str,
        standard: tuple[int, int, int],
        marker: str = "",
    ) -> Run:
        """Have a command run in a session of its own; `standard`: its stdin, stdout, stderr, to be closed by the
        caller. The environment is all it gets, but for the run's marker. Raises StartFailed, WardenLost."""
        marker = marker or uuid4().hex
        frame = {
            "op": "run",
            "run": marker,
            "argv": list(argv),
            "environment": {**environment, MARKER_NAME: marker},
            "directory": directory,
        }
        self.start()
        status, theirs = os.pipe()
        run = Run(self, marker, status)
        self._remember(marker, -1, 0)
        try:
            self._send(frame, [*standard, theirs])
        except BaseException:
            run._end()
            raise
        finally:
            os.close(theirs)
        return run

    def _send(self, frame: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        body = json.dumps(frame).encode()
        if len(body) > _MAX_FRAME_BYTES:
            raise StartFailed(0, "size")
        data = memoryview(len(body).to_bytes(4, "big") + body)
        with self._lock:
            if self._control is None or self.is_lost:
                raise WardenLost("The warden's process is gone. The worker must give up its leases and start anew.")
            try:
                sent = (
                    socket.send_fds(self._control, [data], list(descriptors))
                    if descriptors
                    else self._control.send(data)
                )
                self._control.sendall(data[sent:])
            except OSError as error:  # a timeout too: half a frame went out, and nothing can follow it
                self._lose()
                raise WardenLost("The warden does not listen any more.") from error

    def _remember(self, marker: str, pid: int, ticks: int) -> None:
        with self._lock:
            self._live[marker] = (pid, ticks)

    def _forget(self, marker: str) -> None:
        with self._lock:
            self._live.pop(marker, None)

    def _lose(self) -> None:
        """The keeper is gone and its commands are not: end them from here."""
        with self._lock:
            self._is_lost = True
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
            if self._control is not None:
                self._control.close()
                self._control = None
            self._kill_by_ourselves()

    def _kill_by_ourselves(self, live: Runs | None = None) -> bool:
        """True when nothing is left."""
        return kill_until_gone(self._live if live is None else live, _KILL_PATIENCE_SECONDS)


_wardens: weakref.WeakSet[Warden] = weakref.WeakSet()


def _forget_the_parents_wardens() -> None:
    """In a forked child: its parent's warden guards the parent's commands. Ours will be another."""
    for warden in list(_wardens):
        if warden._control is not None:
            warden._control.close()
        until = warden._until
        warden._lock = threading.RLock()
        warden._process, warden._control, warden._is_lost, warden._live = None, None, False, {}
        warden._unanswered = deque()
        warden._until = until


os.register_at_fork(after_in_child=_forget_the_parents_wardens)
