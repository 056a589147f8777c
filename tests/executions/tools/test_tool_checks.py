"""Check mode of the tools: what they say would change is what changes then, and until then nothing has."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from executions.tools import InvalidInput, Tool, get_catalog

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def everything(folder: Path) -> list[tuple[str, int, int, bytes]]:
    """Every file below a folder: name, mode, when it was changed, and what is in it."""
    found = []
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found.append((str(path), stat.S_IMODE(facts.st_mode), facts.st_mtime_ns, content))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "motd").write_text("first\nsecond\n")
    (tmp_path / "motd").chmod(0o644)
    (tmp_path / "app.conf").write_text("a = 1\nb = 2\n")
    (tmp_path / "tree" / "branch").mkdir(parents=True)
    (tmp_path / "tree" / "leaf").write_text("x")
    return tmp_path


# (tool, inputs, what is said; None: nothing would change)
CHANGES: list[tuple[str, dict[str, Any], str | None]] = [
    ("copy", {"path": "motd", "content": "first\nthird\n"}, "-second\n+third\nwould change {}/motd\n"),
    ("copy", {"path": "new", "content": "text\n"}, "+text\nwould make {}/new\n"),
    ("copy", {"path": "motd", "content": "first\nsecond\n", "mode": "0600"}, "the mode of {}/motd from 644 to 600\n"),
    ("copy", {"path": "motd", "content": "first\nsecond\n"}, None),
    ("copy", {"path": "motd", "source": "app.conf"}, "+b = 2\nwould change {}/motd\n"),
    ("file_manager", {"action": "write", "path": "motd", "content": "third"}, "would change {}/motd\n"),
    ("file_manager", {"action": "append", "path": "motd", "content": "third\n"}, "+third\nwould change {}/motd\n"),
    ("file_manager", {"action": "append", "path": "new", "content": "third\n"}, "+third\nwould make {}/new\n"),
    ("file_manager", {"action": "delete", "path": "motd"}, "would delete {}/motd\n"),
    ("file_manager", {"action": "delete", "path": "nothing"}, None),
    ("file_manager", {"action": "delete", "path": "tree", "recursive": True}, "{}/tree/branch\n"),
    ("file_manager", {"action": "mkdir", "path": "deep/er"}, "would make the directory {}/deep/er\n"),
    ("file_manager", {"action": "mkdir", "path": "tree"}, None),
    ("file_manager", {"action": "chmod", "path": "motd", "mode": "0640"}, "the mode of {}/motd from 644 to 640\n"),
    ("file_manager", {"action": "chmod", "path": "motd", "mode": "0644"}, None),
    ("file_manager", {"action": "copy", "path": "motd", "destination": "copied"}, "would make {}/copied\n"),
    ("file_manager", {"action": "move", "path": "motd", "destination": "moved"}, "would move {}/motd to {}/moved\n"),
    ("config_manager", {"action": "set", "path": "app.conf", "key": "b", "value": "3"}, "-b = 2\n+b = 3\nwould set"),
    ("config_manager", {"action": "set", "path": "app.conf", "key": "b", "value": "2"}, None),
    ("config_manager", {"action": "delete", "path": "app.conf", "key": "a"}, "-a = 1\n"),
    ("config_manager", {"action": "delete", "path": "app.conf", "key": "z"}, None),
]  # fmt: skip
PATHS = ("path", "source", "destination")


def within(folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: str(folder / value) if name in PATHS else value for name, value in inputs.items()}


@pytest.mark.parametrize(("name", "inputs", "said"), CHANGES, ids=range(len(CHANGES)))
def test_a_check_says_what_would_change_and_changes_nothing(
    run: Run, run_check: Run, folder: Path, name: str, inputs: dict[str, Any], said: str | None
) -> None:
    before = everything(folder)
    checked = run_check(name, **within(folder, inputs))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert everything(folder) == before
    if said is None:
        assert "would stay" in checked.stdout or "nothing would change" in checked.stdout or checked.stdout == ""
        assert "would change " not in checked.stdout
    else:
        assert said.replace("{}", str(folder)) in checked.stdout

    contents = [(path, mode, content) for path, mode, _, content in before]
    assert run(name, **within(folder, inputs)).returncode == 0
    assert ([(path, mode, content) for path, mode, _, content in everything(folder)] == contents) == (said is None)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("copy", {"path": "tree", "content": "x"}),
    ("copy", {"path": "nowhere/file", "content": "x"}),
    ("copy", {"path": "new", "source": "nothing"}),
    ("file_manager", {"action": "delete", "path": "tree"}),
    ("file_manager", {"action": "mkdir", "path": "motd"}),
    ("file_manager", {"action": "chmod", "path": "nothing", "mode": "0600"}),
    ("file_manager", {"action": "append", "path": "tree", "content": "x"}),
    ("file_manager", {"action": "move", "path": "motd", "destination": "app.conf"}),
    ("file_manager", {"action": "move", "path": "nothing", "destination": "new"}),
    ("config_manager", {"action": "set", "path": "nothing", "key": "a", "value": "1"}),
]


@pytest.mark.parametrize(("name", "inputs"), REFUSED, ids=range(len(REFUSED)))
def test_a_check_fails_where_the_real_thing_would(
    run: Run, run_check: Run, folder: Path, name: str, inputs: dict[str, Any]
) -> None:
    before = everything(folder)
    checked = run_check(name, **within(folder, inputs))
    assert checked.returncode != 0
    assert checked.stderr
    assert everything(folder) == before
    assert run(name, **within(folder, inputs)).returncode != 0


def test_a_link_is_followed_and_stays(run_check: Run, folder: Path) -> None:
    (folder / "link").symlink_to(folder / "motd")
    checked = run_check("copy", path=str(folder / "link"), content="other\n")
    assert checked.returncode == 0
    assert "-first\n" in checked.stdout
    assert (folder / "link").is_symlink()


STAND_IN = """#!{python}
import json, os, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps([os.path.basename(sys.argv[0]), *arguments]) + "\\n")
answer = os.environ["STAND_IN_ANSWER"]
if not answer:
    print("Error: No such object", file=sys.stderr)
    sys.exit(1)
