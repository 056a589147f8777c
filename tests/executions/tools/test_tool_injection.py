"""Whatever a value holds, it arrives as that text or is refused; it never becomes an option or a command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.connectors.base import Invocation
from executions.tools import InvalidInput, Tool, get_catalog

Find = Callable[[str], Tool]
MARK = "zqbenign"
EVIL = [
    "a b", "'", '"', "a'b\"c", "$(touch PWNED)", "`touch PWNED`", "; touch PWNED", "| touch PWNED", "&& touch PWNED",
    "> PWNED", "a\ntouch PWNED\n", "\r\n", "\t", "-rf", "--help", "-", "--", "+x", "*", "?", "~", "~root", "!", "#",
    "\\", "\\n", "\\$(id)", "${IFS}", "$PATH", "%s%n", "{a,b}", "é ü ß", "日本語", "\u202e", "\x1b[31m", "\x7f", "= :",
    "{{ x }}", "{path}", "/../../etc/passwd", "x" * 5000,
]  # fmt: skip
BENIGN: dict[str, Any] = {"path": f"/{MARK}", "host": MARK, "url": f"https://{MARK}.example/", "string": MARK}
FILLERS: dict[str, Any] = {
    "string": "filler", "path": "/filler", "host": "filler", "url": "https://filler.example/", "integer": 7,
    "list": ["filler"], "mapping": {"filler": "filler"}, "duration": 7, "playbook": "filler.yml",
}  # fmt: skip


def filler(found: Tool, name: str) -> Any:
    if name == "mode":
        return "0644"
    parameter = found.parameters[name]
    return parameter.enum[0] if parameter.enum else "7" if name == "since" else FILLERS[parameter.type]


def places() -> Iterator[tuple[str, str, str]]:
    """Every tool, each of its actions, every parameter that holds text."""
    for found in get_catalog():
        for action, behaviour in found.behaviours.items():
            for name in sorted(behaviour.accepted):
                if found.parameters[name].type in ("string", "path", "host", "url", "list", "mapping", "json"):
                    yield found.name, action, name


def holds_plain_text(name: str, _action: str, parameter: str) -> bool:
    """A JSON value is not: JSON escapes the NUL."""
    found = get_catalog().get(name)
    return found is not None and found.parameters[parameter].type != "json"


def inputs_for(found: Tool, action: str, name: str, value: Any) -> dict[str, Any]:
    needed = {one: filler(found, one) for one in found.behaviours[action].required}
    if found.by:
        needed[found.by] = action
    if found.exactly_one_of and name not in found.exactly_one_of:
        needed[found.exactly_one_of[0]] = "filler"
    return needed | {name: value}


def everything_in(invocation: Invocation) -> str:
    """All that leaves for the target, with where it is, as one text to compare."""
    http = invocation.http
    parts: list[object] = [list(invocation.argv), (invocation.stdin or b"").decode(), dict(invocation.environment)]
    parts.append(invocation.working_directory)
    if invocation.script is not None:
        parts += [invocation.script.text, dict(invocation.script.inputs or {})]
    if http:
        parts += [http.method, http.url, dict(http.headers), (http.body or b"").decode(), list(http.expect_status)]
    return json.dumps(parts)


def in_kind(kind: str, text: str) -> Any:
    if kind == "list":
        return ["first", text, "last"]
    return {"Name": text} if kind in ("mapping", "json") else text


@pytest.mark.parametrize(("name", "action", "parameter"), list(places()))
def test_a_value_arrives_as_the_text_it_is_or_is_refused(tool: Find, name: str, action: str, parameter: str) -> None:
    found = tool(name)
    kind = found.parameters[parameter].type
    root = "C:\\" if found.connector == "powershell" else "/"
    benign = f"{root}{MARK}" if kind == "path" else BENIGN.get(kind, MARK)
    for text in (value for evil in EVIL for value in ((evil, f"{root}{evil}") if kind == "path" else (evil,))):
        invocation, refused = attempt(found, inputs_for(found, action, parameter, in_kind(kind, text)))
        if invocation is None:
            assert [path for path in refused if not path.startswith(parameter)] == []
            continue
        assert not found.parameters[parameter].enum
        expected = found.prepare(inputs_for(found, action, parameter, in_kind(kind, benign)))
        assert invocation.argv == tuple(argument.replace(benign, text) for argument in expected.argv)
        plain = json.dumps(text)[1:-1]
        inner = json.dumps(plain)[1:-1]  # a JSON body is JSON within the JSON that is compared
        wanted = everything_in(expected)
        encoded = quote_plus(text)  # a parameter of the address
        shown = json.dumps(benign)[1:-1]
        assert everything_in(invocation) in [wanted.replace(shown, form) for form in (plain, inner, encoded)]


def attempt(found: Tool, inputs: dict[str, Any]) -> tuple[Invocation | None, list[str]]:
    """The invocation, or where the inputs were refused."""
    try:
        return found.prepare(inputs), []
    except InvalidInput as refused:
        return None, [problem.path for problem in refused.problems]


@pytest.mark.parametrize(("name", "action", "parameter"), [place for place in places() if holds_plain_text(*place)])
def test_a_nul_character_is_refused_everywhere(tool: Find, name: str, action: str, parameter: str) -> None:
    found = tool(name)
    inputs = inputs_for(found, action, parameter, in_kind(found.parameters[parameter].type, "/a\0b"))
    assert [problem for problem in found.check(inputs)[1] if problem.path.startswith(parameter)]
    with pytest.raises(InvalidInput):
        found.prepare(inputs)


def test_a_body_with_a_nul_character_is_refused_as_text_and_escaped_as_json(tool: Find) -> None:
    assert tool("http").check({"url": "https://example.org/", "body": "a\0"})[1]
    request = tool("http").prepare({"url": "https://example.org/", "method": "POST", "body": {"a": "\0"}}).http
    assert request is not None
    assert request.body == b'{"a": "\\u0000"}'


@pytest.mark.parametrize("name", [found.name for found in get_catalog() if found.connector == "command"])
def test_no_value_stands_where_a_program_looks_for_options(tool: Find, name: str) -> None:
    found = tool(name)
    for action, behaviour in found.behaviours.items():
        for parameter in behaviour.accepted - {found.by}:
            if found.parameters[parameter].type not in ("string", "host", "path"):
                continue
            try:
                argv = found.prepare(inputs_for(found, action, parameter, "--evil=1")).argv
            except InvalidInput:
                continue
            if argv[:2] == ("/bin/sh", "-c"):
                assert "--evil=1" not in argv[:4] or name == "shell"
            elif "--evil=1" in argv:
                assert argv.index("--") < argv.index("--evil=1")


PRINTER = """#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[Invocation], list[list[str]]]:
    """Run an invocation where systemctl, docker, journalctl, ping and traceroute write down their arguments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "log"
    for name in ("systemctl", "docker", "journalctl", "ping", "traceroute", "printer"):
        (programs / name).write_text(PRINTER.format(python=sys.executable, log=str(log)))
        (programs / name).chmod(0o755)

    def run(invocation: Invocation) -> list[list[str]]:
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **invocation.environment}
        subprocess.run(
            invocation.argv, input=invocation.stdin or b"", env=environment, cwd=tmp_path, check=True, timeout=20
        )
        return [json.loads(line) for line in log.read_text().splitlines()]

    return run


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5))
def test_any_list_of_texts_is_the_command_line(texts: list[str]) -> None:
    found = get_catalog().get("command")
    assert found is not None
    argv = ["python3", "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", *texts]
    assert found.prepare(found.check({"argv": argv})[0]).argv == tuple(argv)


def test_a_program_really_gets_the_arguments_as_they_are(
    tool: Find, recorded: Callable[[Invocation], list[list[str]]]
) -> None:
    assert recorded(tool("command").prepare({"argv": ["printer", *EVIL]})) == [["printer", *EVIL]]


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        (
            "systemctl",
            {"action": "stop", "service": "a\\x2db@c.service"},
            ["systemctl", "--no-pager", "--no-ask-password", "stop", "--", "a\\x2db@c.service"],
        ),
        (
            "journalctl",
            {"unit": "a*", "since": "-1h", "lines": 3},
            ["journalctl", "--no-pager", "--lines=3", "--unit=a*", "--since=-1h"],
        ),
        ("docker", {"action": "top", "container": "a.b-c"}, ["docker", "top", "--", "a.b-c"]),
        (
            "network_tools",
            {"action": "ping", "target": "fe80::1%eth0", "count": 2},
            ["ping", "-c", "2", "-W", "5", "fe80::1%eth0"],
        ),
        (
            "network_tools",
            {"action": "traceroute", "target": "example.org"},
            ["traceroute", "-n", "-w", "5", "example.org"],
        ),
    ],
)
def test_programs_that_are_not_here_would_get_these_arguments(
    tool: Find,
    recorded: Callable[[Invocation], list[list[str]]],
    name: str,
    inputs: dict[str, Any],
    expected: list[str],
) -> None:
    assert recorded(tool(name).prepare(inputs)) == [expected]


NAMES = [evil for evil in EVIL if "/" not in evil and len(evil) < 200]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_file_with_a_wild_name_is_written_moved_and_deleted(run: Any, tmp_path: Path, name: str) -> None:
    folder = tmp_path / f"folder {name}"
    there, moved = folder / name, folder / f"{name}2"
    assert run("file_manager", action="mkdir", path=str(folder)).returncode == 0
    assert run("file_manager", action="write", path=str(there), content=name).returncode == 0
    assert there.read_bytes() == name.encode()
    assert run("file_manager", action="read", path=str(there)).stdout == name
    assert run("file_manager", action="append", path=str(there), content=name).returncode == 0
    assert there.read_bytes() == (name + name).encode()
    assert run("file_manager", action="chmod", path=str(there), mode="0600").returncode == 0
    for action in ("list", "stat", "exists"):
        assert run("file_manager", action=action, path=str(there)).returncode == 0
    assert run("file_manager", action="copy", path=str(there), destination=str(moved)).returncode == 0
    assert moved.read_bytes() == (name + name).encode()
    assert run("file_manager", action="move", path=str(there), destination=str(moved), overwrite=True).returncode == 0
    assert run("copy", path=str(there), source=str(moved)).returncode == 0
    assert sorted(folder.iterdir()) == sorted([there, moved])
    assert run("file_manager", action="delete", path=str(there)).returncode == 0
    assert run("file_manager", action="delete", path=str(folder), recursive=True).returncode == 0
    assert list(tmp_path.iterdir()) == []


WILD_VALUES = [evil for evil in EVIL if "\n" not in evil and "\r" not in evil]


@pytest.mark.parametrize("value", WILD_VALUES, ids=range(len(WILD_VALUES)))
def test_a_wild_setting_is_stored_and_read_as_it_is(run: Any, tmp_path: Path, value: str) -> None:
    path = tmp_path / "app.conf"
    path.write_text("before=1\nkey=old\nafter=2\n")
    assert run("config_manager", action="set", path=str(path), key="key", value=value).returncode == 0
    assert path.read_bytes() == f"before=1\nkey={value}\nafter=2\n".encode()
    assert run("config_manager", action="get", path=str(path), key="key").stdout == value.strip(" \t") + "\n"
    assert [one.name for one in tmp_path.iterdir()] == ["app.conf"]


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")
@pytest.mark.parametrize("text", [evil for evil in EVIL if evil.isprintable() and evil.isascii() and len(evil) < 200])
def test_a_wild_text_is_only_looked_for_among_processes(run: Any, tmp_path: Path, text: str) -> None:
    result = run("ps", pattern=text)
    assert result.returncode in (0, 1)
    assert all(text in line for line in result.stdout.splitlines()[1:])
    assert "PWNED" not in os.listdir()
