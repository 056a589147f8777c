"""Commands over SSH, on a real OpenSSH server: what they get, what comes back, what is said when they cannot run."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from executions.connectors import ErrorCode, Invocation, Outcome, Stop, Stream
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


@pytest.mark.parametrize("shell", ["sh", "bash", "fish", "tcsh"])
async def test_no_login_shell_reads_anything_of_the_command(
    connector: SshConnector, tmp_path: Path, shell: str
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine (Debian has it)")
    words = ("it's", '"$(id)"', "`id`", "!!", "a\nb", "\\", "*", "-n", "{a,b}", "~", "%s")
    with closing(Sshd(tmp_path / "own", f'ForceCommand {shell} -c "$SSH_ORIGINAL_COMMAND"')) as server:
        outcome, sink = await run(connector, server, "printf", "<%s>", *words)
        assert (outcome.exit_code, sink.stdout) == (0, "".join(f"<{word}>" for word in words)), outcome.error
        await connector.close()


async def test_what_a_login_script_prints_is_not_the_commands(connector: SshConnector, tmp_path: Path) -> None:
    noisy = 'sh -c "echo welcome; echo hint >&2; exec sh -c \'eval \\"\\$SSH_ORIGINAL_COMMAND\\"\'"'
    with closing(Sshd(tmp_path / "own", f"ForceCommand {noisy}")) as server:
        outcome, sink = await run(connector, server, "sh", "-c", "echo out; echo err >&2")
        assert (outcome.exit_code, sink.stdout, sink.stderr) == (0, "out\n", "err\n"), outcome.error
        await connector.close()


async def test_an_account_that_runs_no_commands_is_told(connector: SshConnector, tmp_path: Path) -> None:
    with closing(Sshd(tmp_path / "own", "ForceCommand echo This account is not available.")) as server:
        outcome, _ = await run(connector, server, "true")
        assert outcome.error_code == ErrorCode.NOT_SUPPORTED
        assert "This account is not available" in (outcome.error or "")
        await connector.close()


async def test_nul_is_refused_and_names_that_no_shell_can_set(connector: SshConnector, sshd: Sshd) -> None:
    for argv, environment in ((("a\0b",), {}), (("true",), {"A": "\0"}), (("true",), {"A;id": "x"}), (("",), {})):
        outcome, _ = await run(connector, sshd, *argv, environment=environment)
        assert outcome.error_code == ErrorCode.INVALID_INVOCATION


async def test_the_command_line_over_there_shows_the_commands_own_words_alone(
    connector: SshConnector, sshd: Sshd
) -> None:
    script = "cat >/dev/null; tr '\\0' ' ' < /proc/$PPID/cmdline; env | sort"
    outcome, sink = await run(connector, sshd, "sh", "-c", script, stdin=b"geheim-1", environment={"TOKEN": "geheim-2"})
    parent, _, environment = sink.stdout.partition("\n")

    assert outcome.exit_code == 0
    assert "geheim" not in parent
    assert "OPSCONDUCTOR_FENCE=7\n" in environment
    assert "OPSCONDUCTOR_RUN=" in environment
    assert "TOKEN=geheim-2" in environment


async def test_a_sink_that_waits_makes_the_command_wait(connector: SshConnector, sshd: Sshd, tmp_path: Path) -> None:
    class SlowSink(RecordingSink):
        def __init__(self) -> None:
            super().__init__()
            self.gate = asyncio.Event()

        async def write(self, stream: Stream, data: bytes) -> None:  # type: ignore[override]
            super().write(stream, data)
            await self.gate.wait()

    sink, has_written = SlowSink(), tmp_path / "has-written"
    script = f"head -c 20000000 /dev/zero; : > {has_written}"
    running = asyncio.ensure_future(run(connector, sshd, "sh", "-c", script, sink=sink))
    await sink.something_came.wait()
    done, _ = await asyncio.wait({running}, timeout=0.5)
    assert not done
    assert not has_written.exists(), "the command could write 20 MB although nobody took them"

    sink.gate.set()
    outcome, _ = await running
    assert outcome.exit_code == 0
    assert len(sink.bytes_of("stdout")) == 20_000_000


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


@pytest.mark.parametrize("name", ["group", "N", "seen", "folder", "C", "K", "stopping"])
async def test_no_variable_of_the_plan_takes_the_place_of_one_of_ours(
    connector: SshConnector, sshd: Sshd, name: str
) -> None:
    argv = ("sh", "-c", f'printf "<%s>" "${name}"')
    outcome, sink = await run(connector, sshd, *argv, environment={name: "/usr/bin/env"})
    assert (outcome.exit_code, sink.stdout) == (0, "</usr/bin/env>")
    outcome, sink = await run(connector, sshd, "not-there", environment={name: "x"})
    assert (outcome.error_code, sink.stdout) == (ErrorCode.COMMAND_NOT_FOUND, "")
