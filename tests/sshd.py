"""A real OpenSSH server on loopback, for tests of all that reaches machines over SSH.

    sshd            one for the whole session: signs in the user who runs the tests, with a key of its own
    sshd.target()   a Target that is reached there; give it names, host keys or a credential of your own if you like

Another one, with other settings, is `Sshd(folder, "MaxSessions 2")`; close it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from executions.connectors import Credential, Target

PROGRAM = shutil.which("sshd") or "/usr/sbin/sshd"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PermitUserEnvironment no
SetEnv HOME={folder} PATH={path}
MaxStartups 1000
PrintMotd no
Subsystem sftp internal-sftp
{extra}
"""


class Sshd:
    """One server process. The home folder is its own: what the tester's shell does at its start is not done.

    `host_key` and `fingerprint` are what it shows, `private_key` what lets one in."""

    def __init__(
        self, folder: Path, extra: str = "", *, host_key_type: str = "ed25519", path: str = SEARCH_PATH
    ) -> None:
        self.folder = folder
        self.extra = extra
        self.path = path
        self.host_key_type = host_key_type
        self.username = pwd.getpwuid(os.getuid()).pw_name
        folder.mkdir(parents=True, exist_ok=True)
        self._make_key("host_key", host_key_type)
        self._make_key("client_key", "ed25519")
        shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        return _run("ssh-keygen", "-l", "-f", str(self.folder / "host_key.pub")).split()[1]

    @property
    def private_key(self) -> str:
        return (self.folder / "client_key").read_text()

    @property
    def credential(self) -> Credential:
        return Credential(username=self.username, private_key=self.private_key)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def target(self, name: str = "web-1", **changes: Any) -> Target:
        given: dict[str, Any] = {
            "tenant_id": 1,
            "asset_id": 1,
            "name": name,
            "ip_address": "127.0.0.1",
            "connection": "ssh",
            "port": self.port,
            "os_type": "linux",
            "host_keys": (self.host_key,),
            "credential": self.credential,
        }
        return Target(**(given | changes))

    def asset_fields(self) -> dict[str, Any]:
        """What an asset needs to be reached here, apart from its name and its credential."""
        return {
            "ip_address": "127.0.0.1",
            "port": self.port,
            "connection": "ssh",
            "os_type": "linux",
            "username": self.username,
            "host_key": self.host_key,
        }

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def change_host_key(self) -> None:
        """Set it up anew: the same address shows another key from now on."""
        self.close()
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink()
        self._make_key("host_key", self.host_key_type)
        self.start()

    def start(self) -> None:
        config = self.folder / "sshd_config"
        config.write_text(_CONFIG.format(port=self.port, folder=self.folder, extra=self.extra, path=self.path))
        log = open(self.folder / "sshd.log", "ab")  # noqa: SIM115 - the process has it from here on
        self._process = subprocess.Popen([PROGRAM, "-D", "-e", "-f", str(config)], stderr=log, stdout=log)
        log.close()
        self._wait_until_it_answers()

    def drop_connections(self) -> None:
        """End every connection that there is, as a crash of the machine would. The server itself goes on."""
        for pid in _descendants(self.pid):
            if _command_line(pid).startswith("sshd"):
                _kill(pid)

    @contextmanager
    def frozen_connections(self) -> Iterator[None]:
        """While this lasts nothing comes through, as when the network is cut: the commands over there go on."""
        frozen = [pid for pid in _descendants(self.pid) if _command_line(pid).startswith("sshd")]
        try:
            for pid in frozen:
                _kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in frozen:
                _kill(pid, signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None:
            self.drop_connections()
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def _make_key(self, name: str, kind: str) -> None:
        if not (self.folder / name).exists():
            _run("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(self.folder / name))

    def _wait_until_it_answers(self) -> None:
        give_up_at = time.monotonic() + 15
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                    connection.settimeout(5)
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError("sshd did not start: " + (self.folder / "sshd.log").read_text()[-2000:])
            time.sleep(0.02)


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    if not Path(PROGRAM).exists():
        pytest.skip("there is no OpenSSH server on this machine (Debian: openssh-server)")
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder:
        server = Sshd(Path(folder))
        try:
            yield server
        finally:
            server.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, looking = [], [pid]
    while looking:
        looking = [child for parent in looking for child in children.get(parent, ())]
        found += looking
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
