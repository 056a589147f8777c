"""Commands never outlive the worker's right to run them: real workers are killed, frozen, and lose their warden."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from executions.connectors import ErrorCode
from executions.connectors.local import LocalConnector
from executions.connectors.warden import Warden, WardenLost
from tests.executions.connectors.recording import RecordingSink, is_alive, run_script, wait_until

PROGRAM = Path(__file__).with_name("worker_program.py")
ROOT = PROGRAM.parents[3]
WARDEN = ROOT / "executions" / "connectors" / "warden"
TREE = (
    "trap '' TERM HUP; echo pid $$; setsid sh -c 'echo pid $$; echo ready; exec sleep 60' & while :; do sleep .1; done"
)


class WorkerProcess:
    """A worker in a process of its own, whose command said `ready`."""

    def __init__(self, script: str, right_seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), script, str(right_seconds)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.warden = 0
        self.pids: list[int] = []
        for line in self.lines():
            word, _, rest = line.partition(" ")
            if word == "warden":
                self.warden = int(rest)
            elif word == "pid":
                self.pids.append(int(rest))
            elif word == "ready":
                break
        assert self.pids
        assert all(map(is_alive, self.pids))

    def lines(self) -> Iterator[str]:
        stdout: IO[str] | None = self.process.stdout
        assert stdout is not None
        for line in stdout:
            yield line.rstrip("\n")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait_until_its_commands_are_gone(self, *, within_seconds: float) -> float:
        return wait_until(lambda: not any(map(is_alive, self.pids)), within_seconds=within_seconds)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        wait_until(lambda: not is_alive(self.warden), within_seconds=10)


@pytest.fixture
def start_worker() -> Iterator[Callable[[str, float], WorkerProcess]]:
    workers: list[WorkerProcess] = []

    def start(script: str, right_seconds: float) -> WorkerProcess:
        workers.append(WorkerProcess(script, right_seconds))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


StartWorker = Callable[[str, float], WorkerProcess]


def test_the_commands_of_a_killed_worker_are_gone_within_a_second(start_worker: StartWorker) -> None:
    worker = start_worker(TREE, 0)
    worker.signal(signal.SIGKILL)
    worker.wait_until_its_commands_are_gone(within_seconds=1)

    assert len(worker.pids) == 2
    wait_until(lambda: not is_alive(worker.warden), within_seconds=2)


def test_the_commands_of_a_worker_whose_whole_group_is_killed_are_gone(start_worker: StartWorker) -> None:
    worker = start_worker(TREE, 0)
    os.killpg(worker.process.pid, signal.SIGKILL)

    worker.wait_until_its_commands_are_gone(within_seconds=1)


def test_the_commands_of_a_frozen_worker_are_gone_when_its_right_ends(start_worker: StartWorker) -> None:
    worker = start_worker(TREE, 0.8)
    worker.signal(signal.SIGSTOP)
    began_at = time.monotonic()
    worker.wait_until_its_commands_are_gone(within_seconds=1.8)

    assert time.monotonic() - began_at > 0.5, "they were ended although the right to run them had not ended"
    worker.signal(signal.SIGCONT)
    outcome = next(line for line in worker.lines() if line.startswith("outcome "))
    exit_code, error_code, error = json.loads(outcome.partition(" ")[2])
    assert (exit_code, error_code) == (137, ErrorCode.STOPPED)
    assert "lease" in error


def test_the_commands_of_a_frozen_worker_are_gone_when_its_warden_is_killed(start_worker: StartWorker) -> None:
    worker = start_worker(TREE, 0)
    worker.signal(signal.SIGSTOP)
    os.kill(worker.warden, signal.SIGKILL)

    worker.wait_until_its_commands_are_gone(within_seconds=1)


def test_the_commands_of_a_frozen_worker_are_gone_when_its_right_ends_though_its_warden_is_frozen(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(TREE, 0.8)
    worker.signal(signal.SIGSTOP)
    os.kill(worker.warden, signal.SIGSTOP)
    began_at = time.monotonic()
    worker.wait_until_its_commands_are_gone(within_seconds=2)

    assert time.monotonic() - began_at > 0.5, "they were ended although the right to run them had not ended"
    os.kill(worker.warden, signal.SIGCONT)


def test_a_killed_understudy_is_replaced_by_one_that_knows_what_runs(start_worker: StartWorker) -> None:
    worker = start_worker(TREE, 0)
    first = understudy_of(worker.warden)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: understudy_of(worker.warden) not in (0, first), within_seconds=10)
    worker.signal(signal.SIGSTOP)
    os.kill(worker.warden, signal.SIGKILL)

    worker.wait_until_its_commands_are_gone(within_seconds=1)


def test_an_understudy_that_does_not_read_is_replaced_and_holds_nobody_up() -> None:
    program = """
