from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from executions.connectors import Surroundings
from executions.connectors.ansible.connector import make
from executions.connectors.warden import Warden
from tests.executions.connectors.ansible.playing import Stage
from tests.sshd import sshd

__all__ = ["sshd"]


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
    options = {"ansible_playbooks": folder, "ssh_known_hosts": str(tmp_path / "known_hosts")}
    return Stage(make(Surroundings(warden, options=options)), folder)
