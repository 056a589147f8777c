"""Reaching hosts over SSH: whom we believe, as whom we sign in, and what is said when it does not work."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from executions.connectors import Credential, ErrorCode, Invocation, Outcome, Stop, Target
from executions.connectors.registry import Surroundings
from executions.connectors.ssh import SshConnector, pool
from executions.connectors.warden import Warden
from tests.executions.connectors.recording import RecordingSink, wait_until
from tests.executions.connectors.ssh.servers import Answerer, AskingDoorkeeper, served
from tests.sshd import Sshd

C = ErrorCode


async def reach(connector: SshConnector, target: Target, stop: Stop | None = None) -> Outcome:
    return await connector.run(Invocation(argv=("true",)), target, sink=RecordingSink(), stop=stop or Stop(), fence=1)


@pytest.fixture(scope="module")
def many_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A host with keys of several kinds, as they usually have."""
    folder = tmp_path_factory.mktemp("sshd-many")
    for kind in ("rsa", "ecdsa"):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(folder / kind)], check=True)
    server = Sshd(folder, f"HostKey {folder}/rsa\nHostKey {folder}/ecdsa")
    yield server
    server.close()


def fingerprint(folder: Path, name: str) -> str:
    listed = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(folder / f"{name}.pub")], check=True, capture_output=True, text=True
    )
    return listed.stdout.split()[1]


# -- host keys --------------------------------------------------------------------------------------------------------


async def test_a_host_whose_key_nobody_has_said_is_refused_with_what_was_seen(
    connector: SshConnector, sshd: Sshd
) -> None:
    outcome = await reach(connector, sshd.target(host_keys=()))

    assert outcome.error_code == C.HOST_KEY_UNKNOWN
    assert outcome.error is not None
    assert sshd.fingerprint in outcome.error
    assert "pin_host_keys" in outcome.error


async def test_another_key_than_the_known_one_is_refused(connector: SshConnector, tmp_path: Path) -> None:
    with closing(Sshd(tmp_path / "own")) as server:
        assert (await reach(connector, server.target())).exit_code == 0
        known = server.host_key
        server.change_host_key()
        for keys in ((known,), ("SHA256:" + "A" * 43,)):
            outcome = await reach(connector, server.target(host_keys=keys))
            assert outcome.error_code == C.HOST_KEY_CHANGED
            assert server.fingerprint in (outcome.error or "")


@pytest.mark.parametrize("kind", ["host_key", "rsa", "ecdsa"])
async def test_any_of_a_hosts_keys_may_be_the_known_one(connector: SshConnector, many_keys: Sshd, kind: str) -> None:
    line = (many_keys.folder / f"{kind}.pub").read_text()
    for known in (line, fingerprint(many_keys.folder, kind)):
        outcome = await reach(connector, many_keys.target(host_keys=(known,)))
        assert outcome.exit_code == 0, outcome.error
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    assert (await reach(connector, many_keys.target(host_keys=(other, line)))).exit_code == 0


async def test_a_key_of_a_kind_that_the_host_has_no_more_is_a_changed_one(connector: SshConnector, sshd: Sshd) -> None:
    known = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    outcome = await reach(connector, sshd.target(host_keys=(known,)))

    assert outcome.error_code == C.HOST_KEY_CHANGED


async def test_a_known_hosts_file_counts_where_the_asset_says_nothing(
    warden: Warden, sshd: Sshd, tmp_path: Path
) -> None:
    book = tmp_path / "known_hosts"
    connector = SshConnector(Surroundings(warden, options={"ssh_known_hosts": str(book)}))
    try:
        assert (await reach(connector, sshd.target(host_keys=()))).error_code == C.HOST_KEY_UNKNOWN
        book.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
        assert (await reach(connector, sshd.target(host_keys=()))).exit_code == 0
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
        await connector.close()
        book.write_text(f"[127.0.0.1]:{sshd.port} {other} changed\n")
        assert (await reach(connector, sshd.target(host_keys=()))).error_code == C.HOST_KEY_CHANGED
        assert (await reach(connector, sshd.target())).exit_code == 0, "the asset says more than the file"
    finally:
        await connector.close()


async def test_an_unreadable_host_key_is_no_reason_to_trust(connector: SshConnector, sshd: Sshd) -> None:
    outcome = await reach(connector, sshd.target(host_keys=("ssh-ed25519 nonsense",)))

    assert outcome.error_code == C.HOST_KEY_UNKNOWN


# -- who signs in -----------------------------------------------------------------------------------------------------


async def test_a_key_that_the_host_does_not_know_is_refused(connector: SshConnector, sshd: Sshd) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    outcome = await reach(connector, sshd.target(credential=Credential(username=sshd.username, private_key=key)))

    assert outcome.error_code == C.AUTHENTICATION_FAILED


