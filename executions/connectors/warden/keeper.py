"""The warden's own process: starts the commands of one worker, and ends them when the worker may no longer run them.

Run as `python -I -S keeper.py FD` with the standard library alone. FD is a stream socket to the worker. Frames on it
are four bytes of length, big endian, and a JSON object with `op`:

    run      run, argv, environment, directory; four descriptors travel with it: stdin, stdout, stderr, and the
             status pipe on which this run's news goes back as lines of JSON
    until    until: CLOCK_MONOTONIC seconds up to which the worker may run commands. It is the one that is answered on
             the socket itself, with one byte: so the worker knows that somebody is there who would end its commands
    stop     run, grace: SIGTERM to everything of the run, SIGKILL after `grace` seconds
    finish   run, look: the leader has ended; end what is left of its session. `look`: report who else is left
    kill_all one descriptor, on which one line says when nothing is left

News of a run: {"started": pid, "ticks": its start}, or {"failed": errno, "at": "directory"|"search"|"start"|"expired"};
then {"exited": code} (negative: ended by that signal); {"ended_by": "deadline"|"kill_all"} when the keeper did it
of its own accord; at last {"gone": bool, "killed": n, "left": [pids], "outside": [pids]}.

Because the keeper itself is the parent of every command, no command can exist that it does not know, and no leader's
pid can be given to another process before the keeper has let go of it.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False  # as typing has it; importing typing would double the memory and the time to start
if TYPE_CHECKING:
    from executions.connectors.warden.process_table import (
        HAS_PROC,
        Ownership,
        Process,
        send_signal,
        send_signal_to_group,
        ticks_of,
    )
    from executions.connectors.warden.understudy import Understudy
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from process_table import (
        HAS_PROC,
        Ownership,
        Process,
        send_signal,
        send_signal_to_group,
        ticks_of,
    )
    from understudy import Understudy

KILL_PATIENCE_SECONDS = 5.0  # SIGKILL works at once but for a process inside a system call that cannot be interrupted
POLL_SECONDS = 0.02
_RUNNING, _TERMINATING, _KILLING, _CLEARING = range(4)


class Run:
    """One command that was started and not yet let go."""

    def __init__(self, marker: str, pid: int, status: int) -> None:
        self.marker = marker
        self.pid = pid
        self.started = ticks_of(pid)
        self.status = status
        self.phase = _RUNNING
        self.has_exited = False
        self.is_reaped = False
        self.kill_at = 0.0
        self.give_up_at = 0.0
        self.killed: set[tuple[int, int]] = set()

    def say(self, **news: object) -> None:
        _write_line(self.status, news)


def _write_line(descriptor: int, news: dict[str, object]) -> None:
    # A pipe takes a short line whole; a worker that is gone does not listen, and that is its business.
    with contextlib.suppress(OSError):
        os.write(descriptor, json.dumps(news).encode() + b"\n")


class Keeper:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._runs: dict[str, Run] = {}
        self._ownership = Ownership()
        self._understudy = Understudy()  # before anything is open that it must not hold
        self._until: float | None = None
        self._has_expired = False
        self._waiting_for_none: list[int] = []
        self._worker_is_there = True
        self._child_news, child_news_write = os.pipe()
        os.set_blocking(self._child_news, False)
        os.set_blocking(child_news_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(child_news_write, warn_on_full_buffer=False)
        self._worker_pid = os.getppid()
        self._worker_pidfd = _pidfd(self._worker_pid)

    def serve(self) -> None:
        """Work until the worker is gone; then end everything of it, and return."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._child_news, select.POLLIN)
        if self._worker_pidfd is not None:
            poll.register(self._worker_pidfd, select.POLLIN)
        while self._worker_is_there:
            ready = {descriptor for descriptor, _ in poll.poll(self._next_wake_ms())}
            if self._worker_pidfd in ready or os.getppid() != self._worker_pid:
                break
            if self._control.fileno() in ready:
                self._read_control()
            if self._child_news in ready:
                self._note_exits()
            self._tick()
        self._kill_all("worker_gone")
        while any(run.phase != _RUNNING for run in self._runs.values()):
            self._note_exits()
            self._advance_stopping(time.monotonic())
            time.sleep(POLL_SECONDS / 4)

    def _next_wake_ms(self) -> float | None:
        wakes = []
        if any(run.phase != _RUNNING for run in self._runs.values()):
            wakes.append(POLL_SECONDS)
        if self._until is not None and not self._has_expired:
            wakes.append(max(0.0, self._until - time.monotonic()))
        if self._worker_pidfd is None:
            wakes.append(0.5)
        # Rounded up: a wake before the time would find nothing to do and turn in circles.
        return min(wakes) * 1000 + 1 if wakes else None

    def _tick(self) -> None:
        now = time.monotonic()
        if self._until is not None and not self._has_expired and now >= self._until:
            self._has_expired = True
            self._kill_all("deadline")
        self._advance_stopping(now)

    # -- what the worker says ---------------------------------------------------------------------------------------

    def _read_control(self) -> None:
        try:
            data, ancillary, _, _ = self._control.recvmsg(1 << 18, socket.CMSG_SPACE(64 * 4))
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors = array.array("i")
                descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)
                    self._descriptors.append(descriptor)
        if not data:
            self._worker_is_there = False
            return
        self._received += data
        while len(self._received) >= 4:
            length = int.from_bytes(self._received[:4], "big")
            if len(self._received) < 4 + length:
                return
            frame = json.loads(self._received[4 : 4 + length])
            del self._received[: 4 + length]
            self._obey(frame)

    def _obey(self, frame: dict[str, object]) -> None:
        operation = frame["op"]
        if operation == "run":
            descriptors, self._descriptors = self._descriptors[:4], self._descriptors[4:]
            self._start(frame, descriptors)
        elif operation == "until":
            self._until = float(frame["until"])  # type: ignore[arg-type]
            self._understudy.may_run_until(self._until)
            self._has_expired = False
            with contextlib.suppress(OSError):  # full because nobody reads, or gone: its business
                self._control.send(b".")
        elif operation == "kill_all":
            self._waiting_for_none.append(self._descriptors.pop(0))
            self._kill_all("kill_all")
        else:
            run = self._runs.get(str(frame["run"]))
            if run is None:
                return
            if operation == "stop":
                self._stop(run, float(frame["grace"]))  # type: ignore[arg-type]
            elif operation == "finish":
                self._finish(run, bool(frame["look"]))

    def _start(self, frame: dict[str, object], descriptors: list[int]) -> None:
        status = descriptors[3]
        os.set_blocking(status, False)
        marker = str(frame["run"])
        pid = 0
        try:
            if self._until is not None and time.monotonic() >= self._until:
                _write_line(status, {"failed": 0, "at": "expired"})
                return
            self._understudy.begins(marker)  # before there is a command: no moment in which nobody else knows it
            pid = _spawn(frame, descriptors[:3])
        except _NotStarted as problem:
            _write_line(status, {"failed": problem.number, "at": problem.at, "path": problem.path})
        finally:
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            if not pid:
                self._understudy.is_over(marker)
                os.close(status)
        if pid:
            run = self._runs[marker] = Run(marker, pid, status)
            self._understudy.begins(marker, pid, run.started)
            run.say(started=pid, ticks=run.started)

    # -- what happens to the commands -------------------------------------------------------------------------------

    def _note_exits(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._child_news, 4096):
                pass
        self._understudy.look_after()
        for run in self._runs.values():
            if run.has_exited:
                continue
            # WNOWAIT leaves the dead leader in place, so that its pid still means this run and nothing else.
            seen = os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is not None:
                run.has_exited = True
                run.say(exited=seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status)

    def _reap(self, run: Run) -> None:
        if not run.is_reaped and run.has_exited:
            os.waitpid(run.pid, 0)
            run.is_reaped = True

    def _stop(self, run: Run, grace: float) -> None:
        now = time.monotonic()
        if run.phase == _KILLING:
            return
        if grace <= 0:
            self._kill(run)
        elif run.phase == _RUNNING:
            run.phase = _TERMINATING
            run.kill_at = now + grace
            # Who left the group must be known before its parent is gone; it gets the polite signal, too. SIGCONT, lest
            # a command that was stopped could not act on it.
            outside = [process for process in self._look([run]).get(run.marker, []) if process.group != run.pid]
            for number in (signal.SIGTERM, signal.SIGCONT):
                send_signal_to_group(run.pid, number)
                for process in outside:
                    send_signal(process, number)

    def _kill(self, run: Run) -> None:
        run.phase = _KILLING
        run.give_up_at = time.monotonic() + KILL_PATIENCE_SECONDS

    def _kill_all(self, why: str) -> None:
        for run in self._runs.values():
            run.say(ended_by=why)
            if not run.is_reaped:
                send_signal_to_group(run.pid, signal.SIGKILL)  # at once; the careful search follows
            if run.phase != _KILLING:
                self._kill(run)
        self._advance_stopping(time.monotonic())

    def _finish(self, run: Run, look: bool) -> None:
        if run.phase != _RUNNING or not run.has_exited:
            return
        if not look and not HAS_PROC:
            look = True
        self._reap(run)
        if look or send_signal_to_group(run.pid, 0):
            run.phase = _CLEARING
            run.give_up_at = time.monotonic() + KILL_PATIENCE_SECONDS
            self._advance_stopping(time.monotonic())
        else:
            self._let_go(run, [], [])

    def _look(self, runs: list[Run]) -> dict[str, list[Process]]:
        if not runs:
            return {}
        # All runs are named, lest a process of another be taken for one of these.
        return self._ownership.look({run.marker: (run.pid, run.started) for run in self._runs.values()})

    def _advance_stopping(self, now: float) -> None:
        stopping = [run for run in self._runs.values() if run.phase != _RUNNING]
        self._note_exits()
        members = self._look(stopping)
        for run in stopping:
            self._advance(run, members.get(run.marker, []), now)
        if not self._runs:
            for descriptor in self._waiting_for_none:
                _write_line(descriptor, {"gone": True})
                os.close(descriptor)
            self._waiting_for_none.clear()

    def _advance(self, run: Run, members: list[Process], now: float) -> None:
        outside: list[Process] = []
        if run.phase == _CLEARING:  # a command that ended by itself: who opened a session of its own may stay
            outside = [process for process in members if process.session != run.pid and process.group != run.pid]
            members = [process for process in members if process.session == run.pid or process.group == run.pid]
        group_is_there = not HAS_PROC and self._group_without_proc_is_there(run)
        if not members and not group_is_there and (run.has_exited or run.is_reaped):
            self._let_go(run, [], outside)
            return
        if run.phase == _TERMINATING and now >= run.kill_at:
            self._kill(run)
        if run.phase in (_KILLING, _CLEARING):
            if not run.is_reaped or group_is_there:
                send_signal_to_group(run.pid, signal.SIGKILL)
            for process in members:
                run.killed.add(process.key)
                send_signal(process, signal.SIGKILL)
            if now >= run.give_up_at:
                self._let_go(run, members, outside)

    def _group_without_proc_is_there(self, run: Run) -> bool:
        self._reap(run)
        return not run.is_reaped or send_signal_to_group(run.pid, 0)

    def _let_go(self, run: Run, left: list[Process], outside: list[Process]) -> None:
        self._reap(run)
        is_gone = not left and run.is_reaped
        run.say(
            gone=is_gone,
            killed=len(run.killed - {(run.pid, run.started)}),
            left=[process.pid for process in left][:20],
            outside=[process.pid for process in outside][:20],
        )
        os.close(run.status)
        del self._runs[run.marker]
        self._understudy.is_over(run.marker)


