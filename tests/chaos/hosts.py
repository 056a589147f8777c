"""One host: `manage.py worker` with its processes, its own way to the database and its own wall clock."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.chaos.relay import Relay
from tests.chaos.wall_clock import WallClock
from tests.installations import MANAGE, PROJECT, clean_environment

KEEPER = "warden/keeper.py"


class Host:
    """Its cluster is started again when it has ended, as a service manager would."""

    def __init__(
        self, name: str, folder: Path, relay: Relay, clock: WallClock | None, settings: Mapping[str, str]
    ) -> None:
        self.name = name
        self.relay = relay
        self.clock = clock
        self.starts = 0
        self.is_up = True  # False while the whole machine is down: nothing is started on it
        self._log = folder / f"{name}.log"
        var_dir = folder / name
        var_dir.mkdir()
        self._environment = clean_environment(**settings, VAR_DIR=str(var_dir))
        if clock is not None:
            self._environment.update(clock.environment)
        self._process: subprocess.Popen[bytes] | None = None

    def keep_up(self) -> None:
        """Start its cluster unless that runs."""
        if not self.is_up:
            return
        if self._process is not None and self._process.poll() is None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, MANAGE, "worker"],
                cwd=PROJECT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def words(self) -> str:
        """What its processes said."""
        return self._log.read_text(errors="replace")

    # -- its processes, by what they are -----------------------------------------------------------------------------

    def tree(self) -> list[psutil.Process]:
        """All of them: the command itself, django-q2's, wardens, and what those run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            master = psutil.Process(self.pid)
            return [master, *master.children(recursive=True)]
        return []

    def wardens(self) -> list[psutil.Process]:
        """Those of the workers; a warden's understudy, which it forked, is none."""
        keepers = {process.pid: process for process in self.tree() if KEEPER in words_of(process)}
        return [process for process in keepers.values() if _parent_pid(process) not in keepers]

    def workers(self) -> list[psutil.Process]:
        """Those that have claimed something that needs a warden: the ones whose death matters."""
        # Among the host's own: the warden of a worker that has just died has another parent by now, the driver.
        own = {process.pid: process for process in self.tree()}
        parents = [_parent_pid(warden) for warden in self.wardens()]
        return [own[pid] for pid in parents if pid in own]

    def commands(self) -> list[psutil.Process]:
        started = [child for warden in self.wardens() for child in _children(warden)]
        return [child for child in started if KEEPER not in words_of(child)]

    def sentinels(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child for child in psutil.Process(self.pid).children() if "manage.py" in words_of(child)]
        return []

    def helpers(self) -> list[psutil.Process]:
        """What of django-q2 is no worker at work: pusher, monitor, processes that wait for a task."""
        working = {worker.pid for worker in self.workers()}
        children = [child for sentinel in self.sentinels() for child in _children(sentinel)]
        return [child for child in children if child.pid not in working and "manage.py" in words_of(child)]

    def kill_everything(self) -> None:
        """As if the machine had lost its power: all at once, also what runs."""
        frozen: dict[int, psutil.Process] = {}
        # Frozen first, until nobody new is there: what a warden starts in between would be left over.
        while new := [process for process in self.tree() if process.pid not in frozen]:
            for process in new:
                frozen[process.pid] = process
                send(process, signal.SIGSTOP)
        for process in frozen.values():
            send(process, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(timeout=10)

    def tell_to_stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def stopped(self, seconds: float) -> int | None:
        """Wait for the end; return the exit status, None when it did not end in time."""
        assert self._process is not None
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None


def send(process: psutil.Process, number: signal.Signals) -> bool:
    """Send a signal; return whether the process was there."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def words_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _parent_pid(process: psutil.Process) -> int:
    try:
        pid: int = process.ppid()
    except psutil.Error:
        return 0
    return pid


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = process.children()
    except psutil.Error:
        return []
    return children
