"""Commands on this machine: what they get, what comes back, and what is said when they cannot run."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import stat
import time
from pathlib import Path

import pytest

from executions.connectors import NO_TARGET, ErrorCode, Invocation, Stop, Stream
from executions.connectors.local import LocalConnector
from tests.executions.connectors.recording import RecordingSink, is_alive, open_descriptors, run_script, wait_until


async def test_output_and_exit_code_come_back(connector: LocalConnector) -> None:
    outcome, sink = await run_script(connector, "echo out; echo err >&2; exit 3")

    assert (outcome.exit_code, outcome.error_code, outcome.stop_confirmed) == (3, None, None)
    assert (sink.stdout, sink.stderr) == ("out\n", "err\n")


async def test_arguments_are_never_read_by_a_shell(connector: LocalConnector) -> None:
    sink = RecordingSink()
    invocation = Invocation(argv=("printf", "%s", "$(id) ; `id` > /tmp/x 'ü' \n*"))
    await connector.run(invocation, NO_TARGET, sink=sink, stop=Stop(), fence=1)

    assert sink.stdout == "$(id) ; `id` > /tmp/x 'ü' \n*"


async def test_both_streams_keep_the_order_in_which_they_were_written(connector: LocalConnector) -> None:
    # As far apart as a loop that is not busy can tell; closer than that two pipes have no order.
    script = "for i in 1 2 3 4 5 6; do echo out$i; sleep .02; echo err$i >&2; sleep .02; done"
    _, sink = await run_script(connector, script)

    expected = [(stream, f"{stream[3:]}{i}") for i in range(1, 7) for stream in ("stdout", "stderr")]
    assert [stream for stream, _ in sink.writes] == [stream for stream, _ in expected]
    assert b"".join(data for _, data in sink.writes).split() == [
        f"{word}{i}".encode() for i in range(1, 7) for word in ("out", "err")
    ]


async def test_output_comes_while_the_command_runs(connector: LocalConnector) -> None:
    sink, stop = RecordingSink(), Stop()
    running = asyncio.ensure_future(run_script(connector, "printf partial; exec sleep 60", sink=sink, stop=stop))
    await sink.wait_for_text("partial")

    assert not running.done()
    stop.request("user")
    await running


async def test_a_sink_that_waits_makes_the_command_wait(connector: LocalConnector, tmp_path: Path) -> None:
    class SlowSink(RecordingSink):
        def __init__(self) -> None:
            super().__init__()
            self.gate = asyncio.Event()

        async def write(self, stream: Stream, data: bytes) -> None:  # type: ignore[override]
            super().write(stream, data)
            await self.gate.wait()

    sink, has_written = SlowSink(), tmp_path / "has-written"
    running = asyncio.ensure_future(run_script(connector, f"head -c 5000000 /dev/zero; : > {has_written}", sink=sink))
    await sink.something_came.wait()
    done, _ = await asyncio.wait({running}, timeout=0.5)
    assert not done
    assert not has_written.exists(), "the command could write 5 MB although nobody took them"

    sink.gate.set()
    outcome, _ = await running
    assert outcome.exit_code == 0
    assert len(sink.bytes_of("stdout")) == 5_000_000


async def test_what_the_sink_raises_ends_the_command_and_comes_out(connector: LocalConnector) -> None:
    class BrokenSink(RecordingSink):
        def write(self, stream: Stream, data: bytes) -> None:
            super().write(stream, data)
            raise RuntimeError("no room")

    sink = BrokenSink()
    with pytest.raises(RuntimeError, match="no room"):
        await run_script(connector, "echo $$; exec sleep 60", sink=sink)

    wait_until(lambda: not is_alive(int(sink.stdout)), within_seconds=2)


async def test_standard_input_is_fed_while_output_is_read(connector: LocalConnector) -> None:
    content = os.urandom(3_000_000)
    sink = RecordingSink()
    invocation = Invocation(argv=("cat",), stdin=content)
    outcome = await connector.run(invocation, NO_TARGET, sink=sink, stop=Stop(), fence=1)

    assert outcome.exit_code == 0
    assert sink.bytes_of("stdout") == content


async def test_a_command_that_does_not_read_its_input_hinders_nobody(connector: LocalConnector) -> None:
    outcome, sink = await run_script(connector, "exec <&-; echo done", stdin=b"x" * 3_000_000)

    assert (outcome.exit_code, sink.stdout) == (0, "done\n")


async def test_without_input_standard_input_is_empty_and_there_is_no_terminal(connector: LocalConnector) -> None:
    outcome, sink = await run_script(connector, "cat; [ -t 0 ] || [ -t 1 ] || echo none; (: </dev/tty) 2>/dev/null")

    assert sink.stdout == "none\n"
    assert outcome.exit_code != 0, "/dev/tty could be opened"


async def test_nothing_of_the_workers_environment_is_inherited(
    connector: LocalConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CANARY", "DATABASE_URL", "SECRET_KEY", "LD_PRELOAD_CANARY", "PYTHONPATH"):
        monkeypatch.setenv(name, "canary-value")
    sink = RecordingSink()
    invocation = Invocation(argv=("env",), environment={"GIVEN": "1", "LANG": "de_DE.UTF-8", "OPSCONDUCTOR_FENCE": "0"})
    await connector.run(invocation, NO_TARGET, sink=sink, stop=Stop(), fence=42)

    seen = dict(line.split("=", 1) for line in sink.stdout.splitlines())
    assert re.fullmatch("[0-9a-f]{32}", seen.pop("OPSCONDUCTOR_RUN"))
    assert seen.pop("HOME").startswith("/")
    assert seen == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "de_DE.UTF-8",
        "TERM": "dumb",
        "GIVEN": "1",
        "OPSCONDUCTOR_FENCE": "42",
    }


async def test_no_open_file_of_the_worker_is_inherited(connector: LocalConnector, tmp_path: Path) -> None:
    secret = (tmp_path / "secret").open("w")
    os.set_inheritable(secret.fileno(), True)
    with secret:
        others = asyncio.gather(*(run_script(connector, "sleep .2") for _ in range(5)))
        _, sink = await run_script(connector, "ls -l /proc/$$/fd")
        await others

    links = [line.split(" -> ")[1] for line in sink.stdout.splitlines() if " -> " in line]
    assert len(links) == 3, links
    assert links[0] == "/dev/null"
    assert all(link.startswith("pipe:") for link in links[1:])


async def test_signals_are_as_a_fresh_process_has_them(connector: LocalConnector) -> None:
    _, sink = await run_script(connector, "grep -E '^Sig(Ign|Blk)' /proc/self/status")

    masks = [int(line.split()[1], 16) & 0x7FFFFFFF for line in sink.stdout.splitlines()]
    assert masks == [0, 0]


async def test_the_working_directory_is_the_given_one_or_the_root(connector: LocalConnector, tmp_path: Path) -> None:
    for given, expected in ((None, "/"), (str(tmp_path), str(tmp_path))):
        sink = RecordingSink()
        invocation = Invocation(argv=("/bin/pwd",), working_directory=given)
        await connector.run(invocation, NO_TARGET, sink=sink, stop=Stop(), fence=1)
        assert sink.stdout == f"{expected}\n"


@pytest.mark.parametrize(
    ("argv", "directory", "code", "words"),
    [
        (("no-such-command",), None, ErrorCode.COMMAND_NOT_FOUND, "no command 'no-such-command' in PATH"),
        (("/no/such/file",), None, ErrorCode.COMMAND_NOT_FOUND, "no file '/no/such/file'"),
        (("{folder}/plain",), None, ErrorCode.PERMISSION_DENIED, "may not be executed"),
        (("{folder}",), None, ErrorCode.PERMISSION_DENIED, "may not be executed"),
        (("{folder}/orphan",), None, ErrorCode.COMMAND_NOT_FOUND, "interpreter"),
        (("{folder}/garbage",), None, ErrorCode.INVALID_INVOCATION, "no program of this machine"),
        (("true", "x" * 10_000_000), None, ErrorCode.ARGUMENTS_TOO_LONG, "standard input or in a file"),
        (("true", "x" * 20_000_000), None, ErrorCode.ARGUMENTS_TOO_LONG, "standard input or in a file"),
        (("true", "a\0b"), None, ErrorCode.INVALID_INVOCATION, "NUL"),
        ((), None, ErrorCode.INVALID_INVOCATION, "no command"),
        (("true",), "/no/such/folder", ErrorCode.WORKING_DIRECTORY, "'/no/such/folder' cannot be entered: No such"),
        (("true",), "relative", ErrorCode.WORKING_DIRECTORY, "not absolute"),
        (("true",), "/etc/passwd", ErrorCode.WORKING_DIRECTORY, "Not a directory"),
    ],
)
async def test_a_command_that_cannot_start_is_explained(
    connector: LocalConnector, tmp_path: Path, argv: tuple[str, ...], directory: str | None, code: ErrorCode, words: str
) -> None:
    (tmp_path / "plain").write_text("echo")
    for name, content in (("orphan", "#!/no/such/interpreter\n"), ("garbage", "\x01\x02")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(stat.S_IRWXU)
    argv = tuple(word.replace("{folder}", str(tmp_path)) for word in argv)
    invocation = Invocation(argv=argv, working_directory=directory)
    outcome = await connector.run(invocation, NO_TARGET, sink=RecordingSink(), stop=Stop(), fence=1)

    assert (outcome.exit_code, outcome.error_code) == (None, code)
    assert words in (outcome.error or "")
    assert code.nothing_happened


async def test_a_command_ended_by_a_signal_is_not_a_plain_result(connector: LocalConnector) -> None:
    outcome, _ = await run_script(connector, "kill -SEGV $$")

    assert (outcome.exit_code, outcome.error_code) == (139, ErrorCode.KILLED_BY_SIGNAL)
    assert outcome.data["signal"] == 11
    assert "SIGSEGV" in (outcome.error or "")


async def test_a_background_child_that_holds_the_output_does_not_hold_up_the_step(connector: LocalConnector) -> None:
    began_at = time.monotonic()
    outcome, sink = await run_script(connector, "sleep 60 & echo $!")

    assert time.monotonic() - began_at < 5
    assert outcome.exit_code == 0
    assert outcome.data == {"output_held_open": True, "killed_leftovers": 1}
    assert not is_alive(int(sink.stdout))


async def test_a_quiet_background_child_is_ended_with_its_command(connector: LocalConnector) -> None:
    outcome, sink = await run_script(connector, "sleep 60 >/dev/null 2>&1 </dev/null & echo $!")

    assert outcome.data == {"killed_leftovers": 1}
    assert not is_alive(int(sink.stdout))


async def test_a_daemon_with_a_session_of_its_own_outlives_a_command_that_ended(connector: LocalConnector) -> None:
    outcome, sink = await run_script(connector, "setsid sleep 60 & sleep .1; echo $!")
    daemon = int(sink.stdout)

    try:
        assert outcome.data == {"output_held_open": True, "left_running": [daemon]}
        assert is_alive(daemon)
    finally:
        os.kill(daemon, 9)


async def test_output_written_just_before_the_end_is_not_lost(connector: LocalConnector) -> None:
    outcome, sink = await run_script(connector, "head -c 60000 /dev/zero; head -c 60000 /dev/zero >&2; kill -9 $$")

    assert outcome.exit_code == 137
    assert (len(sink.bytes_of("stdout")), len(sink.bytes_of("stderr"))) == (60000, 60000)


async def test_two_hundred_commands_at_once_end_and_leave_nothing_open(connector: LocalConnector) -> None:
    await run_script(connector, "true")
    before = open_descriptors()
    results = await asyncio.gather(
        *(run_script(connector, f"cat; echo {number} >&2; exit {number % 5}", stdin=b"in") for number in range(200))
    )

    assert [outcome.exit_code for outcome, _ in results] == [number % 5 for number in range(200)]
    assert [sink.stderr for _, sink in results] == [f"{number}\n" for number in range(200)]
    assert {sink.stdout for _, sink in results} == {"in"}
    assert open_descriptors() == before


async def test_a_worker_without_free_descriptors_says_so_and_loses_none(connector: LocalConnector) -> None:
    await run_script(connector, "true")
    before = open_descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # All numbers below the limit but a few are taken: pipes run out half way.
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(60)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 4, limits[1]))
        outcome, _ = await run_script(connector, "echo never")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)

    assert outcome.error_code is ErrorCode.START_FAILED
    assert outcome.error_code.nothing_happened
    assert outcome.error_code.is_transient
    assert open_descriptors() == before
    outcome, _ = await run_script(connector, "true")
    assert outcome.exit_code == 0


def test_commands_run_on_one_event_loop_after_another(connector: LocalConnector) -> None:
    for _ in range(3):
        outcome, sink = asyncio.run(run_script(connector, "echo hello"))
        assert (outcome.exit_code, sink.stdout) == (0, "hello\n")


def test_secrets_are_not_in_the_repr_of_an_invocation() -> None:
    invocation = Invocation(
        argv=("login", "hunter2"), stdin=b"hunter2", environment={"P": "hunter2"}, secret_values=("hunter2",)
    )

    assert "hunter2" not in repr(invocation)
