"""Stop means stop: whatever a command does to go on, nothing of it is left."""

from __future__ import annotations

import asyncio
import time

import pytest

from executions.connectors import ErrorCode, Outcome, Stop
from executions.connectors.local import LocalConnector
from executions.connectors.warden import Warden
from tests.executions.connectors.recording import RecordingSink, is_alive, run_script, wait_until


async def stop_when_ready(
    connector: LocalConnector,
    script: str,
    *,
    child: str = "",
    reason: str = "user",
    grace_seconds: float | None = None,
) -> tuple[Outcome, list[int], str]:
    """Run a script until it said `ready`, stop it, and give back the pids that it printed, each on a line.

    `child` is another script, which the first one has in $CHILD.
    """
    sink, stop = RecordingSink(), Stop(grace_seconds=grace_seconds)
    running = asyncio.ensure_future(run_script(connector, script, sink=sink, stop=stop, environment={"CHILD": child}))
    await sink.wait_for_text("ready\n")
    pids = [int(word) for word in sink.stdout.split() if word.isdigit()]
    assert pids, "the script printed no pid"
    assert all(map(is_alive, pids))
    stop.request(reason)
    outcome, _ = await running
    return outcome, pids, sink.stdout


async def test_stop_ends_a_command_at_once(connector: LocalConnector) -> None:
    began_at = time.monotonic()
    outcome, pids, _ = await stop_when_ready(connector, "echo $$; echo ready; sleep 60")

    assert time.monotonic() - began_at < 2
    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, True)
    assert outcome.exit_code == 143
    assert not any(map(is_alive, pids))


async def test_a_command_may_tidy_up_within_the_grace(connector: LocalConnector) -> None:
    script = "trap 'echo tidied; exit 0' TERM; echo $$; echo ready; while :; do sleep .05; done"
    outcome, _, stdout = await stop_when_ready(connector, script)

    assert stdout.endswith("tidied\n")
    assert (outcome.exit_code, outcome.error_code, outcome.stop_confirmed) == (0, ErrorCode.STOPPED, True)


async def test_a_tree_that_ignores_the_polite_signal_is_killed_after_the_grace(connector: LocalConnector) -> None:
    loop = "while :; do sleep .1; done"
    child = f"trap '' TERM INT HUP; echo $$; echo ready; {loop}"
    script = f"trap '' TERM INT HUP; echo $$; sh -c \"$CHILD\" & {loop}"
    began_at = time.monotonic()
    outcome, pids, _ = await stop_when_ready(connector, script, child=child, grace_seconds=0.5)

    assert 0.5 <= time.monotonic() - began_at < 3
    assert len(pids) == 2
    assert (outcome.exit_code, outcome.stop_confirmed) == (137, True)
    assert not any(map(is_alive, pids))


async def test_children_get_the_grace_although_the_leader_went_first(connector: LocalConnector) -> None:
    child = "trap 'sleep .3; echo child tidied; exit' TERM; echo $$; echo ready; while :; do sleep .05; done"
    outcome, _, stdout = await stop_when_ready(connector, 'sh -c "$CHILD" & exec sleep 60', child=child)

    assert stdout.endswith("child tidied\n")
    assert outcome.stop_confirmed is True


@pytest.mark.parametrize(
    "script",
    [
        'setsid sh -c "$CHILD" & wait',
        # Twice forked, its parent gone, in a session of its own: only its environment tells.
        '(setsid sh -c "$CHILD" &); exec sleep 60',
        # Its environment is empty, but its parents are there to tell.
        'env -i setsid sh -c "$CHILD" & wait',
        # A group of its own within the session.
        'set -m; sh -c "$CHILD" & wait',
    ],
)
async def test_children_that_left_the_group_are_found(connector: LocalConnector, script: str) -> None:
    child = "trap '' TERM; echo $$; echo ready; while :; do sleep .1; done"
    outcome, pids, _ = await stop_when_ready(connector, script, child=child, grace_seconds=0.2)

    assert outcome.stop_confirmed is True
    assert not any(map(is_alive, pids))


async def test_a_stopped_process_is_ended_too(connector: LocalConnector) -> None:
    outcome, pids, _ = await stop_when_ready(
        connector, "sh -c 'echo $$; echo ready; kill -STOP $$; sleep 60' & wait", grace_seconds=1
    )

    assert outcome.stop_confirmed is True
    assert not any(map(is_alive, pids))


