"""The automation service as services.md describes it, behind the connector that speaks to it.

OPSCONDUCTOR_TEST_AUTOMATION_SERVICE_URL (with OPSCONDUCTOR_TEST_SERVICE_TOKEN) names a real one, which runs `echo`
on its own machine.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from executions.clients import pauses
from executions.connectors.automation.connector import AutomationConnector, make
from executions.connectors.automation.orders import NotOrdered, order_of
from executions.connectors.base import Credential, ErrorCode, Invocation, Outcome, Script, Stop, Stream, Target, Upload
from executions.connectors.registry import Surroundings
from executions.connectors.warden import Warden
from executions.engine.exit_codes import with_fitting_code
from executions.engine.verdict import judge
from opsconductor.service_settings import ServiceSettings
from tests.contract.conftest import settings_of
from tests.contract.fake_services import Answer, FakeAutomationService, half_an_answer, reset
from tests.installations import free_port, wait_until

REAL_URL = os.environ.get("OPSCONDUCTOR_TEST_AUTOMATION_SERVICE_URL", "")
SSH = Target(
    name="web-1", hostname="web-1.example.org", ip_address="10.0.0.1", connection="ssh", port=22,
    credential=Credential(username="ops", password="pa55word"),
)  # fmt: skip
HERE = Target(name="localhost", connection="local")
WINDOWS = Target(name="win", hostname="win.example.org", connection="powershell", port=5986)
ECHO = Invocation(argv=("echo", "hello"), timeout_seconds=30)


class Printed:
    def __init__(self) -> None:
        self.text: dict[str, str] = {"stdout": "", "stderr": ""}

    def write(self, stream: Stream, data: bytes) -> None:
        self.text[stream] += data.decode()


@pytest.fixture
def warden() -> Iterator[Warden]:
    warden = Warden()
    yield warden
    warden.close()


@pytest.fixture
def connector(automation_server: FakeAutomationService, warden: Warden, quick: None) -> AutomationConnector:
    return make(Surroundings(warden, options={"automation": settings_of(automation_server, "automation")}))


async def run(
    connector: AutomationConnector, invocation: Invocation = ECHO, target: Target = SSH, stop: Stop | None = None
) -> tuple[Outcome, Printed]:
    printed = Printed()
    outcome = await connector.run(invocation, target, sink=printed, stop=stop or Stop(), fence=7)
    return outcome, printed


def status(outcome: Outcome, *, idempotent: bool = False, stop_reason: str | None = None) -> str:
    success: dict[str, Any] = {"exit_codes": [0], "stdout_matches": None}
    return judge(outcome, success=success, stdout="", stop_reason=stop_reason, idempotent=idempotent, limit=30.0).status


@pytest.mark.parametrize("which", ["fake", "real"])
async def test_a_command_runs_and_tells_its_end(
    which: str, automation_server: FakeAutomationService, warden: Warden
) -> None:
    service = settings_of(automation_server, "automation")
    if which == "real":
        if not REAL_URL:
            pytest.skip("OPSCONDUCTOR_TEST_AUTOMATION_SERVICE_URL names no automation service")
        service = ServiceSettings("automation", REAL_URL, token=os.environ.get("OPSCONDUCTOR_TEST_SERVICE_TOKEN", ""))
    automation_server.results = [{"stdout": "hello\n"}]
    connector = make(Surroundings(warden, options={"automation": service}))
    outcome, printed = await run(connector, target=HERE)
    assert (outcome.exit_code, outcome.error_code, printed.text["stdout"].strip()) == (0, None, "hello")
    assert "ssh" in connector.service.status()["connection_types"]
    await connector.close()


async def test_what_is_asked_for_is_all_that_the_machine_needs(
    connector: AutomationConnector, automation_server: FakeAutomationService
) -> None:
    invocation = replace(ECHO, working_directory="/srv", environment={"A": "b"}, timeout_seconds=12.2)
    await run(connector, invocation)
    (request,) = automation_server.seen
    assert request.body == {
        "command": "echo hello", "target_host": "10.0.0.1", "connection_type": "ssh", "timeout": 13,
        "working_directory": "/srv", "environment_vars": {"A": "b", "OPSCONDUCTOR_FENCE": "7"},
        "credentials": {"username": "ops", "password": "pa55word"},
    }  # fmt: skip
    await run(connector, target=HERE)
    assert not {"target_host", "credentials"} & automation_server.seen[-1].body.keys()
    assert "pa55word" not in repr(order_of(invocation, SSH, 7))


@pytest.mark.parametrize(
    ("result", "exit_code", "error_code", "became"),
    [
        ({}, 0, None, "succeeded"),
        ({"status": "completed"}, 0, None, "succeeded"),
        ({"status": " Success "}, 0, None, "succeeded"),
        ({"status": "failed", "exit_code": 3, "stderr": "no"}, 3, None, "failed"),
        ({"status": "success", "exit_code": 1}, 1, None, "failed"),
        ({"status": "failed", "exit_code": -9}, 137, ErrorCode.KILLED_BY_SIGNAL, "failed"),
        ({"status": "failed", "exit_code": 0}, None, ErrorCode.INVALID_ANSWER, "unknown"),
        ({"status": "succeeded-ish"}, None, ErrorCode.INVALID_ANSWER, "unknown"),
        ({"status": None}, None, ErrorCode.INVALID_ANSWER, "unknown"),
        ({"exit_code": None}, None, ErrorCode.NO_ANSWER, "unknown"),
        ({"status": "skipped"}, None, ErrorCode.NOT_SUPPORTED, "failed"),
        ({"status": "failed", "exit_code": None, "error_message": "Command timed out after 30 seconds"},
         None, ErrorCode.NO_ANSWER, "unknown"),
        ({"status": "failed", "exit_code": None, "error_message": "[Errno 111] Connection refused"},
         None, ErrorCode.NO_ANSWER, "unknown"),  # a silent command may have restarted the machine
        ({"status": "failed", "exit_code": None, "error_message": "Authentication failed."},
         None, ErrorCode.NO_ANSWER, "unknown"),
        ({"stdout": "SSH execution not yet implemented"}, None, ErrorCode.NOT_SUPPORTED, "failed"),
        ({"stdout": "", "stderr": "PowerShell execution not implemented.\n"}, None, ErrorCode.NOT_SUPPORTED, "failed"),
        ({"exit_code": None, "error_message": "SSH execution not implemented"},
         None, ErrorCode.NOT_SUPPORTED, "failed"),
        # These ran: it is what the command itself said.
        ({"status": "failed", "exit_code": 3, "stderr": "Batch execution not implemented."}, 3, None, "failed"),
        ({"stdout": "did it", "stderr": "Batch execution not implemented."}, 0, None, "succeeded"),
        ({"status": "failed", "exit_code": None, "stdout": "Batch execution not implemented.", "error_message": "Lost"},
         None, ErrorCode.NO_ANSWER, "unknown"),
        ({"stdout": "log: SSH execution not yet implemented in v1\nfine"}, 0, None, "succeeded"),
        ({"stdout": None, "stderr": None, "error_message": None, "duration_seconds": None}, 0, None, "succeeded"),
    ],
)  # fmt: skip
async def test_every_answer_means_one_thing_and_success_needs_both_words(
    result: dict[str, Any], exit_code: int | None, error_code: ErrorCode | None, became: str,
    connector: AutomationConnector, automation_server: FakeAutomationService,
) -> None:  # fmt: skip
    automation_server.results = [result]
    outcome, _ = await run(connector)
    assert (outcome.exit_code, outcome.error_code) == (exit_code, error_code)
    assert status(outcome) == became
    assert len(automation_server.seen) == 1


@pytest.mark.parametrize("exit_code", [-1, -9, -1073741819])
async def test_a_negative_code_of_windows_is_no_signal(
    exit_code: int, connector: AutomationConnector, automation_server: FakeAutomationService
) -> None:
    automation_server.results = [{"status": "failed", "exit_code": exit_code}]
    outcome, _ = await run(connector, target=WINDOWS)
    assert (outcome.exit_code, outcome.error_code) == (exit_code, None)
    assert status(outcome) == "failed"


async def test_a_probe_has_nothing_done_and_says_whether_the_machine_was_reached(
    connector: AutomationConnector, automation_server: FakeAutomationService
) -> None:
    automation_server.results = [
        {}, {},
        {"status": "failed", "exit_code": None, "error_message": "[Errno 111] Connection refused"},
        {"status": "failed", "exit_code": 126},
        {"stdout": "SSH execution not yet implemented"},
    ]  # fmt: skip
    assert (await connector.probe(SSH, timeout_seconds=10)).exit_code == 0
    assert (await connector.probe(WINDOWS, timeout_seconds=10)).exit_code == 0
    refused = await connector.probe(SSH, timeout_seconds=10)
    assert (refused.exit_code, refused.error_code) == (None, ErrorCode.UNREACHABLE)
    assert "could not reach web-1" in str(refused.error)
    assert "Connection refused" in str(refused.error)
    odd = await connector.probe(SSH, timeout_seconds=10)
    assert (odd.exit_code, odd.error_code) == (126, None)
    assert (await connector.probe(SSH, timeout_seconds=10)).error_code == ErrorCode.NOT_SUPPORTED
    assert [one.body["command"] for one in automation_server.seen] == ["true", "exit 0", "true", "true", "true"]
    assert automation_server.seen[0].body["credentials"] == {"username": "ops", "password": "pa55word"}
    assert {one.body["timeout"] for one in automation_server.seen} == {9}  # its own answer comes before ours is due


async def test_a_probe_that_the_service_does_not_answer_says_nothing_of_the_machine(
    connector: AutomationConnector, automation_server: FakeAutomationService, warden: Warden
) -> None:
    for answer in (Answer(instead=reset), Answer(503, b""), Answer(401, b""), Answer(body=b"<html>")):
        automation_server.planned = [answer]
        assert (await connector.probe(SSH, timeout_seconds=10)).error_code == ErrorCode.START_FAILED
    automation_server.go_on = threading.Event()
    outcome = await connector.probe(SSH, timeout_seconds=0.3)
    automation_server.go_on.set()
    assert outcome.error_code == ErrorCode.UNREACHABLE  # the service waits for the machine
    assert "within 0.3 s" in str(outcome.error)
    assert (await connector.probe(replace(SSH, port=2222), timeout_seconds=10)).error_code == ErrorCode.NOT_SUPPORTED
    nowhere = ServiceSettings("automation", f"http://127.0.0.1:{free_port()}")
    alone = make(Surroundings(warden, options={"automation": nowhere}))
    assert (await alone.probe(SSH, timeout_seconds=0.5)).error_code == ErrorCode.START_FAILED


@pytest.mark.parametrize(
    ("target", "told", "stored"),
    [
        (WINDOWS, 3221225477, -1073741819),
        (SSH, 3221225477, -1073741819),
        (SSH, 2**31, -(2**31)),
        (SSH, -(2**31), -(2**31)),
        (SSH, 2**32, None),
        (SSH, -(10**12), None),
        (SSH, 10**30, None),
        (SSH, 10**4000, None),
    ],
)
async def test_an_exit_code_beyond_32_bits_is_stored_as_what_it_is_or_nobody_knows(
    target: Target, told: int, stored: int | None,
    connector: AutomationConnector, automation_server: FakeAutomationService,
) -> None:  # fmt: skip
    automation_server.results = [{"status": "failed", "exit_code": told}]
    outcome, _ = await run(connector, target=target)
    outcome = with_fitting_code(outcome)
    assert outcome.exit_code == stored
    assert status(outcome) == ("unknown" if stored is None else "failed")
    if stored is None:
        assert str(told)[:40] in str(outcome.error)
        assert len(str(outcome.error)) < 200
        assert str(told)[:40] in str(outcome.data["told_exit_code"])


@pytest.mark.parametrize(
    ("answer", "error_code", "became"),
    [
        (Answer(instead=reset), ErrorCode.NO_ANSWER, "unknown"),
        (Answer(instead=half_an_answer), ErrorCode.NO_ANSWER, "unknown"),
        (Answer(500, {"detail": "boom"}), ErrorCode.NO_ANSWER, "unknown"),
        (Answer(503, b"", {"Retry-After": "1"}), ErrorCode.NO_ANSWER, "unknown"),
        (Answer(body=b"<html>"), ErrorCode.INVALID_ANSWER, "unknown"),
        (Answer(body={"exit_code": "zero"}), ErrorCode.INVALID_ANSWER, "unknown"),
        (Answer(body={"exit_code": True, "status": "success"}), ErrorCode.INVALID_ANSWER, "unknown"),
        (Answer(302, b"", {"Location": "/"}), ErrorCode.INVALID_ANSWER, "unknown"),
        (Answer(422, {"detail": "pa55word"}), ErrorCode.INVALID_INVOCATION, "failed"),
        (Answer(401, {"detail": "no"}), ErrorCode.AUTHENTICATION_FAILED, "failed"),
        (Answer(404, {"detail": "no"}), ErrorCode.NOT_SUPPORTED, "failed"),
        (Answer(429, b""), ErrorCode.UNREACHABLE, "failed"),
    ],
)
async def test_a_lost_answer_is_unknown_and_nothing_is_ever_sent_twice(
    answer: Answer, error_code: ErrorCode, became: str,
    connector: AutomationConnector, automation_server: FakeAutomationService,
) -> None:  # fmt: skip
    automation_server.always = answer
    outcome, _ = await run(connector)
    assert outcome.error_code == error_code
    assert status(outcome) == became
    assert status(outcome, idempotent=True) == "failed"
    assert len(automation_server.seen) == 1
    assert "pa55word" not in str(outcome.error)


async def test_a_service_that_nobody_reaches_did_nothing(warden: Warden, quick: None) -> None:
    nowhere = ServiceSettings("automation", f"http://127.0.0.1:{free_port()}")
    outcome, _ = await run(make(Surroundings(warden, options={"automation": nowhere})))
    assert outcome.error_code == ErrorCode.CONNECTION_REFUSED
    assert outcome.error_code.nothing_happened


async def test_a_stop_ends_the_wait_at_once_and_is_not_confirmed(
    connector: AutomationConnector, automation_server: FakeAutomationService
) -> None:
    automation_server.go_on = threading.Event()
    stop = Stop()
    running = asyncio.ensure_future(run(connector, stop=stop))
    await asyncio.get_running_loop().run_in_executor(None, automation_server.running.wait, 10)
    stop.request("user")
    async with asyncio.timeout(3):
        outcome, _ = await running
    automation_server.go_on.set()
    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, False)
    assert "may still run on web-1" in str(outcome.error)
    assert status(outcome, stop_reason="user") == "unknown"
    assert status(outcome, stop_reason="user", idempotent=True) == "cancelled"


async def test_a_stop_before_anything_was_sent_is_confirmed(warden: Warden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE_SECONDS", 20.0)
    monkeypatch.setattr(pauses, "LONGEST_PAUSE_SECONDS", 20.0)
    nowhere = ServiceSettings("automation", f"http://127.0.0.1:{free_port()}")
    connector = make(Surroundings(warden, options={"automation": nowhere}))
    stop = Stop()
    asyncio.get_running_loop().call_later(0.2, stop.request, "user")
    outcome, _ = await run(connector, replace(ECHO, timeout_seconds=600), stop=stop)
    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.NOT_STARTED, True)


async def test_who_waits_for_a_turn_is_stopped_at_once_and_keeps_none(
    connector: AutomationConnector, automation_server: FakeAutomationService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executions.connectors.automation.connector.MOST_AT_ONCE", 1)
    connector._room = (None, asyncio.Semaphore(1))
    automation_server.go_on = threading.Event()
    first = asyncio.ensure_future(run(connector))
    await asyncio.get_running_loop().run_in_executor(None, automation_server.running.wait, 10)
    stop = Stop()
    waiting = asyncio.ensure_future(run(connector, stop=stop))
    await asyncio.sleep(0)
    stop.request("user")
    outcome, _ = await waiting
    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.NOT_STARTED, True)
    automation_server.go_on.set()
    assert (await first)[0].exit_code == 0
    assert (await run(connector))[0].exit_code == 0
    assert len(automation_server.seen) == 2


async def test_a_worker_without_its_right_sends_nothing(
    connector: AutomationConnector, automation_server: FakeAutomationService, warden: Warden
) -> None:
    warden.extend(0.0)
    wait_until(lambda: warden.right_is_over, what="the end of the right")
    outcome, _ = await run(connector)
    assert outcome.error_code == ErrorCode.NOT_STARTED
    assert automation_server.seen == []


async def test_an_answer_that_is_too_large_is_not_kept(
    connector: AutomationConnector, automation_server: FakeAutomationService
) -> None:
    automation_server.results = [{"stdout": "x" * 3_000_000}]
    outcome, printed = await run(connector, replace(ECHO, max_output_bytes=1024))
    assert outcome.error_code == ErrorCode.INVALID_ANSWER
    assert printed.text["stdout"] == ""


NASTY = ("a b", "$(id)", "`id`", "';id;'", '"', "-rf", "line\nline", "*", "\\", "~", "!x", "é", "", "#", "%PATH%")


def test_arguments_arrive_as_data_in_a_posix_shell() -> None:
    command = order_of(replace(ECHO, argv=("printf", *NASTY)), SSH, 1).body["command"]
    assert shlex.split(command) == ["printf", *NASTY]


def test_arguments_for_powershell_are_never_a_command() -> None:
    words = [word for word in NASTY if word and '"' not in word and not word.endswith("\\")]
    quotes = ["'", "\u2018;id;\u2019", "\u201a", "\u201b"]
    command = order_of(replace(ECHO, argv=("prog", *words, *quotes)), WINDOWS, 1).body["command"]
    assert command.startswith("& 'prog' ")
    assert command.endswith("; exit $LASTEXITCODE")
    assert "id" not in command.replace("exit", "").replace("[", " ").split()
    for sign in "`\u2018\u2019\u201a\u201b\n;":
        assert sign not in command.removesuffix("; exit $LASTEXITCODE")


@pytest.mark.parametrize(
    ("invocation", "target", "code"),
    [
        (replace(ECHO, stdin=b"x"), SSH, ErrorCode.NOT_SUPPORTED),
        (replace(ECHO, upload=Upload("/x", b"y")), SSH, ErrorCode.NOT_SUPPORTED),
        (replace(ECHO, run_as="root"), SSH, ErrorCode.NOT_SUPPORTED),
        (ECHO, replace(SSH, port=2222), ErrorCode.NOT_SUPPORTED),
        (ECHO, replace(SSH, credential=Credential(private_key="k", passphrase="p")), ErrorCode.CREDENTIAL_UNUSABLE),
        (replace(ECHO, argv=("a\0b",)), SSH, ErrorCode.INVALID_INVOCATION),
        (replace(ECHO, argv=()), SSH, ErrorCode.INVALID_INVOCATION),
        (replace(ECHO, argv=()), WINDOWS, ErrorCode.INVALID_INVOCATION),
        (replace(ECHO, argv=("prog", 'say "x"')), WINDOWS, ErrorCode.NOT_SUPPORTED),
        (Invocation(script=Script("x", {"p": "a secret"}), secret_values=("secret",)), WINDOWS,
         ErrorCode.NOT_SUPPORTED),
    ],
)  # fmt: skip
def test_what_the_service_could_get_wrong_is_not_asked_for(
    invocation: Invocation, target: Target, code: ErrorCode
) -> None:
    with pytest.raises(NotOrdered) as refusal:
        order_of(invocation, target, 1)
    assert refusal.value.code == code
    assert refusal.value.code.nothing_happened


def test_scripts_go_as_they_are_and_the_catalogs_with_their_inputs() -> None:
    assert order_of(Invocation(script=Script("Get-Date")), WINDOWS, 1).body["command"] == "Get-Date"
    command = order_of(Invocation(script=Script("param()", {"name": "'; rm"})), WINDOWS, 1).body["command"]
    assert "rm" not in command
    assert command.startswith("& ([ScriptBlock]::Create(")
