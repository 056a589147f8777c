"""The child processes of a benchmark: none outlives the run, none is waited for without end."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.children import ChildFailed, Children, wait_until

# A parent that ignores TERM and has a child of its own, whose number it prints.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_nothing_outlives_the_run_not_even_grandchildren_of_a_child_that_ignores_term(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the run broke"), Children(tmp_path) as children:  # noqa: PT012
        child = children.start("stubborn", [sys.executable, "-c", STUBBORN])
        wait_until(lambda: child.log.read_text().strip(), timeout_seconds=20, what="it started", child=child)
        grandchild = int(child.log.read_text())
        raise RuntimeError("the run broke")
    wait_until(lambda: gone(child.pid) and gone(grandchild), timeout_seconds=10, what="both are gone")


def test_a_child_that_does_not_end_in_time_is_ended_and_reported(tmp_path: Path) -> None:
    began = time.monotonic()
    with Children(tmp_path) as children, pytest.raises(ChildFailed, match=r"did not end within 1 s"):
        children.run("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], timeout_seconds=1)
    assert time.monotonic() - began < 30


def test_a_child_that_fails_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with Children(tmp_path) as children, pytest.raises(ChildFailed, match=r"(?s)ended with 3:.*no such queue"):
        children.run("failing", [sys.executable, "-c", "print('no such queue'); exit(3)"], timeout_seconds=30)


def test_a_child_without_a_result_is_a_failure_not_an_empty_result(tmp_path: Path) -> None:
    with Children(tmp_path) as children, pytest.raises(ChildFailed, match="printed no RESULT line"):
        children.result("silent", [sys.executable, "-c", "print('RESULTS')"], timeout_seconds=30)


def test_waiting_ends_as_soon_as_the_child_has_died(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("dying", [sys.executable, "-c", "print('out of luck'); exit(4)"])
        with pytest.raises(ChildFailed, match=r"(?s)ended with 4:.*out of luck"):
            wait_until(lambda: False, timeout_seconds=60, what="it is ready", child=child)