class _NotStarted(Exception):
    def __init__(self, number: int, at: str, path: str = "") -> None:
        super().__init__(number, at, path)
        self.number = number
        self.at = at
        self.path = path


def _spawn(frame: dict[str, object], standard: list[int]) -> int:
    """Start the command in a session of its own; raise _NotStarted with what the kernel said."""
    argv: list[str] = frame["argv"]  # type: ignore[assignment]
    environment: dict[str, str] = frame["environment"]  # type: ignore[assignment]
    directory = str(frame["directory"])
    try:
        os.chdir(directory)  # this process has one thread: its own directory is free to use
    except OSError as error:
        raise _NotStarted(error.errno or errno.EIO, "directory", directory) from error
    try:
        path = _find(argv[0], environment.get("PATH", ""))
        return os.posix_spawn(
            path,
            argv,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(standard)],
            setsid=True,
            setsigmask=[],
            setsigdef=_ORDINARY_SIGNALS,
        )
    except OSError as error:
        raise _NotStarted(error.errno or errno.EIO, "start", path) from error
    except ValueError as error:  # a NUL byte, or "=" in a variable's name
        raise _NotStarted(errno.EINVAL, "start") from error
    finally:
        os.chdir("/")


_ORDINARY_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def _find(command: str, search: str) -> str:
    """The path of the program. Empty entries of PATH, which mean the current directory, are passed over."""
    if "/" in command:
        return command
    refused = ""
    for directory in search.split(":"):
        candidate = os.path.join(directory, command)
        if directory and os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            refused = refused or candidate
    if refused:
        raise _NotStarted(errno.EACCES, "search", refused)
    raise _NotStarted(errno.ENOENT, "search", command)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # it ends with its worker, not with a signal sent to the whole service
    os.umask(0o022)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(False)
    os.set_inheritable(control.fileno(), False)
    Keeper(control).serve()


if __name__ == "__main__":
    main()