async def test_passwords_and_questions_are_answered_and_a_wrong_password_is_told(connector: SshConnector) -> None:
    for doorkeeper in (None, AskingDoorkeeper):
        async with served(*([doorkeeper] if doorkeeper else [])) as server:
            assert (await reach(connector, server.target())).exit_code == 0
            wrong = server.target(credential=Credential(username="tester", password="wrong"))
            outcome = await reach(connector, wrong)
            assert outcome.error_code == C.AUTHENTICATION_FAILED
            assert "wrong" not in (outcome.error or "")
            await connector.close()


async def test_a_key_with_a_passphrase_and_one_with_a_certificate(
    connector: SshConnector, sshd: Sshd, tmp_path: Path
) -> None:
    locked = asyncssh.import_private_key(sshd.private_key).export_private_key(passphrase="open sesame").decode()

    def credential(passphrase: str) -> Credential:
        return Credential(username=sshd.username, private_key=locked, passphrase=passphrase)

    assert (await reach(connector, sshd.target(credential=credential("open sesame")))).exit_code == 0
    for passphrase in ("wrong", ""):
        outcome = await reach(connector, sshd.target(credential=credential(passphrase)))
        assert outcome.error_code == C.CREDENTIAL_UNUSABLE

    authority, key = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "ca.pub").write_bytes(authority.export_public_key())
    certificate = authority.generate_user_certificate(key, "tester", principals=[sshd.username])
    with closing(Sshd(tmp_path / "own", f"TrustedUserCAKeys {tmp_path}/ca.pub")) as server:
        with_certificate = Credential(
            username=sshd.username,
            private_key=key.export_private_key().decode(),
            certificate=certificate.export_certificate().decode(),
        )
        assert (await reach(connector, server.target(credential=with_certificate))).exit_code == 0


@pytest.fixture
def agent(sshd: Sshd, tmp_path: Path) -> Iterator[str]:
    """The socket of an SSH agent that has the key."""
    path = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: Path(path).exists())
        environment = {**os.environ, "SSH_AUTH_SOCK": path}
        subprocess.run(["ssh-add", "-q", str(sshd.folder / "client_key")], check=True, env=environment)
        yield path
        process.terminate()


async def test_the_keys_of_an_agent_are_used_when_the_credential_names_it(
    warden: Warden, sshd: Sshd, agent: str
) -> None:
    connector = SshConnector(Surroundings(warden, options={"ssh_agent_sockets": ["/run/other", agent]}))
    try:
        outcome = await reach(connector, sshd.target(credential=Credential(username=sshd.username, agent=agent)))
    finally:
        await connector.close()

    assert outcome.exit_code == 0, outcome.error


async def test_an_agent_that_this_worker_does_not_allow_is_never_spoken_to(
    connector: SshConnector, sshd: Sshd, tmp_path: Path
) -> None:
    """Nor for a jump host, and not where there is a key besides."""
    path = str(tmp_path / "of-another-tenant")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        listening.setblocking(False)
        by_agent = Credential(username=sshd.username, agent=path)
        jump = {"host": "127.0.0.1", "port": sshd.port, "username": sshd.username, "agent": path}
        for credential in (
            by_agent,
            replace(by_agent, private_key=sshd.private_key),
            Credential(username=sshd.username, private_key=sshd.private_key, jump_hosts=(jump,)),
        ):
            outcome = await reach(connector, sshd.target(credential=credential))
            assert outcome.error_code == C.CREDENTIAL_UNUSABLE
            assert "SSH_AGENT_SOCKETS" in str(outcome.error)
        with pytest.raises(BlockingIOError):
            listening.accept()