import os, signal
from understudy import Understudy
one = Understudy()
first = one._pid
os.kill(first, signal.SIGSTOP)
for number in range(5000):
    one.begins(f"{number:032}")
    if number >= 5:
        one.is_over(f"{number:032}")
print(first != one._pid, len(one._runs))
"""
    ended = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=WARDEN, capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout.split() == ["True", "5"]


def understudy_of(keeper: int) -> int:
    """Its pid; 0 while there is none. It is the keeper's own program, forked."""
    words = Path(f"/proc/{keeper}/cmdline").read_bytes()
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    same = [int(pid) for pid in children if is_alive(int(pid)) and Path(f"/proc/{pid}/cmdline").read_bytes() == words]
    return same[0] if same else 0


def test_a_worker_that_extends_its_right_in_time_is_left_alone(start_worker: StartWorker) -> None:
    worker = start_worker("echo pid $$; echo ready; sleep 1.5; echo done", 0.5)

    assert "done" in list(worker.lines())


async def test_a_command_is_not_started_after_the_right_has_ended(warden: Warden, connector: LocalConnector) -> None:
    warden.extend(time.monotonic() - 1)
    outcome, sink = await run_script(connector, "echo never")

    assert (outcome.error_code, sink.writes) == (ErrorCode.NOT_STARTED, [])
    assert outcome.error_code is not None
    assert outcome.error_code.nothing_happened


async def test_a_right_given_anew_after_it_had_ended_counts(warden: Warden, connector: LocalConnector) -> None:
    warden.extend(time.monotonic() + 0.3)
    outcome, _ = await run_script(connector, "sleep 60")
    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, True)

    warden.extend(time.monotonic() + 60)
    outcome, sink = await run_script(connector, "echo again")
    assert (outcome.exit_code, sink.stdout) == (0, "again\n")


async def test_kill_all_from_another_thread_ends_every_command(warden: Warden, connector: LocalConnector) -> None:
    sinks = [RecordingSink() for _ in range(5)]
    running = [asyncio.ensure_future(run_script(connector, TREE, sink=sink)) for sink in sinks]
    for sink in sinks:
        await sink.wait_for_text("ready")
    pids = [int(word) for sink in sinks for word in sink.stdout.split() if word.isdigit()]
    assert len(pids) == 10
    began_at = time.monotonic()
    is_gone = await asyncio.to_thread(warden.kill_all)

    assert is_gone
    assert time.monotonic() - began_at < 2
    assert not any(map(is_alive, pids))
    for outcome, _ in await asyncio.gather(*running):
        assert (outcome.exit_code, outcome.error_code, outcome.stop_confirmed) == (137, ErrorCode.STOPPED, True)
    outcome, _ = await run_script(connector, "true")
    assert outcome.exit_code == 0, "kill_all ends what runs; it does not forbid what comes"


