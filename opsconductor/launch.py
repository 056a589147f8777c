"""Become another program that cannot outlive the process that started it.

Run as a script, with the standard library alone, so that it is there within milliseconds:

    python -I -S launch.py --parent PID --death-signal N [--user UID:GID] [--capability N] -- PROGRAM [ARGUMENT...]

On Linux the kernel delivers the death signal when the parent dies, however it dies, and this process *becomes* the
program. Elsewhere this process stays between the two, passes signals on, and ends the program's group when the parent
is gone.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522

CANNOT_RUN = 127  # the shell's exit status for a program that is not there
PARENT_GONE = 128 + signal.SIGTERM
POLL_SECONDS = 0.5
GROUP_GRACE_SECONDS = 40.0  # more than the supervisor gives a worker, so that an orderly stop is never cut short


def _prctl(option: int, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if libc.prctl(ctypes.c_int(option), *values) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def _capset(capability: int) -> None:
    """Reduce this process to one capability: permitted, effective and inheritable."""
    low, high = (1 << capability) & 0xFFFFFFFF, (1 << capability) >> 32
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def become_user(uid: int, gid: int, capability: int | None) -> None:
    """Give root up for good; keep one capability across exec when it is named (to pass through a closed folder)."""
    if capability is not None:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        _capset(capability)
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def run(program: list[str], *, parent: int, death_signal: int, monitor: bool) -> int:
    """Become the program (Linux), or run it under this process and return its exit status."""
    if monitor:
        return _monitor(program, parent=parent, death_signal=death_signal)
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, death_signal)  # after setuid, which would clear it
        if os.getppid() != parent:  # it died before the kernel was told
            return PARENT_GONE
    return _exec(program)


def _exec(program: list[str]) -> int:
    try:
        os.execv(program[0], program)
    except OSError as error:
        print(f"{program[0]} cannot be run: {error.strerror}.", file=sys.stderr)
        return CANNOT_RUN


def _monitor(program: list[str], *, parent: int, death_signal: int) -> int:
    child = os.fork()
    if child == 0:
        os._exit(_exec(program))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: _signal(child, received))
    gone_at: float | None = None
    while True:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status) & 0xFF
        if gone_at is None and os.getppid() != parent:
            gone_at = time.monotonic()
            _signal(child, death_signal)
        if gone_at is not None and time.monotonic() - gone_at > GROUP_GRACE_SECONDS:
            os.killpg(os.getpgrp(), signal.SIGKILL)  # a group of our own: the supervisor gives each child one
        time.sleep(POLL_SECONDS)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description="Become a program that cannot outlive its parent.")
    parser.add_argument("--parent", type=int, required=True, metavar="PID")
    parser.add_argument("--death-signal", type=int, required=True, metavar="N")
    parser.add_argument("--user", metavar="UID:GID")
    parser.add_argument("--capability", type=int, metavar="N")
    parser.add_argument("--monitor", action="store_true", help="stay between the two; the default where it is needed")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    if options.user:
        uid, gid = (int(part) for part in options.user.split(":"))
        become_user(uid, gid, options.capability)
    return run(options.program, parent=options.parent, death_signal=options.death_signal, monitor=options.monitor)


if __name__ == "__main__":
    sys.exit(main())