async def test_nothing_of_the_workers_own_user_signs_in(
    connector: SshConnector, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "id_ed25519").write_text(sshd.private_key)
    (folder / "id_ed25519").chmod(0o600)
    (folder / "config").write_text(f"Host *\n  IdentityFile {folder}/id_ed25519\n  User nobody\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    outcome = await reach(connector, sshd.target(credential=Credential(username=sshd.username, password="wrong")))
    assert outcome.error_code == C.AUTHENTICATION_FAILED
    assert (await reach(connector, sshd.target(host_keys=()))).error_code == C.HOST_KEY_UNKNOWN


@pytest.mark.parametrize(
    "credential", [None, Credential(username="x"), Credential(password="x"), Credential(private_key="x", username="x")]
)
async def test_a_credential_that_cannot_sign_in_anywhere_is_said_before_anything_is_sent(
    connector: SshConnector, sshd: Sshd, credential: Credential | None
) -> None:
    outcome = await reach(connector, sshd.target(credential=credential))

    assert outcome.error_code == C.CREDENTIAL_UNUSABLE


async def test_jump_hosts_are_passed_in_their_order_each_with_its_own_key(
    connector: SshConnector, sshd: Sshd, tmp_path: Path
) -> None:
    with closing(Sshd(tmp_path / "inner", f"AllowUsers {sshd.username}")) as inner:
        jumps: tuple[dict[str, object], ...] = tuple(
            {
                "host": "127.0.0.1",
                "port": server.port,
                "username": server.username,
                "private_key": server.private_key,
                "host_key": server.host_key,
            }
            for server in (sshd, inner)
        )

        def through(*jumps: dict[str, object]) -> Target:
            return inner.target(
                credential=Credential(username=inner.username, private_key=inner.private_key, jump_hosts=jumps)
            )

        assert (await reach(connector, through(*jumps))).exit_code == 0
        assert connector.pool.size == 3
        outcome = await reach(connector, through({**jumps[0], "host_key": inner.host_key}))
        assert outcome.error_code == C.HOST_KEY_CHANGED
        assert "jump host" in (outcome.error or "")


# -- hosts that do not answer -----------------------------------------------------------------------------------------


async def test_a_closed_port_is_told(connector: SshConnector, sshd: Sshd) -> None:
    with closing(Answerer()) as closed:
        port = closed.port
    outcome = await reach(connector, sshd.target(port=port))

    assert outcome.error_code == C.CONNECTION_REFUSED


@pytest.mark.parametrize("words", [b"", b"SSH-2.0-Silent\r\n"])
async def test_a_host_that_never_answers_is_given_up(
    connector: SshConnector, sshd: Sshd, words: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Answerer(words)) as silent:
        probed = await connector.probe(sshd.target(port=silent.port), timeout_seconds=0.3)
        assert probed.error_code == C.UNREACHABLE
        stop = Stop()
        asyncio.get_running_loop().call_later(0.2, stop.request, "timeout")
        outcome = await reach(connector, sshd.target(port=silent.port), stop)
        assert outcome.error_code == C.UNREACHABLE, "the step's time limit came first, and it is the host that is late"


async def test_what_does_not_speak_ssh_or_hangs_up_is_unreachable(connector: SshConnector, sshd: Sshd) -> None:
    for answerer in (Answerer(b"HTTP/1.1 400 Bad Request\r\n\r\n", hangs_up=True), Answerer(hangs_up=True)):
        with closing(answerer):
            assert (await reach(connector, sshd.target(port=answerer.port))).error_code == C.UNREACHABLE


async def test_a_name_that_is_not_known_is_unreachable(connector: SshConnector, sshd: Sshd) -> None:
    outcome = await reach(connector, sshd.target(ip_address=None, hostname="no-such-host.invalid"))

    assert outcome.error_code == C.UNREACHABLE


async def test_a_probe_signs_in_and_says_what_it_saw(connector: SshConnector, sshd: Sshd) -> None:
    outcome = await connector.probe(sshd.target(), timeout_seconds=10)

    assert outcome.exit_code == 0
    assert outcome.data["host_key"] == sshd.fingerprint


# -- connections are shared -------------------------------------------------------------------------------------------


async def test_steps_share_one_connection_and_many_at_once_take_a_second(connector: SshConnector, sshd: Sshd) -> None:
    for _ in range(3):
        assert (await reach(connector, sshd.target())).exit_code == 0
    assert connector.pool.size == 1
    stops = [Stop() for _ in range(pool.MOST_SESSIONS + 1)]
    sinks = [RecordingSink() for _ in stops]
    script = Invocation(argv=("sh", "-c", "echo ready; sleep 60"))
    running = [
        asyncio.ensure_future(connector.run(script, sshd.target(), sink=sink, stop=stop, fence=1))
        for sink, stop in zip(sinks, stops, strict=True)
    ]
    for sink in sinks:
        await sink.wait_for_text("ready")
    assert connector.pool.size == 2
    for stop in stops:
        stop.request("user")
    assert {outcome.stop_confirmed for outcome in await asyncio.gather(*running)} == {True}


async def test_a_host_with_fewer_sessions_gets_more_connections(connector: SshConnector, tmp_path: Path) -> None:
    with closing(Sshd(tmp_path / "own", "MaxSessions 2")) as server:
        script = Invocation(argv=("sh", "-c", "sleep .5"))
        outcomes = await asyncio.gather(
            *(connector.run(script, server.target(), sink=RecordingSink(), stop=Stop(), fence=1) for _ in range(5))
        )
        assert [outcome.exit_code for outcome in outcomes] == [0] * 5, [outcome.error for outcome in outcomes]
        await connector.close()


async def test_other_credentials_other_tenants_and_other_keys_never_share(connector: SshConnector, sshd: Sshd) -> None:
    targets = [
        sshd.target(),
        sshd.target(tenant_id=2),
        sshd.target(host_keys=(sshd.fingerprint,)),
        sshd.target(credential=Credential(username=sshd.username, private_key=sshd.private_key, password="x")),
    ]
    for count, target in enumerate(targets, 1):
        assert (await reach(connector, target)).exit_code == 0
        assert connector.pool.size == count


async def test_an_idle_connection_is_closed(warden: Warden, sshd: Sshd) -> None:
    connector = SshConnector(Surroundings(warden))
    connector._pool = pool.Pool(idle_seconds=0.1)
    assert (await reach(connector, sshd.target())).exit_code == 0
    async with asyncio.timeout(5):
        while connector.pool.size:  # noqa: ASYNC110 - nobody is told when it is closed
            await asyncio.sleep(0.01)
    await connector.close()
