"""A task's arguments stand in a file on its target while it runs. However the run ends, the file goes with it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from executions.connectors import ErrorCode, Outcome, Stop
from executions.connectors.ansible import tidy
from executions.connectors.warden import Warden
from tests.executions.connectors.ansible.playing import Stage, what_is_left
from tests.executions.connectors.recording import wait_until
from tests.sshd import Sshd

SECRET = "sw0rdfish-of-the-task"
SLEEP = "- {{name: Sleep, shell: 'echo {{{{ word }}}} > /dev/null; touch {folder}/begun; exec sleep 600'}}"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A machine of its own: what the runs of other tests left is not looked for here."""
    server = Sshd(tmp_path / "machine")
    yield server
    server.close()


def holding(sshd: Sshd) -> list[Path]:
    """The files below the home folder over there that hold the secret."""
    return [path for path in (sshd.folder / ".ansible").rglob("*") if path.is_file() and SECRET in path.read_text()]


def folders(sshd: Sshd) -> list[str]:
    return sorted(path.name for path in (sshd.folder / ".ansible").glob("opsconductor-*"))


async def begin(stage: Stage, sshd: Sshd, stop: Stop, tmp_path: Path) -> asyncio.Future[dict[str, Outcome]]:
    """A run whose task is at work on both of its targets, which are one machine by two names."""
    stage.write(SLEEP.format(folder=tmp_path))
    targets = [sshd.target("one"), sshd.target("two")]
    running = asyncio.ensure_future(stage.play(targets, stop=stop, extra_vars={"word": SECRET}))
    await asyncio.to_thread(wait_until, lambda: len(holding(sshd)) == 2, within_seconds=30)
    await asyncio.to_thread(wait_until, (tmp_path / "begun").exists, within_seconds=30)
    return running


async def test_what_a_stopped_task_was_given_is_gone_with_the_run(stage: Stage, sshd: Sshd, tmp_path: Path) -> None:
    stop = Stop()
    running = await begin(stage, sshd, stop, tmp_path)
    stop.request("timeout")
    await running

    assert (holding(sshd), folders(sshd)) == ([], [])
    assert {outcome.error_code for outcome in stage.outcomes.values()} == {ErrorCode.STOPPED}
    assert not any("may still stand there" in (outcome.error or "") for outcome in stage.outcomes.values())
    assert what_is_left() == []


async def test_what_a_killed_run_was_given_is_gone_too(stage: Stage, sshd: Sshd, tmp_path: Path) -> None:
    running = await begin(stage, sshd, Stop(), tmp_path)
    [program] = [int(line.split()[0]) for line in what_is_left() if is_program(line)]
    os.kill(program, signal.SIGKILL)
    await running

    assert {outcome.error_code for outcome in stage.outcomes.values()} == {ErrorCode.NO_ANSWER}
    assert (holding(sshd), folders(sshd)) == ([], [])
    assert what_is_left() == []


def is_program(line: str) -> bool:
    pid, _, name = line.partition(" ")
    return name.startswith("python") and b"program.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_a_worker_that_may_not_act_any_more_says_what_it_leaves(
    stage: Stage, warden: Warden, sshd: Sshd, tmp_path: Path
) -> None:
    """And a run that comes later finds it, once it is older than any step may take, and leaves nothing of its own."""
    running = await begin(stage, sshd, Stop(), tmp_path)
    await asyncio.to_thread(warden.kill_all)
    await running

    left = folders(sshd)
    assert len(left) == 2
    for name, outcome in zip(left, stage.outcomes.values(), strict=True):
        assert f"may still stand there, in $HOME/.ansible/{name}: remove it" in (outcome.error or "")
    long_ago = time.time() - 9 * 86_400
    os.utime(sshd.folder / ".ansible" / left[0], (long_ago, long_ago))
    stage.write("- ping:")
    assert (await stage.play([sshd.target("one")]))["one"].exit_code == 0
    assert folders(sshd) == left[1:]


def test_nothing_but_a_run_of_ours_can_be_named(tmp_path: Path) -> None:
    for name in ("", "opsconductor-", "opsconductor-*", "opsconductor-a/../..", "opsconductor-$(id)", "other-1"):
        assert list(tidy.removed(tmp_path, name)) == []
