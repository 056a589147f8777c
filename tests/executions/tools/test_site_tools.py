"""A site's own tools: beside those of OpsConductor, and never in the place of one without saying so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from executions.tools import CatalogError, load_catalog

Write = Callable[..., Path]
APP: dict[str, Any] = {
    "name": "restart_app",
    "summary": "Restarts an application.",
    "connector": "command",
    "needs_target": True,
    "action_class": "modify",
    "idempotent": True,
    "irreversible": False,
    "production_safe": True,
    "default_timeout_seconds": 10,
    "estimated_duration": 1,
    "max_output_bytes": 1000,
    "parameters": {"app": {"type": "string", "description": "Which one.", "required": True}},
    "argv": ["appctl", "restart", "--", "{app}"],
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    tmp_path.chmod(0o755)

    def write_tool(**entries: Any) -> Path:
        document = {**APP, **entries}
        (tmp_path / f"{document['name']}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        return tmp_path

    return write_tool


def faults(site: Path) -> list[str]:
    with pytest.raises(CatalogError) as refused:
        load_catalog(site=site)
    told = [str(fault).removeprefix(f"{site}/") for fault in refused.value.faults]
    return [
        re.sub(r"^(.*?):(\d+): ", lambda found: f"{found[1]}@{entry_at(site / found[1], int(found[2]))} ", one)
        for one in told
    ]


def entry_at(path: Path, line: int) -> str:
    """The entry that begins in a line of a file."""
    lines = [*path.read_text().splitlines(), "the end:"]
    return lines[line - 1].strip(" -").split(":")[0]


def test_a_tool_of_the_site_is_there_beside_those_of_opsconductor(write: Write) -> None:
    catalog = load_catalog(site=write())
    own = catalog.get("restart_app")
    assert own is not None
    assert own.prepare({"app": "shop"}).argv == ("appctl", "restart", "--", "shop")
    assert own.source.endswith("/restart_app.yaml")
    assert {tool.name for tool in catalog} == {*load_catalog().names(), "restart_app"}
    assert {tool.source for tool in catalog if tool is not own} == {""}


def test_a_folder_without_tools_adds_none(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert load_catalog(site=tmp_path).names() == load_catalog().names()


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (
            {"name": "systemctl"},
            "systemctl.yaml@name name: systemctl is a tool of OpsConductor; choose ",
        ),
        (
            {"also_known_as": ["docker"]},
            "restart_app.yaml@also_known_as also_known_as: docker is a tool ",
        ),
        (
            {"name": "http-check"},
            "http-check.yaml@name name: http-check is another name of http_check; choose ",
        ),
        (
            {"replaces": "systemd"},
            "restart_app.yaml@replaces replaces: there is no tool systemd",
        ),
        (
            {"replaces": "http-check"},
            "restart_app.yaml@replaces replaces: there is no tool http-check",
        ),
        (
            {"replaces": "docker", "also_known_as": ["ps"]},
            "restart_app.yaml@also_known_as also_known_as: ps is a ",
        ),
    ],
)
def test_a_name_that_is_taken_is_refused_with_its_file_and_line(
    write: Write, entries: dict[str, Any], expected: str
) -> None:
    told = faults(write(**entries))
    assert len(told) == 1
    assert told[0].startswith(expected), told


def test_a_tool_that_says_so_stands_in_the_place_of_another_under_all_its_names(write: Write) -> None:
    catalog = load_catalog(site=write(replaces="http_check", also_known_as=["bounce"]))
    own = catalog.get("restart_app")
    assert own is not None
    assert own.replaces == "http_check"
    assert [catalog.get(name) for name in ("http_check", "http-check", "bounce")] == [own] * 3
    assert "http_check" not in catalog.names()


def test_a_tool_can_keep_the_name_that_it_replaces(write: Write) -> None:
    own = load_catalog(site=write(name="systemctl", replaces="systemctl")).get("systemctl")
    assert own is not None
    assert own.prepare({"app": "x"}).argv[0] == "appctl"


def test_two_tools_of_the_site_cannot_share_a_name_or_replace_the_same_tool(write: Write) -> None:
    write(name="first", replaces="docker", also_known_as=["mine"])
    site = write(name="second", replaces="docker", also_known_as=["mine"])
    told = faults(site)
    assert told == [
        f"second.yaml@replaces replaces: docker is already replaced by {site}/first.yaml",
        f"second.yaml@also_known_as also_known_as: mine is already a name of the tool in {site}/first.yaml",
    ]


def test_only_a_site_can_replace(write: Write) -> None:
    with pytest.raises(CatalogError, match="replaces: is for the tools of a site's own folder"):
        load_catalog(write(replaces="docker"))


def test_every_fault_of_every_file_is_told_with_its_line(write: Write) -> None:
    write(colour="red", idempotent="yes")
    site = write(name="second", argv=["appctl", "{app}", "{who}"])
    (site / "broken.yaml").write_text("name: broken\nsummary: [\n")
    (site / "notes.txt").write_text("x")
    told = faults(site)
    for start in (
        "broken.yaml@the end cannot be read",
        "notes.txt: is not a .yaml file",
        "restart_app.yaml@colour colour: is not an entry that a tool file has",
        "restart_app.yaml@idempotent idempotent: Input should be a valid boolean",
        "second.yaml@parameters who is used but is not one of the parameters",
        "second.yaml@app app may begin with a dash and stands before any --",
    ):
        assert len([one for one in told if one.startswith(start)]) == 1, (start, told)


def test_what_everybody_can_write_is_refused(write: Write) -> None:
    site = write()
    (site / "restart_app.yaml").chmod(0o666)
    assert faults(site) == ["restart_app.yaml: can be written by everybody, who could then run anything"]


def test_a_program_of_the_site_is_used_and_cannot_have_the_name_of_another(write: Write) -> None:
    site = write()
    document = {entry: value for entry, value in APP.items() if entry != "argv"}
    document |= {"program": ["replace_file.sh", "ours.sh"], "arguments": ["{app}"]}
    (site / "restart_app.yaml").write_text(yaml.safe_dump(document))
    assert any("a program cannot be read" in one for one in faults(site))
    (site / "programs").mkdir(mode=0o755)
    (site / "programs" / "ours.sh").write_text("printf '%s' \"$1\"\n")
    own = load_catalog(site=site).get("restart_app")
    assert own is not None
    assert own.prepare({"app": "x"}).argv[2].endswith("printf '%s' \"$1\"\n")
    (site / "programs" / "files.sh").write_text("exit 0\n")
    assert faults(site) == ["programs/files.sh: has the name of a program of OpsConductor; choose another"]


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="nowhere: is not a folder"):
        load_catalog(site=tmp_path / "nowhere")
