"""Where secrets are while a playbook runs, and that they are nowhere afterwards."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from executions.connectors import Credential, ErrorCode, Target
from executions.connectors.ansible import folder
from tests.executions.connectors.ansible.password_server import password_server
from tests.executions.connectors.ansible.playing import Stage, local, what_is_left
from tests.executions.connectors.recording import wait_until
from tests.sshd import Sshd

PASSWORD = "pa55-of-the-machine"
SECRET = "sw0rdfish-of-the-playbook"
PASSPHRASE = "phrase-of-the-key"


def everything_readable(pattern: str) -> bytes:
    """Of every process of this machine, what others can see or what is inherited."""
    found = b""
    for file in Path("/proc").glob(f"[0-9]*/{pattern}"):
        try:
            found += file.read_bytes()
        except OSError:
            continue
    return found


def files_below(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


def look(tmp_path: Path, private_key: str) -> None:
    """While the playbook is in the middle of a task on a machine with a password."""
    for pattern in ("cmdline", "environ"):
        seen = everything_readable(pattern)
        assert not [word for word in (SECRET, PASSWORD, PASSPHRASE, private_key[60:100]) if word.encode() in seen]
    assert not any(SECRET.encode() in data or PASSWORD.encode() in data for data in files_below(tmp_path).values())
    (run,) = [path for path in folder.IN_MEMORY.glob(f"{folder.PREFIX}*") if path.is_dir()]
    assert run.stat().st_mode & 0o777 == 0o700
    in_memory = files_below(run)
    assert any(
        SECRET.encode() in data for data in in_memory.values()
    )  # so that the places looked at are the right ones
    assert not any(b"PRIVATE KEY" in data or PASSPHRASE.encode() in data for data in in_memory.values())
    segments = list(folder.IN_MEMORY.glob(f"{run.name}-*"))
    assert [PASSWORD.encode() in path.read_bytes() for path in segments] == [True]


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[Target]:
    """A machine that lets in whoever an authority has certified, and no key by itself."""
    authority = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "authority.pub").write_bytes(authority.export_public_key())
    key = asyncssh.generate_private_key("ssh-ed25519")
    told = f"TrustedUserCAKeys {tmp_path}/authority.pub\nAuthorizedPrincipalsFile none"
    server = Sshd(tmp_path / "certified", told)
    certificate = authority.generate_user_certificate(key, "operator", principals=[server.username])
    credential = Credential(
        server.username,
        private_key=key.export_private_key("openssh").decode(),
        certificate=certificate.export_certificate().decode(),
    )
    yield server.target("certified", credential=credential)
    server.close()


async def test_secrets_are_in_memory_only_and_gone_with_the_run(
    stage: Stage, sshd: Sshd, certified: Target, tmp_path: Path
) -> None:
    locked = asyncssh.import_private_key(sshd.private_key).export_private_key("openssh", PASSPHRASE).decode()
    go_on, running = tmp_path / "go-on", tmp_path / "running"
    stage.write(
        f"""
- raw: echo {{{{ word | hash('sha256') }}}}
- raw: touch {running}; until test -e {go_on}; do sleep 0.05; done
  when: opsconductor_name == 'password'
"""
    )
    async with password_server("operator", PASSWORD) as (port, host_key):

        def behind(name: str, password: str) -> Target:
            return Target(
                name=name,
                ip_address="127.0.0.1",
                port=port,
                connection="ssh",
                host_keys=(host_key,),
                credential=Credential(username="operator", password=password),
            )

        jump = {
            "host": "127.0.0.1",
            "port": sshd.port,
            "username": sshd.username,
            "private_key": sshd.private_key,
            "host_key": sshd.host_key,
        }
        by_key = Credential(sshd.username, private_key=locked, passphrase=PASSPHRASE, jump_hosts=(jump,))
        key = sshd.target("key", credential=by_key)
        targets = [key, behind("password", PASSWORD), behind("wrong", "not-the-password"), local("here"), certified]
        playing = asyncio.ensure_future(stage.play(targets, extra_vars={"word": SECRET}))
        try:
            await asyncio.to_thread(wait_until, running.exists, within_seconds=30)
            await asyncio.to_thread(look, tmp_path, locked)
        finally:
            go_on.touch()
            outcomes = await playing

    ended = {name: outcome.exit_code for name, outcome in outcomes.items()}
    assert ended == {"key": 0, "password": 0, "wrong": None, "here": 0, "certified": 0}
    assert outcomes["wrong"].error_code == ErrorCode.AUTHENTICATION_FAILED
    for name in ("key", "password", "here"):
        assert hashlib.sha256(SECRET.encode()).hexdigest() in stage.stdout(name)
    assert what_is_left() == []