async def test_a_process_that_forks_all_the_time_is_ended(connector: LocalConnector) -> None:
    script = "trap '' TERM; echo $$; echo ready; while :; do (setsid sleep 3 >/dev/null 2>&1 &); sleep .01; done"
    outcome, pids, _ = await stop_when_ready(connector, script, grace_seconds=0.1)

    assert outcome.stop_confirmed is True
    assert not any(map(is_alive, pids))


async def test_stop_of_one_command_leaves_the_others_alone(connector: LocalConnector) -> None:
    other_sink, other_stop = RecordingSink(), Stop()
    other = asyncio.ensure_future(
        run_script(connector, "setsid sleep 60 & echo $!; echo ready; wait", sink=other_sink, stop=other_stop)
    )
    await other_sink.wait_for_text("ready")
    await stop_when_ready(connector, "echo $$; echo ready; sleep 60")

    assert not other.done()
    assert is_alive(int(other_sink.stdout.split()[0]))
    other_stop.request("user")
    outcome, _ = await other
    assert outcome.stop_confirmed is True


async def test_a_lost_lease_allows_no_grace(connector: LocalConnector) -> None:
    script = "trap 'echo tidied' TERM; echo $$; echo ready; while :; do sleep .05; done"
    began_at = time.monotonic()
    outcome, pids, stdout = await stop_when_ready(connector, script, reason="lease_lost")

    assert time.monotonic() - began_at < 2
    assert "tidied" not in stdout
    assert outcome.exit_code == 137
    assert not any(map(is_alive, pids))


async def test_a_lease_lost_during_the_grace_ends_the_grace(connector: LocalConnector) -> None:
    sink, stop = RecordingSink(), Stop(grace_seconds=60)
    script = "trap 'echo asked' TERM; echo ready; while :; do sleep .05; done"
    running = asyncio.ensure_future(run_script(connector, script, sink=sink, stop=stop))
    await sink.wait_for_text("ready")
    stop.request("user")
    await sink.wait_for_text("asked")
    stop.request("lease_lost")
    async with asyncio.timeout(3):
        outcome, _ = await running

    assert (stop.reason, outcome.stop_confirmed, outcome.exit_code) == ("lease_lost", True, 137)


async def test_a_command_stopped_before_it_began_does_not_begin(connector: LocalConnector, warden: Warden) -> None:
    stop = Stop()
    stop.request("user")
    outcome, _ = await run_script(connector, "echo never", stop=stop)

    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.NOT_STARTED, True)
    assert warden.pid is None


@pytest.mark.parametrize("turns", range(0, 12, 2))
async def test_a_stop_at_any_moment_of_the_start_leaves_nothing(connector: LocalConnector, turns: int) -> None:
    sink, stop = RecordingSink(), Stop()
    running = asyncio.ensure_future(run_script(connector, "echo $$; exec sleep 60", sink=sink, stop=stop))
    for _ in range(turns):
        await asyncio.sleep(0.0005)
    stop.request("user")
    async with asyncio.timeout(5):
        outcome, _ = await running

    assert outcome.stop_confirmed is True
    assert not any(is_alive(int(pid)) for pid in sink.stdout.split())


async def test_a_cancelled_task_takes_its_command_along(connector: LocalConnector) -> None:
    sink = RecordingSink()
    script = "trap '' TERM; echo $$; echo ready; while :; do sleep 1; done"
    running = asyncio.ensure_future(run_script(connector, script, sink=sink))
    await sink.wait_for_text("ready")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    wait_until(lambda: not is_alive(int(sink.stdout.split()[0])), within_seconds=2)


async def test_a_command_that_ended_before_the_stop_keeps_its_result(connector: LocalConnector) -> None:
    stop = Stop()
    sink = RecordingSink()
    running = asyncio.ensure_future(run_script(connector, "sleep 60 & echo $$; exit 4", sink=sink, stop=stop))
    await sink.wait_for_text("\n")
    wait_until(lambda: not is_alive(int(sink.stdout)))
    await asyncio.sleep(0.1)  # within the second that others may hold the output open
    assert not running.done()
    stop.request("user")
    outcome, _ = await running

    assert (outcome.exit_code, outcome.error_code, outcome.stop_confirmed) == (4, None, True)
