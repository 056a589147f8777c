"""The lines between the program that runs a playbook and the worker that hears it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from executions.connectors.ansible.run import PlaybookRun

# As ansible-runner hands it on: a task that talks as much as is kept of every text.
TELL = """
import sys
from executions.connectors.ansible.program import MOST_CHARACTERS, Teller
text = chr(int(sys.argv[1])) * (MOST_CHARACTERS + 1)
result = {"stdout": text, "stderr": text, "msg": text, "module_stderr": text, "item": text}
data = {"host": "web", "task": text, "task_action": text, "res": result}
Teller().event({"event": "runner_on_file_diff", "event_data": data, "stdout": text})
"""


def told_with(character: str) -> bytes:
    words = [sys.executable, "-c", TELL, str(ord(character))]
    return subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", "\x01", "\udcff"])
async def test_no_line_of_its_own_is_taken_for_one_without_an_end(character: str) -> None:
    told = told_with(character)
    assert told.endswith(b"\n")
    assert json.loads(told)["stdout"].startswith(character * 100)
    hearing = PlaybookRun([], [], lambda place, outcome: None)
    await hearing.write("stdout", told[:-1])
    await hearing.write("stdout", b"\n")


async def test_a_line_without_an_end_is_not_kept() -> None:
    hearing = PlaybookRun([], [], lambda place, outcome: None)
    with pytest.raises(ValueError, match="without an end"):
        await hearing.write("stdout", b"x" * 64 * 1024 * 1024)