print(answer)
"""


@pytest.fixture
def checked_with(tool: Callable[[str], Tool], tmp_path: Path) -> Callable[..., tuple[int, str, list[list[str]]]]:
    """Check with a systemctl and a docker that write down what they are asked, and answer what they are told."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    for name in ("systemctl", "docker"):
        (programs / name).write_text(STAND_IN.format(python=sys.executable, log=str(log)))
        (programs / name).chmod(0o755)

    def check(name: str, answer: str, **inputs: Any) -> tuple[int, str, list[list[str]]]:
        argv = tool(name).prepare(inputs, check=True).argv
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "STAND_IN_ANSWER": answer}
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=False)
        asked = [json.loads(line) for line in log.read_text().splitlines()]
        return ended.returncode, ended.stdout + ended.stderr, asked

    return check


def unit(load: str = "loaded", active: str = "active", file: str = "enabled") -> str:
    return f"LoadState={load}\nActiveState={active}\nUnitFileState={file}"


@pytest.mark.parametrize(
    ("action", "answer", "code", "said"),
    [
        ("restart", unit(), 0, "nginx is active, enabled\nwould restart nginx\n"),
        ("start", unit(), 0, "nginx is running: nothing would change"),
        ("start", unit(active="inactive"), 0, "would start nginx"),
        ("stop", unit(active="failed"), 0, "nginx is not running: nothing would change"),
        ("reload", unit(active="inactive"), 1, "cannot be reloaded"),
        ("enable", unit(file="disabled"), 0, "would enable nginx"),
        ("enable", unit(), 0, "nginx is enabled: nothing would change"),
        ("start", unit(load="masked", active="inactive", file="masked"), 1, "nginx is masked"),
        ("unmask", unit(load="masked", active="inactive", file="masked"), 0, "would unmask nginx"),
        ("restart", unit(load="not-found", active="inactive", file=""), 1, "there is no unit nginx"),
        ("restart", "", 1, "No such object"),
    ],
)
def test_systemctl_is_only_asked_about_the_unit(
    checked_with: Callable[..., tuple[int, str, list[list[str]]]], action: str, answer: str, code: int, said: str
) -> None:
    returned, printed, asked = checked_with("systemctl", answer, action=action, service="nginx")
    assert (returned, said in printed) == (code, True), printed
    assert [arguments[:2] for arguments in asked] == [["systemctl", "show"]]
    assert asked[0][-2:] == ["--", "nginx"]


@pytest.mark.parametrize(
    ("inputs", "answer", "code", "said"),
    [
        ({"action": "restart"}, "running", 0, "would restart web"),
        ({"action": "start"}, "running", 0, "nothing would change"),
        ({"action": "stop"}, "exited", 0, "nothing would change"),
        ({"action": "pause"}, "exited", 1, "cannot be paused"),
        ({"action": "remove"}, "running", 1, "set force"),
        ({"action": "remove", "force": True}, "running", 0, "would stop and remove web"),
        ({"action": "remove"}, "exited", 0, "would remove web"),
        ({"action": "remove"}, "", 1, "No such object"),
    ],
)
def test_docker_is_only_asked_about_the_container(
    checked_with: Callable[..., tuple[int, str, list[list[str]]]],
    inputs: dict[str, Any],
    answer: str,
    code: int,
    said: str,
) -> None:
    returned, printed, asked = checked_with("docker", answer, container="web", **inputs)
    assert (returned, said in printed) == (code, True), printed
    assert [arguments[:2] for arguments in asked] == [["docker", "inspect"]]


def test_every_unit_action_that_changes_something_can_be_checked(tool: Callable[[str], Tool]) -> None:
    for name in ("systemctl", "docker", "file_manager", "config_manager", "copy"):
        assert all(behaviour.can_be_checked for behaviour in tool(name).behaviours.values()), name


@pytest.mark.parametrize("inputs", [{"command": "true"}])
def test_what_cannot_say_what_it_would_do_is_refused(tool: Callable[[str], Tool], inputs: dict[str, Any]) -> None:
    assert not tool("shell").has_check_for(inputs)
    with pytest.raises(InvalidInput, match="cannot be checked"):
        tool("shell").prepare(inputs, check=True)
    with pytest.raises(InvalidInput, match="cannot be checked"):
        tool("http").prepare({"method": "POST", "url": "https://example.org/"}, check=True)


def test_what_only_reads_is_checked_by_running_it(tool: Callable[[str], Tool]) -> None:
    request = {"url": "https://example.org/", "method": "GET"}
    assert tool("http").has_check_for(request)
    assert tool("http").prepare(request, check=True).http == tool("http").prepare(request).http
    for found in get_catalog():
        for action, behaviour in found.behaviours.items():
            if behaviour.action_class == "read":
                assert found.has_check_for({found.by: action} if found.by else {})


def test_the_action_is_not_told_apart_by_what_is_not_known_yet(tool: Callable[[str], Tool]) -> None:
    assert not tool("systemctl").has_check_for({"service": "nginx"})
