"""Ending commands over SSH: asked to, or because nobody may run them any more. Looked at on the far side itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from executions.connectors import ErrorCode, Invocation, Outcome, Stop, Stream
from executions.connectors.ssh import SshConnector
from executions.connectors.ssh import connector as ssh_connector
from executions.connectors.ssh.far_side import Right, Script, exec_line
from executions.connectors.warden import Warden
from tests.executions.connectors.recording import RecordingSink, is_alive, wait_until
from tests.sshd import SEARCH_PATH, Sshd

STUBBORN = "trap '' TERM HUP INT; echo $$; echo ready; while :; do sleep .1; done"


async def start(
    connector: SshConnector, sshd: Sshd, script: str, stop: Stop, **invocation: str
) -> tuple[asyncio.Future[Outcome], RecordingSink]:
    sink = RecordingSink()
    given = Invocation(argv=("/bin/sh", "-c", script), environment={"CHILD": STUBBORN, **invocation})
    running = asyncio.ensure_future(connector.run(given, sshd.target(), sink=sink, stop=stop, fence=1))
    await sink.wait_for_text("ready")
    return running, sink


def pids(sink: RecordingSink) -> list[int]:
    return [int(word) for word in sink.stdout.split() if word.isdigit()]


def none_lives(sink: RecordingSink) -> bool:
    return not any(map(is_alive, pids(sink)))


async def test_a_command_may_tidy_up_before_it_ends(connector: SshConnector, sshd: Sshd) -> None:
    stop = Stop(grace_seconds=5)
    script = "trap 'echo tidied; exit 4' TERM; echo $$; echo ready; while :; do sleep .05; done"
    running, sink = await start(connector, sshd, script, stop)
    stop.request("user")
    outcome = await running

    assert "tidied" in sink.stdout
    assert (outcome.exit_code, outcome.error_code, outcome.stop_confirmed) == (4, ErrorCode.STOPPED, True)
    assert none_lives(sink)


@pytest.mark.parametrize(
    "script",
    [
        STUBBORN,
        'setsid sh -c "$CHILD" & wait',
        'env -i CHILD="$CHILD" sh -c "$CHILD" & wait',
        '(setsid sh -c "$CHILD" &)',
    ],
)
async def test_what_ignores_the_wish_is_killed_in_whatever_session(
    connector: SshConnector, sshd: Sshd, script: str
) -> None:
    stop = Stop(grace_seconds=0.2)
    running, sink = await start(connector, sshd, f"{script}; sleep 60", stop)
    stop.request("user")
    outcome = await running

    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, True), outcome.error
    assert pids(sink)
    assert none_lives(sink)


async def test_a_lost_lease_allows_no_grace_and_ends_one_that_has_begun(connector: SshConnector, sshd: Sshd) -> None:
    stop = Stop(grace_seconds=60)
    running, sink = await start(connector, sshd, f"{STUBBORN}", stop)
    stop.request("user")
    await asyncio.sleep(0.3)
    assert not running.done()
    stop.request("lease_lost")
    async with asyncio.timeout(5):
        outcome = await running

    assert (outcome.stop_confirmed, outcome.exit_code) == (True, 137)
    assert none_lives(sink)


async def test_a_command_that_ended_before_the_stop_keeps_its_result(connector: SshConnector, sshd: Sshd) -> None:
    stop = Stop()
    running, _ = await start(connector, sshd, "echo ready; exit 4", stop)
    outcome = await running
    stop.request("user")

    assert (outcome.exit_code, outcome.error_code) == (4, None)


async def test_leftovers_of_the_group_end_with_it_and_a_daemon_stays(connector: SshConnector, sshd: Sshd) -> None:
    script = "(sleep 60 & echo $!); setsid sh -c 'echo $$; exec sleep 60 >/dev/null 2>&1' & sleep .2; echo ready"
    running, sink = await start(connector, sshd, script, Stop())
    outcome = await running
    left, daemon = pids(sink)

    assert outcome.exit_code == 0
    try:
        wait_until(lambda: not is_alive(left))
        assert is_alive(daemon), "a service that became a daemon was ended"
    finally:
        os.kill(daemon, signal.SIGKILL)


@contextmanager
def whose_look_begins_with(script: str, folder: Path) -> Iterator[Sshd]:
    """A machine that does `script` each time before the guard's look for what a stop has left."""
    programs = folder / "programs"
    programs.mkdir()
    look = programs / "grep"
    look.write_text(f'#!/bin/sh\n{script}\nPATH={SEARCH_PATH} exec grep "$@"\n')
    look.chmod(0o755)
    server = Sshd(folder / "sshd", path=f"{programs}:{SEARCH_PATH}")
    try:
        yield server
    finally:
        server.close()


