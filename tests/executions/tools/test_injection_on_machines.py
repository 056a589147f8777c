"""Every parameter of every tool with hostile values, really run, on this machine and over a real OpenSSH server.

The machine's programs are stand-ins that write down what they are given; those that only touch files then do what they
are for. A hostile value must make the very calls that a harmless one makes, with the value where the harmless one was.
The cases are made from the catalog, so a new tool is tried by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from executions.connectors.base import Connector, Invocation, Stop, Target
from executions.connectors.local import make as make_local
from executions.connectors.registry import Surroundings
from executions.connectors.ssh import SshConnector
from executions.connectors.warden import Warden
from executions.tools import InputProblem, InvalidInput, Tool, get_catalog
from tests.executions.connectors.recording import RecordingSink
from tests.executions.tools.test_tool_injection import filler
from tests.sshd import Sshd
from tests.sshd import sshd as sshd

MARK = "zqbenign"
HOSTILE = [
    "a'b\"c $(touch PWNED) `touch PWNED` ;touch PWNED; |touch PWNED &&touch PWNED >PWNED *?~!# {a,b} ${IFS}\\n\\ é日本",
    "x\ntouch PWNED\ny",
    "-rf",
    "--help",
    "$(touch PWNED)",
]
AT_ONCE = 8
TRIES = 5
# They do what they are for, on files of the test alone.
REAL = [
    "awk",
    "cat",
    "chmod",
    "chown",
    "cmp",
    "cp",
    "diff",
    "find",
    "grep",
    "head",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "printenv",
    "readlink",
    "rm",
    "sed",
    "sort",
    "stat",
    "tail",
    "touch",
    "tr",
    "wc",
]
# They would look at, or change, more than files of the test.
FAKES = [
    "bash",
    "curl",
    "df",
    "docker",
    "filler",
    "first",
    "free",
    "getent",
    "hostname",
    "journalctl",
    "lscpu",
    "nc",
    "nslookup",
    "ping",
    "ps",
    "python3",
    "sudo",
    "systemctl",
    "timeout",
    "tracepath",
    "traceroute",
    "uname",
    "uptime",
    "wget",
]
SAYS = {"systemctl": "LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\n", "docker": "exited\n"}
WROTE_DOWN = """#!/bin/sh
printf '%s\\0' {name} "$@" "<end>" >> "$TRACE"
"""
READS = """printf '%s\\0' "in $(pwd)" "Name=${{Name-}}" "stdin=$(cat)" "<end>" >> "$TRACE"
printf '%s' '{says}'
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name in REAL:
        if real := shutil.which(name):
            (folder / name).write_text(WROTE_DOWN.format(name=name) + f'exec {real} "$@"\n')
    for name in FAKES:
        (folder / name).write_text(WROTE_DOWN.format(name=name) + READS.format(says=SAYS.get(name, "")))
    (folder / "sh").symlink_to("/bin/sh")
    for path in folder.iterdir():
        if not path.is_symlink():
            path.chmod(0o755)
    return folder


@dataclass
class Machine:
    """thorough: each action is tried, also in check mode, with every value. Far away it is each parameter once: values
    go the same way there whatever the action, and a command takes a tenth of a second."""

    connector: Connector
    target: Target
    thorough: bool


@pytest.fixture(params=["local", "ssh"])
async def machine(request: pytest.FixtureRequest) -> AsyncIterator[Machine]:
    warden = Warden()
    surroundings = Surroundings(warden)
    if request.param == "ssh":
        server: Sshd = request.getfixturevalue("sshd")
        found = Machine(SshConnector(surroundings), server.target(), thorough=False)
    else:
        found = Machine(make_local(surroundings), Target(name="localhost", connection="local"), thorough=True)
    yield found
    await found.connector.close()
    warden.close()


def cases(tool: Tool, *, thorough: bool) -> Iterator[tuple[str, str, bool]]:
    """Every action, each parameter that means something for it, really and, where that is possible, in check mode."""
    seen: set[str] = set()
    for action, behaviour in tool.behaviours.items():
        for name in sorted(behaviour.accepted):
            if (tool.name, name) == ("shell", "command"):
                continue  # the one input that is meant to be a command line
            if thorough or name not in seen:
                yield action, name, False
            if thorough and behaviour.can_be_checked:
                yield action, name, True
            seen.add(name)


def value_of(tool: Tool, name: str, text: str, folder: Path) -> Any:
    kind = tool.parameters[name].type
    if kind == "path":
        return f"{folder}/{text}"
    if kind == "list":
        return ["first", text, "last"]
    if kind == "mapping":
        return {"Name": text}
    return text


def inputs_of(tool: Tool, action: str, name: str, text: str, folder: Path) -> dict[str, Any]:
    needed = set(tool.behaviours[action].required)
    if tool.exactly_one_of and name not in tool.exactly_one_of:
        needed.add(tool.exactly_one_of[0])
    inputs = {one: filler(tool, one) for one in needed}
    for one in needed:
        if tool.parameters[one].type == "path":
            inputs[one] = f"{folder}/{one}"
            (folder / one).write_text("key=value\n")
    if tool.by is not None:
        inputs[tool.by] = action
    return inputs | {name: value_of(tool, name, text, folder)}


