"""Real installations for end-to-end tests: `manage.py serve` as a process, with its own VAR_DIR and port."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
MANAGE = str(PROJECT / "manage.py")
READY_SECONDS = 90.0
OURS = (
    "DATABASE_URL",
    "SECRET_KEY",
    "VAR_DIR",
    "PORT",
    "BIND",
    "DJANGO_SETTINGS_MODULE",
    "HTTP_ALLOWED_NETWORKS",
    "DEBUG",
    "SECRETS_BACKEND",
    "FIELD_ENCRYPTION_KEYS",
    "VAULT_ADDR",
    "VAULT_TOKEN",
    "VAULT_ROLE",
    "VAULT_SECRET_ID",
    "AWS_REGION",
    "ASSET_SERVICE_URL",
    "AUTOMATION_SERVICE_URL",
    "SERVICE_TOKEN",
)


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with the given settings of an installation and no others."""
    kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in OURS}
    return {**kept, **settings}


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], *, seconds: float = 30.0, what: str = "it") -> None:
    """Wait for the condition; fail with `what` when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        time.sleep(0.05)


class LiveInstallation:
    """`manage.py serve` and its children, started by `start` and stopped by `stop`; may be killed in between."""

    def __init__(self, var_dir: Path, *, wrapper: Sequence[str] = (), **settings: str) -> None:
        self.var_dir = var_dir
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.wrapper = list(wrapper)
        self.environment = clean_environment(
            VAR_DIR=str(var_dir), PORT=str(self.port), WORKER_PROCESSES="2", HTTP_ALLOWED_NETWORKS="127.0.0.0/8"
        )
        self.environment.update(settings)
        self.admin_password = ""  # known after the first start
        self.command: list[str] = []  # instead of manage.py, to start it in another way
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        self._reader: threading.Thread | None = None

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def start(self, *, wait: bool = True, command: str = "serve", arguments: Sequence[str] = ()) -> None:
        """Start serving and wait until it says that it is ready."""
        self.lines = []
        self.process = subprocess.Popen(
            self.command or [*self.wrapper, sys.executable, MANAGE, command, *arguments],
            cwd=PROJECT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True)
        self._reader.start()
        if wait:
            self.wait_for("is ready at")

    def _read(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"with the password (\S+)", line)
            if found:
                self.admin_password = found[1]
        process.stdout.close()

    def wait_for(self, words: str, *, seconds: float = READY_SECONDS) -> None:
        """Wait until the output holds the words; fail when the process ends before, showing what it said."""
        deadline = time.monotonic() + seconds
        while words not in self.output:
            assert self.process is not None
            assert self.process.poll() is None, f"ended with {self.process.poll()}:\n{self.output}"
            assert time.monotonic() < deadline, f"never said {words!r}:\n{self.output}"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 60.0) -> int:
        """Send the signal, wait for the end, return the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(timeout=seconds)
        assert self._reader is not None
        self._reader.join(timeout=10)
        return status

    def run_manage(
        self, *arguments: str, input: str | None = None, timeout: float = 90.0, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a management command of this installation and return what came out; the exit status is not checked."""
        return subprocess.run(
            [*self.wrapper, sys.executable, MANAGE, *arguments],
            env={**self.environment, **settings},
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def refused(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a management command that must refuse: exit status 1, one sentence on stderr, no traceback. Returns it."""
    done = subprocess.run(
        [sys.executable, MANAGE, *command],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    return lines[0]
