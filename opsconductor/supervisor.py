"""Runs the processes of an installation as children: starts them, starts again what dies, stops them in order.

Whatever happens to the supervisor, its children do not outlive it for long (see launch.py), and what a killed
supervisor left running is ended by the next one, which knows it from the list under VAR_DIR.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from opsconductor import launch
from opsconductor.embedded_postgres.installation import try_lock
from opsconductor.environment import ConfigError

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0  # a child that lived this long starts again without a pause
LEFTOVER_PATIENCE_SECONDS = 10.0
ORPHAN_PATIENCE_SECONDS = 5.0

RECORD = "serve.json"  # the children, under VAR_DIR, for the one who comes after a kill
SERVING_PATIENCE_SECONDS = 2.0  # one whose parent was killed has the signal by then
STOPPING_PATIENCE_SECONDS = 3700.0  # it bounds its own stop, by SHUTDOWN_GRACE_SECONDS

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child: what it is called in messages, its command, and how long it may take to stop on SIGTERM."""

    name: str
    command: tuple[str, ...]
    stop_seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of ours


class Child:
    """A child process in a session of its own, started again after a growing pause when it ends by itself."""

    def __init__(self, spec: ChildSpec, say: Say) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = 0  # how often it ended by itself
        self._say = say
        self._pause = 0.0
        self._started_at = 0.0
        self._start_at = 0.0
        self._orphans: list[tuple[int, float]] = []  # process groups whose leader died, and until when they may go on

    def turn(self) -> bool:
        """Start it if it is due; notice its end. Returns whether anything changed. Call from the main thread alone."""
        self._end_orphans()
        now = time.monotonic()
        if self.process is None:
            if now < self._start_at:
                return False
            self._start()
            return True
        status = self.process.poll()
        if status is None:
            return False
        self._leave_group(self.process.pid)
        self.process = None
        self.ended += 1
        steady = now - self._started_at > STEADY_SECONDS
        self._pause = (
            FIRST_PAUSE_SECONDS if steady else min(self._pause * 2 or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        )
        self._start_at = now + self._pause
        self._say(f"The {self.spec.name} {_how_it_ended(status)}: starting it again in {self._pause:g} s.")
        return True

    def _start(self) -> None:
        # The death signal is sent when the *thread* that started the child ends: so from the main thread alone.
        watched = ["--parent", str(os.getpid()), "--death-signal", str(int(signal.SIGTERM))]
        if sys.platform != "linux":
            watched.append("--monitor")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", launch.__file__, *watched, "--", *self.spec.command],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.spec.environment},
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops the children in order
        )
        self._started_at = time.monotonic()

    def _leave_group(self, group: int) -> None:
        """Ask what a dead child has left in its process group to stop; it is ended by force soon."""
        if _signal_group(group, signal.SIGTERM):
            self._orphans.append((group, time.monotonic() + ORPHAN_PATIENCE_SECONDS))

    def _end_orphans(self) -> None:
        now = time.monotonic()
        for group, until in self._orphans:
            if now > until:
                _signal_group(group, signal.SIGKILL)
        self._orphans = [(group, until) for group, until in self._orphans if now <= until]

    def stop(self, *, hurry: Callable[[], bool]) -> None:
        """Ask it to stop, wait for as long as it may take (or until `hurry()`), then end its whole group by force."""
        for group, _until in self._orphans:
            _signal_group(group, signal.SIGKILL)
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            deadline = time.monotonic() + self.spec.stop_seconds
            while self.process.poll() is None and time.monotonic() < deadline and not hurry():
                time.sleep(0.05)
            if self.process.poll() is None:
                self._say(f"The {self.spec.name} did not stop in time: ended by force.")
        _signal_group(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Claim:
    """The right to serve from one VAR_DIR, held by one process at a time and gone with it.

    Waits for one that is stopping already; refuses beside one that is not, with ConfigError. What a killed one left
    running is ended.
    """

    def __init__(self, var_dir: Path, *, say: Say) -> None:
        self._var_dir = var_dir
        var_dir.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(var_dir / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait_for_lock(say)
        except ConfigError:
            os.close(self._lock)
            raise
        self._note(b"serving")
        _end_leftovers(var_dir / RECORD, say)

    def _wait_for_lock(self, say: Say) -> None:
        begun = time.monotonic()
        told = False
        while not try_lock(self._lock, fcntl.LOCK_EX):
            stopping = os.pread(self._lock, 16, 0) == b"stopping"
            if time.monotonic() - begun > (STOPPING_PATIENCE_SECONDS if stopping else SERVING_PATIENCE_SECONDS):
                where = self._var_dir
                raise ConfigError(
                    f"OpsConductor is already being served from {where}: stop that first, or set VAR_DIR."
                )
            if stopping and not told:
                say("Waiting for an earlier start to stop.")
                told = True
            time.sleep(0.1)

    def _note(self, state: bytes) -> None:
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, state, 0)

    def stopping(self) -> None:
        """Let whoever comes now wait instead of being refused."""
        self._note(b"stopping")

    def give_up(self) -> None:
        os.close(self._lock)


class Supervisor:
    """The children of one installation, looked after under a Claim."""

    def __init__(self, specs: list[ChildSpec], *, var_dir: Path, say: Say) -> None:
        self.say = say
        self.children = [Child(spec, say) for spec in specs]
        self.asked_to_stop = False
        self.hurry = False
        self._record = var_dir / RECORD

    def handle_signals(self) -> None:
        """Let SIGTERM, SIGINT and SIGHUP stop the children in order; a second one hurries."""

        def ask(_number: int, _frame: object) -> None:
            self.hurry = self.asked_to_stop
            self.asked_to_stop = True

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, ask)

    def turn(self) -> None:
        """Look after every child once."""
        changes = [child.turn() for child in self.children]  # every one has its turn
        if any(changes):
            self._write_record()

    def stop(self) -> None:
        """Stop the children, the last one first."""
        for child in reversed(self.children):
            child.stop(hurry=lambda: self.hurry)
        self._record.unlink(missing_ok=True)

    def _write_record(self) -> None:
        running = []
        for child in self.children:
            if child.process is None:
                continue
            try:
                started = psutil.Process(child.process.pid).create_time()
            except psutil.Error:
                continue
            running.append({"name": child.spec.name, "pid": child.process.pid, "started": started})
        temporary = self._record.with_suffix(".new")
        temporary.write_text(json.dumps(running))
        temporary.replace(self._record)


def _end_leftovers(record: Path, say: Say) -> None:
    """End the children of a supervisor that was killed: asked first, by force after LEFTOVER_PATIENCE_SECONDS."""
    try:
        noted = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):  # a power cut may leave half a file: then nothing runs either
        return
    left = [process for item in noted if (process := _same_process(int(item["pid"]), float(item["started"])))]
    for process in left:
        say(f"Process {process.pid} of an earlier start is still running: stopping it.")
        process.terminate()
    _gone, alive = psutil.wait_procs(left, timeout=LEFTOVER_PATIENCE_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=LEFTOVER_PATIENCE_SECONDS)
    for process in left:  # each led a group of its own
        _signal_group(process.pid, signal.SIGKILL)
    record.unlink(missing_ok=True)


def _same_process(pid: int, started: float) -> psutil.Process | None:
    """Return the process if it is the one that was noted, not a later bearer of its pid."""
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - started) < 1.0 else None
    except psutil.Error:
        return None
