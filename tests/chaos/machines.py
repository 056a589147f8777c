"""The machines that steps reach over SSH: one real OpenSSH server, behind a network of its own that may break."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from functools import partial
from pathlib import Path

import psutil

from tests.chaos.outside import Outside
from tests.chaos.relay import Relay
from tests.sshd import PROGRAM, Sshd

SECRET = "ssh/machines"
MARK = b"OPSCONDUCTOR_RUN="


def can_be_made() -> bool:
    return shutil.which(PROGRAM) is not None


class Machines:
    """All of them are the same server, each an asset of its own; workers reach them through `relay`."""

    def __init__(self, folder: Path, outside: Outside) -> None:
        self._sshd = Sshd(folder / "machines")
        self.relay = Relay(outside, partial(asyncio.open_connection, "127.0.0.1", self._sshd.port))

    @property
    def asset_fields(self) -> dict[str, object]:
        return {**self._sshd.asset_fields(), "port": self.relay.port, "credential": SECRET}

    @property
    def private_key(self) -> str:
        return self._sshd.private_key

    @property
    def server_pid(self) -> int | None:
        return self._sshd.pid if self._sshd.is_running else None

    def processes(self) -> list[psutil.Process]:
        """What the server started: for each connection its own, guards, and what those run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if (pid := self.server_pid) is not None:
                started: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
                return started
        return []

    def commands(self) -> list[psutil.Process]:
        """What carries the mark of a run: the commands, and their children."""
        return [process for process in self.processes() if MARK in _environment(process)]

    def guards(self) -> list[psutil.Process]:
        """The shells that watch over commands, each with its helpers."""
        commands = {process.pid for process in self.commands()}
        return [
            process
            for process in self.processes()
            if process.pid not in commands and _name(process) in ("sh", "dash", "bash")
        ]

    def crash(self) -> None:
        """The server and all its connections end at once; what it started is left to itself."""
        self._sshd.close()

    def start(self) -> None:
        if not self._sshd.is_running:
            self._sshd.start()

    def close(self) -> None:
        self._sshd.close()


def _environment(process: psutil.Process) -> bytes:
    try:
        return Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return b""


def _name(process: psutil.Process) -> str:
    try:
        name: str = process.name()
    except psutil.Error:
        return ""
    return name
