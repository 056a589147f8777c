"""Everything that can go wrong between us and a Windows machine has its own code and a sentence with what to do."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any

import pytest

from executions.connectors import ErrorCode, Invocation, Outcome, Stop, Target
from executions.connectors.base import Credential, Script
from executions.connectors.registry import NoConnector, Surroundings
from executions.connectors.warden import Warden
from executions.connectors.winrm import make, shell
from executions.connectors.winrm.connector import WinRMConnector
from tests.executions.connectors.recording import RecordingSink, wait_until
from tests.executions.connectors.windows.conftest import PASSWORD, basic, target_at
from tests.executions.connectors.windows.fake_winrm import ACCESS_DENIED, FAULT, NOT_FOUND, FakeWinRM, Fault, Handler


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(shell, "POLL_SECONDS", 1)


async def run(connector: WinRMConnector, target: Target, script: str = "echo ran", stop: Stop | None = None) -> Outcome:
    invocation = Invocation(script=Script(script))
    return await connector.run(invocation, target, sink=RecordingSink(), stop=stop or Stop(), fence=1)


def fault(one: Fault) -> Any:
    def answer(handler: Handler) -> bool:
        body = FAULT.format(code=one.code, subcode=one.subcode, text=one.text)
        handler.reply(500, "", "", body)
        return True

    return answer


def hang_up(handler: Handler) -> bool:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
    return True


def nonsense(handler: Handler) -> bool:
    handler.send(200, b"<html>It works!</html>", "text/html")
    return True


async def test_a_closed_port_is_refused(connector: WinRMConnector) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        outcome = await run(connector, target_at(closed.getsockname()[1], hostname="127.0.0.1"))
    assert outcome.error_code == ErrorCode.CONNECTION_REFUSED
    assert "HTTPS listener" in (outcome.error or "")


async def test_an_unknown_name_is_unreachable(connector: WinRMConnector) -> None:
    outcome = await run(connector, target_at(5986, hostname="no-such-machine.invalid"))
    assert outcome.error_code == ErrorCode.UNREACHABLE
    assert "hostname" in (outcome.error or "")


async def test_a_machine_that_does_not_answer_is_unreachable(connector: WinRMConnector) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        outcome = await run(connector, target_at(silent.getsockname()[1]))
    assert outcome.error_code in (ErrorCode.UNREACHABLE, ErrorCode.TLS_FAILED)
    assert outcome.error_code.nothing_happened


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_that_cannot_be_trusted_is_refused_before_anything_is_said(
    warden: Warden, options: dict[str, Any], tls: ssl.SSLContext, windows: FakeWinRM, trusted: bool
) -> None:
    """Of another authority, and of the right one but for another name."""
    if trusted:
        target = target_at(windows.port, hostname="127.0.0.1")
        connector = WinRMConnector(Surroundings(warden, options=options))
    else:
        target = target_at(windows.port)
        connector = WinRMConnector(Surroundings(warden, options={"winrm_auth": "basic"}))
    outcome = await run(connector, target)
    assert outcome.error_code == ErrorCode.TLS_FAILED
    assert "WINRM_CA_BUNDLE" in (outcome.error or "")
    assert windows.seen == []


async def test_plain_http_is_never_spoken(connector: WinRMConnector) -> None:
    received: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(100))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        outcome = await run(connector, target_at(server.sockets[0].getsockname()[1]))
    assert outcome.error_code == ErrorCode.TLS_FAILED
    assert received
    assert all(data[:1] == b"\x16" for data in received)


async def test_nobody_is_followed_elsewhere(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, tls: ssl.SSLContext
) -> None:
    elsewhere = FakeWinRM(tls, basic)
    try:

        def redirect(handler: Handler) -> bool:
            handler.send(307, b"", Location=f"https://localhost:{elsewhere.port}/wsman")
            return True

        windows.before["Create"] = redirect
        outcome = await run(connector, target)
        assert outcome.error_code == ErrorCode.UNREACHABLE
        assert "elsewhere" in (outcome.error or "")
        assert elsewhere.seen == []
    finally:
        elsewhere.close()


async def test_a_wrong_password_is_said_to_be_one_and_not_repeated(
    connector: WinRMConnector, windows: FakeWinRM
) -> None:
    credential = Credential(username="ops", password="wr0ng-one")
    outcome = await run(connector, target_at(windows.port, credential=credential))
    assert outcome.error_code == ErrorCode.AUTHENTICATION_FAILED
    assert "wr0ng-one" not in (outcome.error or "")
    assert windows.seen == []


async def test_an_offer_of_other_ways_to_sign_in_is_told(
    warden: Warden, options: dict[str, Any], windows: FakeWinRM
) -> None:
    connector = WinRMConnector(Surroundings(warden, options={**options, "winrm_auth": "negotiate"}))
    outcome = await run(connector, target_at(windows.port))
    assert outcome.error_code == ErrorCode.AUTHENTICATION_FAILED
    assert "WINRM_AUTH" in (outcome.error or "")


@pytest.mark.parametrize(
    ("credential", "words"),
    [
        (None, "names no credential"),
        (Credential(username="ops"), "no password"),
        (Credential(password=PASSWORD), "no user name"),
        (Credential(username="ops", private_key="a key of ssh"), "no password"),
    ],
)
async def test_a_credential_that_winrm_cannot_use_is_refused(
    connector: WinRMConnector, windows: FakeWinRM, credential: Credential | None, words: str
) -> None:
    outcome = await run(connector, target_at(windows.port, credential=credential))
    assert outcome.error_code == ErrorCode.CREDENTIAL_UNUSABLE
    assert words in (outcome.error or "")
    assert windows.seen == []


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (fault(ACCESS_DENIED), ErrorCode.AUTHENTICATION_FAILED, "Remote Management Users"),
        (fault(Fault(2150859174, "w:QuotaLimit", "Too many shells.")), ErrorCode.START_FAILED, "MaxShellsPerUser"),
        (fault(Fault(2147024894, "w:InternalError", "No such\nthing.")), ErrorCode.START_FAILED, "No such thing"),
        (nonsense, ErrorCode.UNREACHABLE, "no WinRM service"),
        (lambda handler: bool(handler.send(404, b"")) or True, ErrorCode.UNREACHABLE, "HTTP status 404"),
        (hang_up, ErrorCode.UNREACHABLE, "nothing was run"),
    ],
)
async def test_what_fails_before_it_began_left_the_machine_alone(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, answer: Any, code: ErrorCode, words: str
) -> None:
    windows.before["Create"] = answer
    outcome = await run(connector, target)
    assert (outcome.error_code, outcome.exit_code) == (code, None)
    assert words in (outcome.error or "")
    assert "win-1" in (outcome.error or "")
    assert code.nothing_happened


async def test_what_breaks_before_the_last_word_was_not_carried_out(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, tmp_path: Any
) -> None:
    """The agent begins only when it has been told everything."""
    sends: list[int] = []

    def second(handler: Handler) -> bool:
        sends.append(1)
        return len(sends) == 2 and hang_up(handler)

    windows.before["Send"] = second
    invocation = Invocation(script=Script(f"touch {tmp_path}/ran"), stdin=b"x" * 400_000)
    outcome = await connector.run(invocation, target, sink=RecordingSink(), stop=Stop(), fence=1)
    assert outcome.error_code == ErrorCode.UNREACHABLE
    assert outcome.error_code.nothing_happened
    wait_until(lambda: not windows.shells)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (hang_up, ErrorCode.CONNECTION_LOST),
        (fault(NOT_FOUND), ErrorCode.CONNECTION_LOST),
        (fault(Fault(2147024894, "w:InternalError", "No such thing.")), ErrorCode.INVALID_ANSWER),
        (nonsense, ErrorCode.INVALID_ANSWER),
    ],
)
async def test_what_breaks_in_the_middle_is_known_by_nobody(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, answer: Any, code: ErrorCode
) -> None:
    windows.before["Receive"] = answer
    outcome = await run(connector, target, "sleep 60")
    assert (outcome.error_code, outcome.exit_code) == (code, None)
    assert not code.nothing_happened
    assert outcome.stop_confirmed is None
    wait_until(lambda: not windows.shells)  # nothing goes on behind our back, as far as it can be ended


async def test_a_machine_that_falls_silent_in_the_middle_is_lost(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows.longest_wait_seconds = 4.0  # longer than was asked for
    windows.before["Receive"] = lambda handler: handler.server._closing.wait(4)
    outcome = await run(connector, target, "sleep 60")
    assert outcome.error_code == ErrorCode.CONNECTION_LOST


async def test_troubles_of_one_machine_are_nothing_to_another(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, tls: ssl.SSLContext
) -> None:
    bad = FakeWinRM(tls, basic)
    bad.before["Receive"] = hang_up
    try:
        good, lost = await asyncio.gather(run(connector, target), run(connector, target_at(bad.port)))
        assert (good.exit_code, lost.error_code) == (0, ErrorCode.CONNECTION_LOST)
    finally:
        bad.close()


async def test_probing_signs_in_and_runs_nothing(connector: WinRMConnector, target: Target, windows: FakeWinRM) -> None:
    outcome = await connector.probe(target, timeout_seconds=5)
    assert (outcome.exit_code, windows.actions()) == (0, ["Create", "Delete"])
    wrong = target_at(windows.port, credential=Credential(username="ops", password="no"))
    assert (await connector.probe(wrong, timeout_seconds=5)).error_code == ErrorCode.AUTHENTICATION_FAILED
    no = await connector.probe(target_at(windows.port, credential=None), timeout_seconds=5)
    assert no.error_code == ErrorCode.CREDENTIAL_UNUSABLE
    windows.before["Create"] = lambda handler: handler.server._closing.wait(2)
    assert (await connector.probe(target, timeout_seconds=0.2)).error_code == ErrorCode.UNREACHABLE


def test_a_worker_without_the_library_says_what_to_install(warden: Warden, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NoConnector, match=r"requirements-windows\.txt"):
        make(Surroundings(warden))


async def test_not_even_a_talkative_log_has_what_is_sent(
    connector: WinRMConnector, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await run(connector, target, "echo s3cr3t")
    told = " ".join(record.getMessage() for record in caplog.records)
    assert told
    assert "Envelope" not in told
    assert PASSWORD not in told