async def test_a_guard_that_has_signalled_is_waited_for_while_it_looks(
    connector: SshConnector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executions.connectors.ssh.connector.STOP_PATIENCE_SECONDS", 0.3)
    with whose_look_begins_with("sleep 1.5", tmp_path) as machine:
        stop = Stop(grace_seconds=0.3)
        running, sink = await start(connector, machine, "echo $$; echo ready; exec sleep 60", stop)
        stop.request("user")
        outcome = await running

    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, True), outcome.error
    assert none_lives(sink)


async def test_a_machine_that_cannot_be_looked_through_confirms_nothing(
    connector: SshConnector, tmp_path: Path
) -> None:
    with whose_look_begins_with("exit 127", tmp_path) as machine:
        stop = Stop(grace_seconds=0.3)
        running, sink = await start(connector, machine, "echo $$; echo ready; exec sleep 60", stop)
        stop.request("user")
        outcome = await running

    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, False), outcome.error
    assert none_lives(sink)


async def test_what_is_born_while_the_guard_looks_is_found(connector: SshConnector, tmp_path: Path) -> None:
    # The list of processes is made; then the only one in it that is ours makes another, and goes.
    parent = tmp_path / "parent"
    hand_over = f'read -r p <{parent}; while kill -USR1 "$p"; do sleep .05; done 2>/dev/null'
    with whose_look_begins_with(hand_over, tmp_path) as machine:
        stop = Stop(grace_seconds=5)
        script = (
            f"setsid sh -c 'echo $$ >{parent};"
            ' trap "setsid sleep 60 >/dev/null & echo \\$!; exit" USR1;'
            " echo ready; while :; do sleep .05; done' & wait"
        )
        running, sink = await start(connector, machine, script, stop)
        stop.request("user")
        outcome = await running

    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, True), outcome.error
    assert pids(sink), "the other one was not made"
    assert none_lives(sink)


@pytest.mark.parametrize("turns", range(0, 60, 6))
async def test_a_stop_at_any_moment_of_the_start_leaves_nothing(
    connector: SshConnector, sshd: Sshd, turns: int
) -> None:
    sink, stop = RecordingSink(), Stop()
    invocation = Invocation(argv=("/bin/sh", "-c", "echo $$; exec sleep 60"))
    running = asyncio.ensure_future(connector.run(invocation, sshd.target(), sink=sink, stop=stop, fence=1))
    await asyncio.sleep(turns * 0.005)
    stop.request("user")
    async with asyncio.timeout(10):
        outcome = await running

    assert outcome.stop_confirmed is True, outcome.error
    assert none_lives(sink)


async def test_what_the_sink_raises_ends_the_command_and_comes_out(connector: SshConnector, sshd: Sshd) -> None:
    class BrokenSink(RecordingSink):
        def write(self, stream: Stream, data: bytes) -> None:
            super().write(stream, data)
            raise RuntimeError("no room")

    sink = BrokenSink()
    invocation = Invocation(argv=("/bin/sh", "-c", "echo $$; exec sleep 60"))
    with pytest.raises(RuntimeError, match="no room"):
        await connector.run(invocation, sshd.target(), sink=sink, stop=Stop(), fence=1)

    wait_until(lambda: none_lives(sink))


async def test_a_cancelled_task_takes_its_command_along(connector: SshConnector, sshd: Sshd) -> None:
    running, sink = await start(connector, sshd, STUBBORN, Stop())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    wait_until(lambda: none_lives(sink))


async def test_a_connection_lost_in_the_middle_is_told_and_nothing_goes_on(connector: SshConnector, sshd: Sshd) -> None:
    running, sink = await start(connector, sshd, 'setsid sh -c "$CHILD" & wait', Stop())
    sshd.drop_connections()
    outcome = await running

    assert (outcome.exit_code, outcome.error_code) == (None, ErrorCode.CONNECTION_LOST)
    assert outcome.stop_confirmed is True, outcome.error
    assert none_lives(sink)


async def test_a_kept_connection_that_has_died_is_replaced_without_a_word(connector: SshConnector, sshd: Sshd) -> None:
    for _ in range(2):
        running, _ = await start(connector, sshd, "echo ready", Stop())
        assert (await running).exit_code == 0
        sshd.drop_connections()


