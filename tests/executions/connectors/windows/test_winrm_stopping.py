"""Stop means stop, also there: confirmed when the machine said so, and by the machine itself when we are gone."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from executions.connectors import ErrorCode, Invocation, Stop, Target
from executions.connectors.base import Script
from executions.connectors.registry import Surroundings
from executions.connectors.warden import Warden
from executions.connectors.winrm import connector as connector_module
from executions.connectors.winrm.connector import WinRMConnector
from tests.executions.connectors.recording import RecordingSink, is_alive, wait_until
from tests.executions.connectors.windows.fake_winrm import FakeWinRM, Handler

FOREVER = Script("echo $$; sleep 600 & echo $!; wait")


def begin(
    connector: WinRMConnector, target: Target, stop: Stop, sink: RecordingSink, script: Script = FOREVER
) -> asyncio.Future[Any]:
    return asyncio.ensure_future(connector.run(Invocation(script=script), target, sink=sink, stop=stop, fence=1))


async def begun(connector: WinRMConnector, target: Target, stop: Stop) -> tuple[asyncio.Future[Any], list[int]]:
    sink = RecordingSink()
    running = begin(connector, target, stop, sink)
    async with asyncio.timeout(10):
        while sink.stdout.count("\n") < 2:
            sink.something_came.clear()
            await sink.something_came.wait()
    return running, [int(line) for line in sink.stdout.split()]


def not_found(handler: Handler) -> bool:
    handler.send(404, b"")
    return True


def held_up(windows: FakeWinRM, action: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Have requests of that kind wait. Returns what says that one has come, and what lets them go on."""
    loop = asyncio.get_running_loop()
    arrived, go_on = asyncio.Event(), asyncio.Event()

    def wait(handler: Handler) -> None:
        loop.call_soon_threadsafe(arrived.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)

    windows.before[action] = wait
    return arrived, go_on


@pytest.mark.parametrize("reason", ["user", "timeout", "lease_lost"])
async def test_a_stop_ends_all_processes_at_once_and_is_confirmed(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, reason: str
) -> None:
    windows.longest_wait_seconds = 8.0  # a question for output is open: the stop must not wait for its answer
    stop = Stop()
    running, pids = await begun(connector, target, stop)
    stop.request(reason)
    outcome = await asyncio.wait_for(running, 3)
    assert (outcome.error_code, outcome.stop_confirmed, outcome.exit_code) == (ErrorCode.STOPPED, True, None)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert windows.shells == {}
    assert "Signal" in windows.actions()


async def test_a_stop_that_the_machine_does_not_confirm_is_not_confirmed(
    connector: WinRMConnector, target: Target, windows: FakeWinRM
) -> None:
    def hang_up(handler: Handler) -> bool:
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True

    windows.before["Signal"] = windows.before["Delete"] = hang_up
    stop = Stop()
    running, _ = await begun(connector, target, stop)
    stop.request("user")
    outcome = await running
    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, False)
    assert "did not say" in outcome.error


async def test_a_stop_before_the_last_word_keeps_it_from_beginning(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, tmp_path: Any
) -> None:
    stop = Stop()
    arrived, go_on = held_up(windows, "Create")
    running = begin(connector, target, stop, RecordingSink(), Script(f"touch {tmp_path}/ran"))
    await arrived.wait()
    stop.request("user")
    outcome = await running
    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.NOT_STARTED, True)
    go_on.set()
    # the shell that came late is not left either
    await asyncio.to_thread(wait_until, lambda: "Delete" in windows.actions())
    assert "Command" not in windows.actions()
    assert not (tmp_path / "ran").exists()


async def test_a_stop_while_it_is_being_told_keeps_it_from_beginning(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, tmp_path: Any
) -> None:
    stop = Stop()
    arrived, go_on = held_up(windows, "Send")
    invocation = Invocation(script=Script(f"touch {tmp_path}/ran"), stdin=b"x" * 300_000)
    running = asyncio.ensure_future(connector.run(invocation, target, sink=RecordingSink(), stop=stop, fence=1))
    await arrived.wait()
    stop.request("user")
    # Ended it cannot be: that nothing begins must not depend on it.
    windows.before["Signal"] = windows.before["Delete"] = not_found
    assert (await running).error_code == ErrorCode.NOT_STARTED
    go_on.set()
    await asyncio.to_thread(
        wait_until, lambda: windows.actions().count("Delete") + windows.actions().count("Signal") > 1
    )
    assert windows.actions().count("Send") == 1
    assert not (tmp_path / "ran").exists()


async def test_a_stop_before_there_was_a_turn_starts_nothing(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_module, "MOST_AT_ONCE", 1)
    first, second = Stop(), Stop()
    running, _ = await begun(connector, target, first)
    waiting = begin(connector, target, second, RecordingSink())
    await asyncio.sleep(0)
    second.request("user")
    assert (await waiting).error_code == ErrorCode.NOT_STARTED
    assert windows.actions().count("Create") == 1
    first.request("user")
    await running
    assert (
        await connector.run(Invocation(script=Script("echo next")), target, sink=RecordingSink(), stop=Stop(), fence=1)
    ).exit_code == 0


async def test_many_at_once_end_together_and_keep_no_turn(
    connector: WinRMConnector, target: Target, windows: FakeWinRM
) -> None:
    stop = Stop()
    many = [await begun(connector, target, stop) for _ in range(12)]
    stop.request("user")
    outcomes = await asyncio.gather(*(running for running, _ in many))
    assert all(outcome.stop_confirmed for outcome in outcomes)
    wait_until(lambda: not any(is_alive(pid) for _, pids in many for pid in pids))


async def test_a_sink_that_fails_ends_what_runs(connector: WinRMConnector, target: Target, windows: FakeWinRM) -> None:
    class Broken(RecordingSink):
        def write(self, stream: Any, data: bytes) -> None:
            raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        await begin(connector, target, Stop(), Broken())
    await asyncio.to_thread(wait_until, lambda: not windows.shells)


async def test_a_run_that_is_cancelled_is_ended_there(
    connector: WinRMConnector, target: Target, windows: FakeWinRM
) -> None:
    running, pids = await begun(connector, target, Stop())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.to_thread(wait_until, lambda: not windows.shells and not any(is_alive(pid) for pid in pids))


async def test_a_machine_that_misses_its_worker_ends_the_shell_itself(
    connector: WinRMConnector, target: Target, windows: FakeWinRM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is dead: nobody asks for output, and nobody says that it shall end."""
    windows.shortest_idle_seconds = 0.3
    stop = Stop()
    running, pids = await begun(connector, target, stop)
    windows.before = dict.fromkeys(("Receive", "Signal", "Delete"), lambda handler: handler.server._closing.wait(30))
    await asyncio.to_thread(wait_until, lambda: not any(is_alive(pid) for pid in pids))
    [create] = [body for action, body in windows.seen if action == "Create"]
    assert b"<rsp:IdleTimeOut>PT60S</rsp:IdleTimeOut>" in create
    windows.before = {}
    running.cancel()


async def test_a_worker_whose_right_is_over_begins_nothing(
    options: dict[str, Any], target: Target, windows: FakeWinRM, warden: Warden
) -> None:
    class Over(Surroundings):
        @property
        def may_act(self) -> bool:
            return False

    connector = WinRMConnector(Over(warden, options=options))
    outcome = await begin(connector, target, Stop(), RecordingSink())
    assert outcome.error_code == ErrorCode.NOT_STARTED
    assert windows.seen == []
