"""What runs on a Windows machine, through the protocol and the double of PowerShell: data arrives as data."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

import pytest

from executions.connectors import ErrorCode, Invocation, Outcome, Stop, Target
from executions.connectors.base import Script
from executions.connectors.winrm.connector import WinRMConnector
from tests.executions.connectors.recording import RecordingSink, wait_until
from tests.executions.connectors.windows.fake_winrm import ACCESS_VIOLATION, FakeWinRM

TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], sys.stdin.read(), os.environ.get('NOTE'), os.getcwd()]))"


async def run(connector: WinRMConnector, target: Target, **invocation: Any) -> tuple[Outcome, RecordingSink]:
    sink = RecordingSink()
    outcome = await connector.run(Invocation(**invocation), target, sink=sink, stop=Stop(), fence=41)
    return outcome, sink


HOSTILE = [
    'a"b',
    '"',
    '""',
    "a b",
    "",
    "\\",
    'x\\"y',
    "ends with \\",
    "two \\\\",
    "%PATH%",
    "^&|<>()",
    "$(Remove-Item x)",
    "`whoami`",
    "'; exit 3; '",
    "\u2019; exit 3; \u2018",
    "-EncodedCommand",
    "--",
    "/c",
    "line\nbreak",
    "tab\tbetween",
    "grün 日本 \U0001f600",
    "!x!",
    "@args",
    "{{}}",
]


async def test_every_argument_arrives_as_it_is(connector: WinRMConnector, target: Target) -> None:
    outcome, sink = await run(connector, target, argv=(sys.executable, "-c", TELL, *HOSTILE))
    assert outcome.exit_code == 0, (outcome, sink.stderr)
    assert json.loads(sink.stdout)[0] == HOSTILE


async def test_input_environment_and_directory_arrive(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, tmp_path: Any
) -> None:
    (tmp_path / "Data" / "In").mkdir(parents=True)
    windows.environment = {"DOUBLE_ROOT": str(tmp_path)}
    outcome, sink = await run(
        connector,
        target,
        argv=(sys.executable, "-c", TELL),
        stdin="grün\n".encode() * 60_000,
        environment={"NOTE": 'a "note" %PATH%'},
        working_directory="C:\\Data\\In",
    )
    assert outcome.exit_code == 0
    told = json.loads(sink.stdout)
    assert (len(told[1]), told[2], told[3]) == (60_000 * 5, 'a "note" %PATH%', str(tmp_path / "Data" / "In"))


async def test_the_command_line_holds_nothing_of_the_invocation(
    connector: WinRMConnector, target: Target, windows: FakeWinRM
) -> None:
    """Every user of a Windows machine can read the command lines of its processes."""
    await run(
        connector,
        target,
        script=Script("echo s3cr3t-script"),
        stdin=b"s3cr3t-input",
        environment={"TOKEN": "s3cr3t-value"},
    )
    [command] = [body for action, body in windows.seen if action == "Command"]
    creates = [body for action, body in windows.seen if action == "Create"]
    for text in (b"s3cr3t", base64.b64encode(b"echo s3cr3t-script")):
        assert text not in command
        assert all(text not in body for body in creates)


async def test_the_exit_code_is_the_programs(connector: WinRMConnector, target: Target) -> None:
    outcome, _ = await run(connector, target, script=Script("echo no >&2; exit 7"))
    assert (outcome.exit_code, outcome.error_code) == (7, None)


async def test_an_exit_code_of_the_system_is_negative_as_windows_shows_it(
    connector: WinRMConnector, target: Target, windows: FakeWinRM
) -> None:
    windows.exit_code = ACCESS_VIOLATION
    outcome, _ = await run(connector, target, script=Script("exit 1"))
    assert outcome.exit_code == -1073741819


async def test_output_comes_while_it_runs_and_both_streams_are_told_apart(
    connector: WinRMConnector, target: Target
) -> None:
    sink, stop = RecordingSink(), Stop()
    script = Script("echo first; echo aside >&2; exec sleep 60")
    running = asyncio.ensure_future(connector.run(Invocation(script=script), target, sink=sink, stop=stop, fence=1))
    await sink.wait_for_text("first\n")
    await asyncio.to_thread(wait_until, lambda: sink.stderr == "aside\n")
    assert not running.done()
    stop.request("user")
    assert (await running).stop_confirmed is True
    assert (sink.stdout, sink.stderr) == ("first\n", "aside\n")


async def test_the_fence_reaches_the_program(connector: WinRMConnector, target: Target) -> None:
    _, sink = await run(connector, target, script=Script("echo $OPSCONDUCTOR_FENCE"))
    assert sink.stdout == "41\n"


async def test_a_script_gets_its_input(connector: WinRMConnector, target: Target) -> None:
    _, sink = await run(connector, target, script=Script("cat"), stdin=b"the input\n")
    assert sink.stdout == "the input\n"


async def test_a_tools_program_gets_its_inputs_as_a_table(connector: WinRMConnector, target: Target) -> None:
    inputs = {f"name{at}": value for at, value in enumerate(HOSTILE)}
    _, sink = await run(connector, target, script=Script("the program", inputs), stdin=b"\x00\xff")
    told = json.loads(sink.stdout)
    assert told["inputs"] == inputs
    assert (base64.b64decode(told["content"]), told["program"]) == (b"\x00\xff", "the program")


async def test_megabytes_come_through_and_wait_for_room(connector: WinRMConnector, target: Target) -> None:
    class SlowSink(RecordingSink):
        async def later(self) -> None:
            await asyncio.sleep(0)

        def write(self, stream: Any, data: bytes) -> Any:
            super().write(stream, data)
            return self.later()

    sink = SlowSink()
    script = Script("head -c 3000000 /dev/zero")
    outcome = await connector.run(Invocation(script=script), target, sink=sink, stop=Stop(), fence=1)
    assert (outcome.exit_code, len(sink.bytes_of("stdout"))) == (0, 3_000_000)


async def test_nothing_is_left_on_the_machine(connector: WinRMConnector, target: Target, windows: FakeWinRM) -> None:
    await run(connector, target, script=Script("echo one"))
    assert windows.shells == {}
    assert windows.actions()[-1] == "Delete"


@pytest.mark.parametrize(
    ("invocation", "code", "words"),
    [
        ({"argv": ()}, ErrorCode.INVALID_INVOCATION, "no command"),
        ({"argv": ("a\0b",)}, ErrorCode.INVALID_INVOCATION, "NUL"),
        ({"argv": ("x", "\ud800")}, ErrorCode.INVALID_INVOCATION, "half a character"),
        ({"argv": ("x",), "environment": {"A=B": "1"}}, ErrorCode.INVALID_INVOCATION, "environment"),
        ({"argv": ("x", "a" * 32_800)}, ErrorCode.ARGUMENTS_TOO_LONG, "32,766"),
        ({"argv": ("x",), "working_directory": "/tmp"}, ErrorCode.WORKING_DIRECTORY, "not absolute"),
        ({"argv": ("x",), "run_as": "admin"}, ErrorCode.NOT_SUPPORTED, "run_as"),
        ({"argv": ("x",), "check": True}, ErrorCode.NOT_SUPPORTED, "would change"),
        *(
            ({"argv": (name, "a")}, ErrorCode.INVALID_INVOCATION, "batch file")
            for name in ("run.bat", "C:\\x\\Run.CMD", "run.bat. .", "run.cmd::$DATA", "C:run.bat", "..\\a.bat ")
        ),
    ],
)
async def test_what_no_windows_machine_can_be_asked_is_told_before_anything_is_sent(
    connector: WinRMConnector,
    target: Target,
    windows: FakeWinRM,
    invocation: dict[str, Any],
    code: ErrorCode,
    words: str,
) -> None:
    outcome, _ = await run(connector, target, **invocation)
    assert outcome.error_code == code
    assert words in (outcome.error or "")
    assert code.nothing_happened
    assert windows.seen == []


@pytest.mark.parametrize(
    ("invocation", "code"),
    [
        ({"argv": ("no-such-program-anywhere",)}, ErrorCode.COMMAND_NOT_FOUND),
        ({"argv": ("/etc",)}, ErrorCode.PERMISSION_DENIED),
        ({"argv": ("x",), "working_directory": "C:\\nowhere"}, ErrorCode.WORKING_DIRECTORY),
    ],
)
async def test_what_cannot_be_started_there_did_not_run(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, invocation: dict[str, Any], code: ErrorCode
) -> None:
    windows.environment = {"DOUBLE_ROOT": "/nonexistent"}
    outcome, sink = await run(connector, target, **invocation)
    assert outcome.error_code == code
    assert outcome.exit_code is None
    assert "win-1" in (outcome.error or "")
    assert sink.writes == []


async def test_a_powershell_that_does_not_begin_is_never_a_result(
    connector: WinRMConnector, target: Target, windows: FakeWinRM
) -> None:
    windows.program = ["/bin/sh", "-c", "echo powershell.exe is not recognized >&2; exit 0"]
    outcome, _ = await run(connector, target, script=Script("echo never"))
    assert outcome.error_code == ErrorCode.START_FAILED
    assert outcome.exit_code is None
    assert "is not recognized" in (outcome.error or "")


async def test_what_cmd_prints_before_is_passed_on_and_confuses_nobody(
    connector: WinRMConnector, target: Target, windows: FakeWinRM
) -> None:
    """A command in cmd.exe's AutoRun prints before PowerShell begins."""
    windows.program = ["/bin/sh", "-c", 'echo Welcome; exec "$@"', "cmd", *windows.program]
    outcome, sink = await run(connector, target, script=Script("echo done"))
    assert (outcome.exit_code, sink.stdout) == (0, "Welcome\ndone\n")
    missing, _ = await run(connector, target, argv=("no-such-program-anywhere",))
    assert missing.error_code == ErrorCode.COMMAND_NOT_FOUND
