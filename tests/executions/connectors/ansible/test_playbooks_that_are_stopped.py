"""A playbook that is stopped, killed or lost: what is told of each host, and that nothing of the run is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from executions.connectors import ErrorCode, Stop, Surroundings
from executions.connectors.ansible import folder
from executions.connectors.ansible.connector import make
from executions.connectors.ansible.folder import IN_MEMORY, make_folder, sweep
from executions.connectors.warden import Warden
from tests.executions.connectors.ansible.conftest import unused_port
from tests.executions.connectors.ansible.playing import PLAY, Stage, local, what_is_left
from tests.executions.connectors.recording import is_alive, wait_until
from tests.sshd import Sshd

SLEEP = "- {{name: Sleep, shell: 'echo $$ > {folder}/{{{{ inventory_hostname }}}}.pid; exec sleep 600'}}"


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, lambda: bool(condition()), within_seconds=30)


def pid_in(file: Path) -> int:
    return int(file.read_text() or 0) if file.exists() else 0


async def test_cancel_ends_it_everywhere_and_says_what_nobody_saw(stage: Stage, sshd: Sshd, tmp_path: Path) -> None:
    stage.write(SLEEP.format(folder=tmp_path))
    stop = Stop()
    targets = [sshd.target("far"), local("here"), sshd.target("closed", port=unused_port())]
    running = asyncio.ensure_future(stage.play(targets, stop=stop))
    files = [tmp_path / "far.pid", tmp_path / "here.pid"]
    await until(lambda: all(map(pid_in, files)) and "unreachable" in stage.stderr("closed"))
    pids = [pid_in(file) for file in files]
    assert all(map(is_alive, pids))
    stop.request("user")
    outcomes = await running

    assert {outcome.error_code for outcome in outcomes.values()} == {ErrorCode.STOPPED}
    confirmed = {name: outcome.stop_confirmed for name, outcome in outcomes.items()}
    assert confirmed == {"far": False, "here": True, "closed": True}
    assert "nobody saw whether" in (outcomes["far"].error or "")
    wait_until(lambda: not any(map(is_alive, pids)))
    assert what_is_left() == []


async def test_a_run_that_is_killed_leaves_nobody_knowing(stage: Stage, tmp_path: Path) -> None:
    stage.write(SLEEP.format(folder=tmp_path))
    running = asyncio.ensure_future(stage.play([local("here")]))
    await until(lambda: pid_in(tmp_path / "here.pid"))
    (program,) = [int(line.split()[0]) for line in what_is_left() if line.endswith("python") and is_program(line)]
    os.kill(program, signal.SIGKILL)
    outcomes = await running

    assert (outcomes["here"].exit_code, outcomes["here"].error_code) == (None, ErrorCode.NO_ANSWER)
    assert what_is_left() == []


def is_program(line: str) -> bool:
    return b"program.py" in Path(f"/proc/{line.split()[0]}/cmdline").read_bytes()


async def test_a_worker_that_may_not_act_any_more_has_its_playbook_ended(
    stage: Stage, warden: Warden, sshd: Sshd, tmp_path: Path
) -> None:
    stage.write(SLEEP.format(folder=tmp_path))
    running = asyncio.ensure_future(stage.play([sshd.target("here")]))
    await until(lambda: pid_in(tmp_path / "here.pid"))
    await asyncio.to_thread(warden.kill_all)
    outcomes = await running

    assert (outcomes["here"].error_code, outcomes["here"].stop_confirmed) == (ErrorCode.STOPPED, False)
    wait_until(lambda: not is_alive(pid_in(tmp_path / "here.pid")))
    assert what_is_left() == []


def test_what_a_killed_worker_left_in_memory_is_swept_and_what_is_in_use_is_not() -> None:
    script = (
        "from executions.connectors.ansible import folder\n"
        "import sys, time\n"
        "folder.PREFIX = sys.argv[1]\n"
        "made = folder.make_folder()\n"
        "made.write('vars.yml', 'secret')\n"
        "(folder.IN_MEMORY / f'{made.shared_memory_prefix}abc').write_text('password')\n"
        "print(made.path.name, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, folder.PREFIX], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        name = worker.stdout.readline().strip()
        mine = make_folder()
        try:
            sweep()
            assert (IN_MEMORY / name / "vars.yml").read_text() == "secret"
            worker.kill()
            worker.wait()
            assert sweep() == 1
            assert [path.name for path in IN_MEMORY.glob(f"{folder.PREFIX}*")] == [mine.path.name]
            assert (mine.path.stat().st_mode & 0o777, list(mine.path.iterdir())) == (0o700, [])
        finally:
            worker.kill()
            mine.remove()
    assert what_is_left() == []


def test_shared_memory_whose_run_is_gone_is_swept() -> None:
    segment = IN_MEMORY / f"{folder.PREFIX}0123456789ab-cdef"
    segment.write_text("password")
    sweep()
    assert not segment.exists()


async def test_waiting_for_a_place_ends_with_the_wish_to_stop(
    warden: Warden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executions.connectors.ansible.connector.RUNS_AT_ONCE", 1)
    connector = make(Surroundings(warden, options={"ansible_playbooks": tmp_path}))
    (tmp_path / "site.yml").write_text(f"{PLAY}  tasks: [shell: 'echo $$ > {tmp_path}/pid; exec sleep 600']\n")
    first, second = Stage(connector, tmp_path), Stage(connector, tmp_path)
    stops = Stop(), Stop()
    runs = [
        asyncio.ensure_future(first.play([local("here")], stop=stops[0])),
        asyncio.ensure_future(second.play([local("here")], stop=stops[1])),
    ]
    await until(lambda: pid_in(tmp_path / "pid"))
    stops[1].request("user")
    assert (await runs[1])["here"].error_code == ErrorCode.NOT_STARTED
    assert not runs[0].done()
    stops[0].request("user")
    assert (await runs[0])["here"].error_code == ErrorCode.STOPPED
