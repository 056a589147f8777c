from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from executions.connectors import Credential, Surroundings, Target
from executions.connectors.ansible.connector import make
from executions.connectors.warden import Warden
from tests.executions.connectors.ansible.playing import Stage
from tests.installations import wait_until


@dataclass(frozen=True)
class Sshd:
    port: int
    host_key: str
    private_key: str

    def target(
        self, name: str, *, port: int = 0, host_key: str | None = None, key: str = "", passphrase: str = ""
    ) -> Target:
        return Target(
            name=name,
            ip_address="127.0.0.1",
            port=port or self.port,
            connection="ssh",
            host_keys=(host_key or self.host_key,) if host_key != "" else (),
            credential=Credential(getpass.getuser(), private_key=key or self.private_key, passphrase=passphrase),
        )


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """OpenSSH's own server on a port of loopback, for this user alone."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("there is no sshd on this machine")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = unused_port()
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/user.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "UsePAM no\nStrictModes no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([program, "-D", "-f", folder / "config"])
    try:
        wait_until(lambda: answers(port), seconds=10, what="sshd")
        yield Sshd(port, (folder / "host.pub").read_text(), (folder / "user").read_text())
    finally:
        server.terminate()
        server.wait()


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(autouse=True)
def folders_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lest runs of others on this machine are taken for what a test left behind, or swept by it."""
    monkeypatch.setattr("executions.connectors.ansible.folder.PREFIX", f"opsconductor-ansibletest{os.getpid()}-")


@pytest.fixture
def stage(warden: Warden, tmp_path: Path) -> Stage:
    folder = tmp_path / "playbooks"
    folder.mkdir()
    return Stage(make(Surroundings(warden, options={"ansible_playbooks": folder})), folder)
