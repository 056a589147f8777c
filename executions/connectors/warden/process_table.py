"""Which processes belong to which run, read from /proc.

A run is a command that was started here: a session of its own, whose leader's pid is also its group and session id.
Everything below it belongs to it as long as one of these holds: same session or group, a parent that belongs to it,
the run's marker in its environment, or having been seen as belonging before. So a child that called setsid, or lost
its parent, is still found; only one that did both and emptied its environment, all before the first look, is not.

Where there is no /proc (macOS) nothing is found here, and the process group alone is what can be ended.

This file is read by the keeper, which has the standard library only and no project on its path.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

MARKER_NAME = "OPSCONDUCTOR_RUN"
_MARKER_PREFIX = MARKER_NAME.encode() + b"="
_DEAD_STATES = frozenset("ZXx")
HAS_PROC = os.path.exists("/proc/self/stat")

Runs = dict[str, tuple[int, int]]  # marker -> (leader's pid, ticks at which it started); pid -1: not known


class Process:
    """One living process. `started` is in clock ticks since boot; with the pid it names a process for good."""

    __slots__ = ("group", "parent", "pid", "session", "started")

    def __init__(self, pid: int, parent: int, group: int, session: int, started: int) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.started = started

    @property
    def key(self) -> tuple[int, int]:
        return (self.pid, self.started)


def read_process(pid: int) -> Process | None:
    """The living process of that pid; None when there is none (a zombie is dead)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            line = stat.read()
    except OSError:
        return None
    # The second field is the name in parentheses and may hold anything, parentheses and spaces too.
    fields = line[line.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0].decode("ascii", "replace") in _DEAD_STATES:
        return None
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def read_marker(pid: int) -> str:
    """The run's marker in that process's environment; empty when there is none or it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            content = environ.read()
    except OSError:
        return ""
    for entry in content.split(b"\0"):
        if entry.startswith(_MARKER_PREFIX):
            return entry[len(_MARKER_PREFIX) :].decode("ascii", "replace")
    return ""


def living_processes() -> list[Process]:
    """Every living process, oldest first."""
    if not HAS_PROC:
        return []
    found = [read_process(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return sorted((process for process in found if process is not None), key=lambda process: process.started)


class Ownership:
    """Remembers which processes belong to which run, from look to look."""

    def __init__(self) -> None:
        self._owner: dict[tuple[int, int], str] = {}
        self._marker: dict[tuple[int, int], str] = {}

    def look(self, leaders: Runs) -> dict[str, list[Process]]:
        """The living processes of each run. `leaders`: marker -> (leader's pid, ticks at which it started)."""
        if not HAS_PROC or not leaders:
            return {}
        processes = living_processes()
        self._forget_all_but({process.key for process in processes}, leaders)
        by_leader = {pid: marker for marker, (pid, _) in leaders.items()}
        earliest = min(started for _, started in leaders.values())
        owner_of_pid: dict[int, str] = {}
        again = True
        while again:  # a parent may have started in the same tick as its child and come later in the list
            again = False
            for process in processes:
                if process.pid in owner_of_pid or process.started < earliest:
                    continue
                owner = self._owner_of(process, leaders, by_leader) or owner_of_pid.get(process.parent)
                if owner is not None:
                    owner_of_pid[process.pid] = self._owner[process.key] = owner
                    again = True
        members: dict[str, list[Process]] = {}
        for process in processes:
            if process.pid in owner_of_pid:
                members.setdefault(owner_of_pid[process.pid], []).append(process)
        return members

    def _owner_of(self, process: Process, leaders: Runs, by_leader: dict[int, str]) -> str | None:
        known = self._owner.get(process.key) or by_leader.get(process.session) or by_leader.get(process.group)
        if known is not None:
            return known
        marker = self._marker.get(process.key)
        if marker is None:
            marker = self._marker[process.key] = read_marker(process.pid)
        return marker if marker in leaders else None

    def _forget_all_but(self, alive: set[tuple[int, int]], leaders: Runs) -> None:
        self._owner = {key: owner for key, owner in self._owner.items() if key in alive and owner in leaders}
        self._marker = {key: marker for key, marker in self._marker.items() if key in alive}


def send_signal(process: Process, number: int) -> bool:
    """Signal exactly that process, never another that got its pid since. False when it may not be signalled."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except AttributeError:
        return _send_by_pid(process, number)
    except ProcessLookupError:
        return True
    except OSError:
        return _send_by_pid(process, number)
    try:
        now = read_process(process.pid)
        if now is not None and now.started == process.started:
            signal.pidfd_send_signal(pidfd, number)
        return True
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    finally:
        os.close(pidfd)


def _send_by_pid(process: Process, number: int) -> bool:
    now = read_process(process.pid)
    if now is None or now.started != process.started:
        return True
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def kill_until_gone(runs: Runs, patience_seconds: float) -> bool:
    """SIGKILL everything of these runs, by somebody who is not their parent. True when nothing is left, and in `runs`.

    Without their parent dead leaders are reaped by init, and a pid may come to mean another process: so only processes
    that were looked at, with their start time, are signalled.
    """
    ownership = Ownership()
    give_up_at = time.monotonic() + patience_seconds
    while runs:
        members = ownership.look(runs)
        if not members:
            runs.clear()
            break
        for processes in members.values():
            for process in processes:
                send_signal(process, signal.SIGKILL)
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(0.005)
    return True


def send_signal_to_group(group: int, number: int) -> bool:
    """Signal a whole process group. False when nobody is in it (a dead leader that was not reaped yet is)."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, but some or all of it is not ours
        return True
    return True


def ticks_of(pid: int) -> int:
    """When that process started; 0 where this cannot be known. A zombie has its time still."""
    with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/stat", "rb") as stat:
        line = stat.read()
        return int(line[line.rfind(b")") + 2 :].split()[19])
    return 0
