"""Child processes of a benchmark run: each in a process group of its own, none of them outlives the run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

STOP_GRACE_SECONDS = 8.0


class ChildFailed(Exception):
    """A child process ended with an error, said nothing in time, or did not end in time; its last lines are shown."""


class Child:
    """A running child process, with its standard output and error in one file."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.poll() is None

    def tail(self, lines: int = 15) -> str:
        """The last lines of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def require_running(self) -> None:
        """Raises ChildFailed when it has ended."""
        if not self.running():
            raise ChildFailed(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")

    def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """TERM to the process itself, KILL to its whole group once it ended or the grace is over."""
        if self.running():
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_seconds)
        # The group outlives its leader when the leader left workers behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(STOP_GRACE_SECONDS)


class Children:
    """All children of a run. As a context manager it ends those that still run, whatever happened."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.stop(grace_seconds=2.0)

    def start(
        self, name: str, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Child:
        """Start a command in a process group of its own; it inherits the environment, with `env` on top."""
        log = self._log_dir / f"{len(self._children):02d}-{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def run(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        timeout_seconds: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """Run a command to its end. Raises ChildFailed when it fails or does not end in time."""
        child = self.start(name, command, env=env, cwd=cwd)
        try:
            code = child.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise ChildFailed(f"{name} did not end within {timeout_seconds:.0f} s:\n{child.tail()}") from None
        finally:
            child.stop(grace_seconds=2.0)
        if code != 0:
            raise ChildFailed(f"{name} ended with {code}:\n{child.tail()}")
        return child

    def result(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        timeout_seconds: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> dict[str, Any]:
        """Run a command to its end; return the JSON object after "RESULT " on its last such line."""
        child = self.run(name, command, timeout_seconds=timeout_seconds, env=env, cwd=cwd)
        found = [line for line in child.log.read_text(errors="replace").splitlines() if line.startswith("RESULT ")]
        if not found:
            raise ChildFailed(f"{name} printed no RESULT line:\n{child.tail()}")
        result: dict[str, Any] = json.loads(found[-1].removeprefix("RESULT "))
        return result


def wait_until(
    condition: Callable[[], object],
    *,
    timeout_seconds: float,
    what: str,
    child: Child | None = None,
    every_seconds: float = 0.005,
) -> float:
    """Ask `condition()` again and again until it is true; return the monotonic time of that answer.

    Raises ChildFailed after the timeout, or as soon as `child` has ended.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        if condition():
            return time.monotonic()
        if child is not None:
            child.require_running()
        if time.monotonic() > deadline:
            said = f"\n{child.tail()}" if child else ""
            raise ChildFailed(f"{what}: not within {timeout_seconds:.0f} s{said}")
        time.sleep(every_seconds)