async def test_the_far_side_ends_it_when_the_right_was_not_extended(
    connector: SshConnector, sshd: Sshd, warden: Warden
) -> None:
    first = time.monotonic() + 2
    warden.extend(first)
    running, sink = await start(connector, sshd, STUBBORN, Stop())
    until = time.monotonic() + 4
    warden.extend(until)
    await asyncio.to_thread(wait_until, lambda: none_lives(sink))
    ended_at = time.monotonic()
    outcome = await running

    assert first < ended_at, "the extension did not count"
    assert ended_at < until, "it lived longer than the right"
    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, True)
    assert none_lives(sink)


async def test_a_stop_that_nobody_confirmed_is_told_when_the_command_may_not_run_any_more(
    connector: SshConnector, sshd: Sshd, warden: Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the outcome the lock is free. What the worker may do meanwhile is not told to what is being stopped."""
    monkeypatch.setattr(ssh_connector, "STOP_PATIENCE_SECONDS", 0.5)
    warden.extend(time.monotonic() + 2)
    stop = Stop(grace_seconds=0)
    running, sink = await start(connector, sshd, 'setsid sh -c "$CHILD" & wait', stop)
    with sshd.frozen_connections():
        stop.request("user")
        warden.extend(time.monotonic() + 600)
        async with asyncio.timeout(60):
            outcome = await running

        assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, False)
        assert "its guard there was to end it" in (outcome.error or "")
        assert pids(sink)
        assert none_lives(sink)


def test_a_command_that_came_too_late_is_not_begun(tmp_path: Path) -> None:
    """Its script was on the way while the right went by: somebody else acts on that machine by now."""
    uptime, trace = float(Path("/proc/uptime").read_text().split()[0]), tmp_path / "trace"
    said = []
    for seconds in (-1, 60):
        right = Right(int((uptime + seconds) * 100), 6000)
        script = Script("nonce", "marker", 1).of(Invocation(argv=("/bin/sh", "-c", f"echo ran >> {trace}")), right)
        # The other end stays open until it is over: a script without a way back would be ended for that.
        with subprocess.Popen(["sh", "-c", exec_line("")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write(script)
            reader.stdin.flush()
            lines = [line.decode().strip() for line in iter(reader.stdout.readline, b"") if b"hello" not in line]
        said.append((lines, trace.exists()))

    assert said == [(["nonce failed late", "nonce exit 127"], False), (["nonce exit 0"], True)]


async def test_nothing_begins_once_the_right_is_over(connector: SshConnector, sshd: Sshd, warden: Warden) -> None:
    warden.extend(time.monotonic())
    sink = RecordingSink()
    outcome = await connector.run(Invocation(argv=("echo", "x")), sshd.target(), sink=sink, stop=Stop(), fence=1)

    assert (outcome.error_code, sink.stdout) == (ErrorCode.NOT_STARTED, "")


@contextmanager
def a_worker(sshd: Sshd, right_seconds: float) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process of its own that runs a command over there; with that command's process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.executions.connectors.ssh.worker_program"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    given = {
        "port": sshd.port,
        "host_key": sshd.host_key,
        "username": sshd.username,
        "private_key": sshd.private_key,
        "script": STUBBORN,
        "right_seconds": right_seconds,
    }
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(given) + "\n")
    process.stdin.flush()
    try:
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "ready\n"
        yield process, pid
    finally:
        process.kill()
        process.communicate()


def test_a_killed_workers_command_is_gone_on_the_far_side(sshd: Sshd) -> None:
    with a_worker(sshd, right_seconds=60) as (worker, pid):
        assert is_alive(pid)
        worker.kill()
        wait_until(lambda: not is_alive(pid), within_seconds=5)


def test_a_frozen_workers_command_is_gone_before_its_right_ends(sshd: Sshd) -> None:
    right_seconds = 2.0
    with a_worker(sshd, right_seconds) as (worker, pid):
        time.sleep(right_seconds + 0.5)
        assert is_alive(pid), "it was ended although the right was extended all the time"
        worker.send_signal(signal.SIGSTOP)
        frozen_at = time.monotonic()
        wait_until(lambda: not is_alive(pid), within_seconds=10)
        lived = time.monotonic() - frozen_at
        worker.send_signal(signal.SIGCONT)

    assert lived < right_seconds


async def test_a_short_command_does_not_last_until_the_workers_right_is_over(
    connector: SshConnector, warden: Warden, sshd: Sshd
) -> None:
    """The timer at the far side may be told to end in the moment in which it is born."""
    warden.extend(time.monotonic() + 600)

    async def one() -> int | None:
        outcome = await connector.run(
            Invocation(argv=("true",)), sshd.target(), sink=RecordingSink(), stop=Stop(), fence=1
        )
        return outcome.exit_code

    async with asyncio.timeout(120):
        for _ in range(5):
            assert await asyncio.gather(*(one() for _ in range(8))) == [0] * 8