async def test_extend_and_commands_from_many_threads_do_not_disturb_each_other(
    warden: Warden, connector: LocalConnector
) -> None:
    is_over = threading.Event()

    def extend() -> None:
        while not is_over.is_set():
            warden.extend(time.monotonic() + 60)

    threads = [threading.Thread(target=extend) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        results = await asyncio.gather(
            *(run_script(connector, "cat; echo $1", stdin=b"x" * 100_000) for _ in range(30))
        )
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert [outcome.exit_code for outcome, _ in results] == [0] * 30


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_lost_warden_is_noticed_and_its_commands_are_ended(
    warden: Warden, connector: LocalConnector, number: int
) -> None:
    sink = RecordingSink()
    running = asyncio.ensure_future(run_script(connector, TREE, sink=sink))
    await sink.wait_for_text("ready")
    assert warden.pid is not None
    os.kill(warden.pid, number)
    with pytest.raises(WardenLost):
        await running

    pids = [int(word) for word in sink.stdout.split() if word.isdigit()]
    assert len(pids) == 2
    assert not any(map(is_alive, pids))
    assert warden.is_lost
    with pytest.raises(WardenLost):
        await run_script(connector, "true")
    with pytest.raises(WardenLost):
        warden.extend(time.monotonic() + 1)
    assert warden.kill_all() is True


def test_a_warden_that_died_while_idle_is_noticed_at_the_next_use(warden: Warden) -> None:
    warden.start()
    assert warden.pid is not None
    os.kill(warden.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(warden.pid or 0))

    with pytest.raises(WardenLost):
        warden.extend(time.monotonic() + 1)


async def test_a_frozen_warden_is_noticed_and_its_commands_are_ended(
    warden: Warden, connector: LocalConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executions.connectors.warden.client._SILENCE_SECONDS", 0.2)
    sink = RecordingSink()
    running = asyncio.ensure_future(run_script(connector, TREE, sink=sink))
    await sink.wait_for_text("ready")
    for _ in range(3):
        warden.extend(time.monotonic() + 60)
        await asyncio.sleep(0.25)  # it answers: nothing is amiss
    assert warden.pid is not None
    os.kill(warden.pid, signal.SIGSTOP)
    warden.extend(time.monotonic() + 60)
    await asyncio.sleep(0.25)
    with pytest.raises(WardenLost, match="does not answer"):
        warden.extend(time.monotonic() + 60)

    assert not any(is_alive(int(word)) for word in sink.stdout.split() if word.isdigit())
    with pytest.raises(WardenLost):
        await running


async def test_kill_all_ends_every_command_though_the_warden_is_frozen(
    warden: Warden, connector: LocalConnector
) -> None:
    sink = RecordingSink()
    running = asyncio.ensure_future(run_script(connector, TREE, sink=sink))
    await sink.wait_for_text("ready")
    assert warden.pid is not None
    os.kill(warden.pid, signal.SIGSTOP)
    killing = asyncio.ensure_future(asyncio.to_thread(warden.kill_all))
    pids = [int(word) for word in sink.stdout.split() if word.isdigit()]
    deadline = time.monotonic() + 1
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    os.kill(warden.pid, signal.SIGCONT)
    assert await killing is True
    outcome, _ = await running
    assert outcome.exit_code == 137


async def test_closing_does_not_wait_for_a_frozen_warden(warden: Warden, connector: LocalConnector) -> None:
    sink = RecordingSink()
    running = asyncio.ensure_future(run_script(connector, TREE, sink=sink))
    await sink.wait_for_text("ready")
    keeper = warden.pid
    assert keeper is not None
    os.kill(keeper, signal.SIGSTOP)
    await asyncio.to_thread(warden.close)
    assert not is_alive(keeper)
    assert not any(is_alive(int(word)) for word in sink.stdout.split() if word.isdigit())
    with pytest.raises(WardenLost):
        await running


def test_a_signal_to_the_workers_group_does_not_reach_the_warden(warden: Warden) -> None:
    warden.start()
    assert warden.pid is not None
    assert os.getsid(warden.pid) == warden.pid
    assert os.getpgid(warden.pid) != os.getpgid(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Only once it listens: a signal before that ends it, and a lost warden is noticed.
        wait_until(lambda: _ignores(warden.pid or 0, signal.SIGTERM))
        os.kill(warden.pid, number)
    warden.extend(time.monotonic() + 1)
    assert not warden.is_lost


def test_closing_ends_what_runs_and_the_warden_itself(connector: LocalConnector, warden: Warden) -> None:
    async def run_until_closed() -> tuple[int, list[int]]:
        sink = RecordingSink()
        running = asyncio.ensure_future(run_script(connector, TREE, sink=sink))
        await sink.wait_for_text("ready")
        pid = warden.pid or 0
        await asyncio.to_thread(warden.close)
        outcome, _ = await running
        assert outcome.error_code is ErrorCode.STOPPED
        return pid, [int(word) for word in sink.stdout.split() if word.isdigit()]

    keeper, pids = asyncio.run(run_until_closed())
    assert not is_alive(keeper)
    assert not any(map(is_alive, pids))


def test_a_forked_child_has_a_warden_of_its_own(warden: Warden, connector: LocalConnector) -> None:
    warden.start()
    parents = warden.pid
    child = os.fork()
    if child == 0:
        status = 1
        try:
            outcome, sink = asyncio.run(run_script(connector, "echo $PPID"))
            own = outcome.exit_code == 0 and warden.pid not in (parents, None) and int(sink.stdout) == warden.pid
            status = 0 if own else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    outcome, sink = asyncio.run(run_script(connector, "echo $PPID"))
    assert int(sink.stdout) == parents


def test_the_warden_is_small_and_knows_nothing_of_the_worker(warden: Warden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-value")
    warden.start()
    wait_until(lambda: _ignores(warden.pid or 0, signal.SIGTERM))

    assert b"canary" not in Path(f"/proc/{warden.pid}/environ").read_bytes()
    memory = next(line for line in Path(f"/proc/{warden.pid}/status").read_text().splitlines() if "VmRSS" in line)
    assert int(memory.split()[1]) < 25_000


def _ignores(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigIgn:")).split()[1]
    return bool(int(mask, 16) >> (number - 1) & 1)
