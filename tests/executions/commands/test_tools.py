"""`manage.py tools`: what it lists and shows, and how it says what is wrong with a site's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from executions.tools import load_catalog
from executions.tools.shape import example_step, tool_shape

ROOT = Path(__file__).resolve().parents[3]
OWN = """\
name: own
summary: Does something of the site's own.
connector: command
needs_target: true
action_class: read
idempotent: true
irreversible: false
production_safe: true
default_timeout_seconds: 10
estimated_duration: 1
max_output_bytes: 1000
argv: [own]
"""


def manage(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, as an operator starts it: without a database, which it has no use for."""
    folder.chmod(0o755)
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "VAR_DIR": str(folder),
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
            "SECRET_KEY": "of-tests-that-contact-nothing",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_tool_is_listed_with_what_it_is_and_takes(tmp_path: Path) -> None:
    listed = manage(tmp_path, "tools")
    assert (listed.returncode, listed.stderr) == (0, "")
    for tool in load_catalog():
        assert f"{tool.name}  " in listed.stdout
        assert tool.summary.split(".")[0][:60] in " ".join(listed.stdout.split())
    assert "read or modify, connector command" in listed.stdout
    assert "action*, service" in listed.stdout


def test_the_json_is_what_the_api_has(tmp_path: Path) -> None:
    listed = json.loads(manage(tmp_path, "tools", "--json").stdout)
    assert listed == {"results": [json.loads(json.dumps(tool_shape(tool))) for tool in load_catalog()]}


def test_one_tool_is_shown_with_an_example_that_is_a_step(tmp_path: Path) -> None:
    shown = manage(tmp_path, "tools", "config-manager").stdout  # another name of it
    assert "Also known as config-manager." in shown
    assert "key (string), needed" in shown
    example = yaml.safe_load(shown.split("Example of a step:")[1])
    assert example == [example_step(tool)] if (tool := load_catalog().get("config_manager")) else False


@pytest.mark.parametrize("name", load_catalog().names())
def test_the_example_of_every_tool_is_accepted(name: str) -> None:
    tool = load_catalog().get(name)
    assert tool is not None
    assert tool.check(example_step(tool).get("inputs", {}))[1] == []


def test_a_tool_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    ended = manage(tmp_path, "tools", "nosuch")
    assert ended.returncode == 1
    assert ended.stderr.strip() == "CommandError: There is no tool 'nosuch'. `manage.py tools` lists them."


def test_a_good_folder_is_said_to_be_good_and_its_tools_are_listed_with_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "tools"
    folder.mkdir(mode=0o755)
    (folder / "own.yaml").write_text(OWN + "replaces: noop\n")
    checked = manage(tmp_path, "tools", "--validate")  # what VAR_DIR has
    assert checked.returncode == 0
    assert "own (in place of noop): good" in checked.stdout
    assert f"from {folder}/own.yaml (in place of noop)" in manage(tmp_path, "tools").stdout


def test_a_bad_folder_is_told_by_file_and_line_and_keeps_everything_from_starting(tmp_path: Path) -> None:
    folder = tmp_path / "tools"
    folder.mkdir(mode=0o755)
    (folder / "own.yaml").write_text(OWN.replace("argv: [own]", "argv: ['{what}']\ncolour: red"))
    (folder / "docker.yaml").write_text(OWN.replace("name: own", "name: docker"))
    checked = manage(tmp_path, "tools", "--validate", str(folder))
    assert checked.returncode == 1
    assert f"{folder}/own.yaml:13: colour: is not an entry that a tool file has" in checked.stderr
    assert f"{folder}/docker.yaml:1: name: docker is a tool of OpsConductor" in checked.stderr
    assert "2 faults" in checked.stderr
    told = json.loads(manage(tmp_path, "tools", "--validate", str(folder), "--json").stdout)
    assert {(fault["file"], fault["line"]) for fault in told["faults"]} == {
        (f"{folder}/own.yaml", 13),
        (f"{folder}/docker.yaml", 1),
    }
    for command in (("serve",), ("worker",), ("tools",)):
        refused = manage(tmp_path, *command)
        assert refused.returncode == 1
        assert refused.stderr.startswith("The tool catalog cannot be used.\n")
        assert "Traceback" not in refused.stderr


def test_a_folder_that_is_not_there_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    refused = manage(tmp_path, "tools", TOOLS_DIR=str(tmp_path / "nowhere"))
    assert refused.returncode == 1
    assert refused.stderr.startswith("TOOLS_DIR names ")
    assert manage(tmp_path, "tools", "--validate").stderr.startswith("CommandError: There is no folder to check")