def prepared(
    tool: Tool, action: str, name: str, text: str, folder: Path, check: bool
) -> tuple[Invocation | None, tuple[InputProblem, ...]]:
    """The invocation; or none, and why the value is refused."""
    try:
        return tool.prepare(inputs_of(tool, action, name, text, folder), check=check), ()
    except InvalidInput as refused:
        return None, refused.problems


async def calls_of(machine: Machine, invocation: Invocation, programs: Path, folder: Path) -> list[tuple[str, ...]]:
    """Run it; return what the machine's programs were given, in an order that does not depend on time."""
    trace = folder.with_suffix(".trace")
    trace.touch()  # empty until something runs, however often that has to be asked for
    environment = {**invocation.environment, "PATH": str(programs), "TRACE": str(trace), "LC_ALL": "C.UTF-8"}
    where = invocation.working_directory or str(folder)
    os.makedirs(where, exist_ok=True)
    changed = replace(invocation, environment=environment, working_directory=where)
    for _ in range(TRIES):
        outcome = await machine.connector.run(changed, machine.target, sink=RecordingSink(), stop=Stop(), fence=1)
        if outcome.error_code is None or not outcome.error_code.is_transient:
            break
        assert outcome.error_code.nothing_happened, outcome  # a busy server turned it away before anything ran
    assert outcome.exit_code is not None, outcome
    found = [tuple(part.split("\0")) for part in trace.read_text().split("\0<end>\0") if part]
    return sorted(tuple(tidied(text, folder) for text in call) for call in found)


def tidied(text: str, folder: Path) -> str:
    return re.sub(r"\.opsconductor\.\w{6}", ".opsconductor.X", text.replace(str(folder), "FOLDER"))


TOOLS = [tool.name for tool in get_catalog() if tool.connector == "command"]


@pytest.mark.parametrize("name", TOOLS)
async def test_a_hostile_value_makes_the_calls_of_a_harmless_one(
    machine: Machine, programs: Path, tmp_path: Path, name: str
) -> None:
    tool = get_catalog().get(name)
    assert tool is not None
    numbers = itertools.count()
    together = asyncio.Semaphore(AT_ONCE)
    wrong: list[str] = []
    reached = 0

    async def calls(action: str, parameter: str, text: str, check: bool) -> list[tuple[str, ...]] | None:
        folder = tmp_path / f"f{next(numbers)}"
        folder.mkdir()
        invocation, problems = prepared(tool, action, parameter, text, folder, check)
        if invocation is None:
            for problem in problems:
                if not (problem.path.startswith(parameter) and problem.message and problem.how_to_fix):
                    wrong.append(f"{action} {parameter} {text!r} is refused with {problem}")
            return None
        async with together:
            found = await calls_of(machine, invocation, programs, folder)
        if (folder / "PWNED").exists() or any(call[0] == "touch" for call in found):
            wrong.append(f"{action} {parameter} {text!r} ran a command")
        return found

    async def compare(action: str, parameter: str, check: bool) -> None:
        nonlocal reached
        harmless = await calls(action, parameter, MARK, check)
        for text in HOSTILE if machine.thorough else HOSTILE[:2]:
            found = await calls(action, parameter, text, check)
            if found is None:
                continue
            reached += 1
            if harmless is None:
                wrong.append(f"{action} {parameter}: {text!r} is taken, and {MARK} is not")
                continue
            expected = sorted(tuple(part.replace(MARK, text) for part in call) for call in harmless)
            if found != expected:
                wrong.append(f"{action} {parameter} {text!r} check={check}: {found} instead of {expected}")

    await asyncio.gather(*(compare(*case) for case in cases(tool, thorough=machine.thorough)))
    assert wrong == []
    if any(one.type == "path" for one in tool.parameters.values()):
        assert reached, "no hostile value was taken, so nothing was tried"


@pytest.mark.parametrize("tool", get_catalog(), ids=lambda tool: tool.name)
def test_what_is_no_text_takes_no_hostile_text(tool: Tool) -> None:
    for action, behaviour in tool.behaviours.items():
        for name in sorted(behaviour.accepted):
            parameter = tool.parameters[name]
            if parameter.type in ("integer", "number", "boolean", "duration", "auth", "expectations") or parameter.enum:
                inputs = {tool.by: action} if tool.by else {}
                for text in HOSTILE:
                    told = tool.check({**inputs, name: text})[1]
                    assert any(problem.path.startswith(name) for problem in told), (name, text)


def test_the_stand_ins_see_a_command_that_is_let_through(programs: Path, tmp_path: Path) -> None:
    """The test can fail: a tool that put a value into a shell's text would be seen."""
    trace = tmp_path / "trace"
    trace.touch()
    environment = {**os.environ, "PATH": str(programs), "TRACE": str(trace)}
    subprocess.run(["/bin/sh", "-c", f"echo {HOSTILE[4]}"], env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "PWNED").exists()
    assert trace.read_text() == "touch\0PWNED\0<end>\0"
