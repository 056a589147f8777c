"""Commands over SSH, on a real OpenSSH server: what they get, what comes back, what is said when they cannot run."""

from __future__ import annotations

import os

import pytest

from executions.connectors import ErrorCode, Invocation, Outcome, Stop
from executions.connectors.ssh import SshConnector
from tests.executions.connectors.recording import RecordingSink
from tests.sshd import Sshd


async def run(
    connector: SshConnector, sshd: Sshd, *argv: str, sink: RecordingSink | None = None, **invocation: object
) -> tuple[Outcome, RecordingSink]:
    sink = sink or RecordingSink()
    outcome = await connector.run(
        Invocation(argv=argv, **invocation),  # type: ignore[arg-type]
        sshd.target(),
        sink=sink,
        stop=Stop(),
        fence=7,
    )
    return outcome, sink


async def test_output_and_exit_code_come_back(connector: SshConnector, sshd: Sshd) -> None:
    outcome, sink = await run(connector, sshd, "sh", "-c", "echo out; echo err >&2; exit 3")

    assert (outcome.exit_code, outcome.error_code, outcome.stop_confirmed) == (3, None, None), outcome.error
    assert (sink.stdout, sink.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize(
    "word",
    [
        "",
        "a b",
        "it's",
        '"$(id)"',
        "`id`",
        "$HOME",
        "a\nb\n",
        "--help",
        "-n",
        "\\",
        "!!",
        "*",
        "~",
        "üñ",
        "; rm x",
        "'\\''",
    ],
)
async def test_arguments_arrive_as_they_are(connector: SshConnector, sshd: Sshd, word: str) -> None:
    outcome, sink = await run(connector, sshd, "printf", "<%s>", word, environment={"WORD": word})

    assert (outcome.exit_code, sink.stdout) == (0, f"<{word}>")
    _, sink = await run(connector, sshd, "sh", "-c", 'printf %s "$WORD"', environment={"WORD": word})
    assert sink.stdout == word


@pytest.mark.parametrize("size", [1, 16384, 16385, 1_000_003])
async def test_standard_input_arrives_as_it_is(connector: SshConnector, sshd: Sshd, size: int) -> None:
    content = os.urandom(size)
    outcome, sink = await run(connector, sshd, "cat", stdin=content)

    assert outcome.exit_code == 0
    assert sink.bytes_of("stdout") == content


async def test_a_command_that_does_not_read_its_input_hinders_nobody(connector: SshConnector, sshd: Sshd) -> None:
    content = b"stop 0\nuntil 0 0\n" * 60_000
    outcome, sink = await run(connector, sshd, "sh", "-c", "exec <&-; sleep .3; echo done", stdin=content)

    assert (outcome.exit_code, sink.stdout) == (0, "done\n")


async def test_a_command_that_is_not_there_is_told_apart_from_its_exit_code(
    connector: SshConnector, sshd: Sshd
) -> None:
    codes = [
        (await run(connector, sshd, *argv, working_directory=directory))[0].error_code
        for argv, directory in ((("nosuch",), None), (("/etc/passwd",), None), (("true",), "/nosuch"))
    ]
    assert codes == [ErrorCode.COMMAND_NOT_FOUND, ErrorCode.PERMISSION_DENIED, ErrorCode.WORKING_DIRECTORY]
    outcome, _ = await run(connector, sshd, "sh", "-c", "exit 127")
    assert (outcome.exit_code, outcome.error_code) == (127, None)
