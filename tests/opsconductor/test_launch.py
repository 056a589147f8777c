"""A program that was launched ends with the process that launched it, in both ways there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from opsconductor import launch
from tests.installations import wait_until
from tests.opsconductor.postgres_processes import is_gone

PROGRAM = 'trap "echo ended >> $0; exit 0" TERM; echo $$ > $0; while :; do sleep 0.1; done'
LAUNCHER = f"""
import os, subprocess, sys
watched = ["--parent", str(os.getpid()), "--death-signal", "15", *sys.argv[2:]]
program = ["/bin/sh", "-c", {PROGRAM!r}, sys.argv[1]]
subprocess.run([sys.executable, "-I", "-S", {launch.__file__!r}, *watched, "--", *program])
"""


@pytest.mark.parametrize("options", [[], ["--monitor"]], ids=["by the kernel", "by a monitor"])
def test_a_program_is_told_when_its_launcher_is_killed(tmp_path: Path, options: list[str]) -> None:
    notes = tmp_path / "notes"
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(notes), *options], start_new_session=True)
    wait_until(lambda: notes.exists() and notes.read_text().strip(), what="the program")
    program = psutil.Process(int(notes.read_text()))

    launcher.kill()
    launcher.wait()

    wait_until(lambda: is_gone(program), what="the end of the program")
    assert notes.read_text().endswith("ended\n")  # asked, not killed


@pytest.mark.parametrize("options", [[], ["--monitor"]], ids=["by the kernel", "by a monitor"])
def test_the_exit_status_is_the_programs(options: list[str]) -> None:
    watched = ["--parent", str(os.getpid()), "--death-signal", "15", *options]
    command = [sys.executable, "-I", "-S", launch.__file__, *watched, "--"]
    assert subprocess.run([*command, "/bin/sh", "-c", "exit 7"], check=False).returncode == 7


def test_a_program_whose_launcher_is_gone_already_does_not_start(tmp_path: Path) -> None:
    watched = ["--parent", "1", "--death-signal", "15"]
    mark = tmp_path / "ran"
    done = subprocess.run(
        [sys.executable, "-I", "-S", launch.__file__, *watched, "--", "/bin/touch", str(mark)], check=False
    )
    assert done.returncode == launch.PARENT_GONE
    assert not mark.exists()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    watched = ["--parent", str(os.getpid()), "--death-signal", "15"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", launch.__file__, *watched, "--", str(tmp_path / "missing")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == launch.CANNOT_RUN
    assert "missing cannot be run: No such file or directory." in done.stderr
