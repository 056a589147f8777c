"""A catalog with faults: nothing is loaded, and everything wrong is told at once, by file."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from executions.tools import CatalogError, Tool, load_catalog

GOOD: dict[str, Any] = {
    "name": "greet",
    "summary": "Greets somebody.",
    "connector": "command",
    "needs_target": True,
    "action_class": "read",
    "idempotent": True,
    "irreversible": False,
    "production_safe": True,
    "default_timeout_seconds": 10,
    "estimated_duration": 1,
    "max_output_bytes": 1000,
    "parameters": {
        "whom": {"type": "string", "description": "Whom to greet.", "required": True},
        "times": {"type": "integer", "description": "How often.", "min": 1, "max": 9, "default": 1},
    },
    "argv": ["greet", "--times={times}", "--", "{whom}"],
}
ACTIONS: dict[str, Any] = {
    **{entry: value for entry, value in GOOD.items() if entry not in ("argv", "parameters")},
    "parameters": {
        "action": {"type": "string", "description": "What to do.", "required": True, "enum": ["wave", "bow"]},
        "depth": {"type": "integer", "description": "How deep.", "min": 0, "max": 90},
    },
    "by_action": {"by": "action", "cases": {"wave": {"argv": ["wave"]}, "bow": {"argv": ["bow", "{depth}"]}}},
}


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    folder = tmp_path / "catalog"
    folder.mkdir()

    def write_tool(document: object, *, file: str = "greet.yaml") -> Path:
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        (folder / file).write_text(text)
        return folder

    return write_tool


def changed(base: dict[str, Any], **entries: Any) -> dict[str, Any]:
    """`base` with entries replaced; `parameters__whom__type` goes down the path; ... removes."""
    document = copy.deepcopy(base)
    for path, value in entries.items():
        *above, last = path.split("__")
        place = document
        for part in above:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return document


def sentences(folder: Path) -> list[str]:
    with pytest.raises(CatalogError) as refused:
        load_catalog(folder)
    assert str(refused.value).startswith("The tool catalog cannot be used.\n")
    return [str(fault) for fault in refused.value.faults]


def test_adding_a_tool_is_adding_a_file(write: Write) -> None:
    write(GOOD)
    catalog = load_catalog(write(changed(ACTIONS, name="bow"), file="bow.yaml"))
    assert catalog.names() == ("bow", "greet")
    greet: Tool | None = catalog.get("greet")
    assert greet is not None
    assert greet.prepare({"whom": "-x"}).argv == ("greet", "--times=1", "--", "-x")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (changed(GOOD, summary=...), ": summary: Field required"),
        (changed(GOOD, colour="red"), ": colour: is not an entry that a tool file has"),
        (changed(GOOD, parameters__whom__colour="red"), "parameters.whom.colour: is not an entry that a tool file has"),
        (changed(GOOD, parameters__whom__type="text"), "parameters.whom.type: Input should be 'string', "),
        (changed(GOOD, parameters__whom__description=...), "parameters.whom.description: Field required"),
        (changed(GOOD, idempotent="yes"), "idempotent: Input should be a valid boolean"),
        (changed(GOOD, action_class="write"), "action_class: Input should be 'read', 'modify' or 'deploy'"),
        (changed(GOOD, check_may_change_with=["who"]), "check_may_change_with names who, which is no parameter"),
        (changed(GOOD, connector="telnet"), "there is no connector telnet; there are: "),
        (changed(GOOD, default_timeout_seconds=-1), "default_timeout_seconds: Input should be "),
        (changed(GOOD, default_timeout_seconds="10"), "default_timeout_seconds: Input should be "),
        (changed(GOOD, max_output_bytes=60_000_000), "max_output_bytes: Input should be less than"),
        (changed(GOOD, name="bow"), "name: is bow, so the file must be called bow.yaml"),
        (changed(GOOD, name="a b"), "name: String should match pattern"),
        (changed(GOOD, argv="greet {whom}"), "argv: Input should be a valid list"),
        (changed(GOOD, argv=["greet", "--times={times}", "--", "{who}"]), "who is used but is not one of the"),
        (changed(GOOD, argv=["greet", "{whom}", "--times={times}"]), "whom may begin with a dash and stands before"),
        (changed(GOOD, argv=["greet", "--", "{whom}"]), "the parameter times is not used for anything"),
        (changed(GOOD, argv=["greet", "{times}", "--", "{whom"]), "'{whom' has a brace that belongs to no parameter"),
        (changed(GOOD, argv=["greet", "{times}", "--", "a{whom*}"]), "'a{whom*}' must be the list alone"),
        (changed(GOOD, argv=["greet", "{times}", "--", {"if": "whom"}]), "exactly the entries if and then"),
        (changed(GOOD, argv=[]), "argv is empty"),
        (changed(GOOD, argv=...), "there must be an argv or a program, and not both"),
        (changed(GOOD, program="a.sh"), "there must be an argv or a program, and not both"),
        (changed(GOOD, argv=..., program="../a.sh", arguments=["{whom}", "{times}"]), "without a folder"),
        (changed(GOOD, argv=..., program="no.sh", arguments=["{whom}", "{times}"]), "a program cannot be read"),
        (changed(GOOD, arguments=["{whom}"]), "arguments belong to a program"),
        (changed(GOOD, needs_target=False), "a tool that runs a command needs a target"),
        (changed(GOOD, connector="none"), "runs in the engine and has no target"),
        (changed(GOOD, connector="inventory", needs_target=False), "has no argv and no program"),
        (changed(GOOD, connector="http", argv=...), "the entry http belongs to the connector http"),
        (changed(GOOD, http={"method": "GET", "url": "whom"}), "the entry http belongs to the connector http"),
        (changed(GOOD, parameters__times__default=10), "the default of parameter times is out of range"),
        (changed(GOOD, parameters__times__min=10), "parameter times has a min above its max"),
        (changed(GOOD, parameters__times__required=True), "parameter times is required and has a default"),
        (changed(GOOD, parameters__times__pattern="a"), "of type integer, which has no pattern"),
        (changed(GOOD, parameters__whom__min=1), "of type string, which has no min"),
        (changed(GOOD, parameters__whom__wrap_single=True), "which has no wrap_single"),
        (changed(GOOD, parameters__whom__min_length=9, parameters__whom__max_length=1), "min_length above its"),
        (changed(GOOD, parameters__whom__pattern="("), "pattern that is no regular expression"),
        (changed(GOOD, parameters__whom__pattern="a"), "needs a pattern_says beside its pattern"),
        (changed(GOOD, parameters__whom__enum=["a", "a"]), "needs an enum of different words"),
        (changed(GOOD, parameters__whom__enum=["a"], parameters__whom__synonyms={"b": "c"}), "synonym b that does not"),
        (changed(GOOD, parameters__whom__aliases=["times"]), "times is the name of two parameters"),
        (changed(GOOD, instead={"whom": "Use this."}), "instead speaks of whom, which is accepted"),
        (changed(GOOD, estimated_duration={"parameter": "whom"}), "a time follows whom, which must be a number"),
        (changed(GOOD, also_known_as=["greet"]), "also_known_as: greet is already a name in greet.yaml"),
        (changed(ACTIONS, by_action__cases__nod={"argv": ["nod"]}), "cases of by_action differ in: nod"),
        (changed(ACTIONS, by_action__cases__bow=...), "cases of by_action differ in: bow"),
        (changed(ACTIONS, by_action__cases__wave={}), "case wave: there must be an argv or a program"),
        (changed(ACTIONS, by_action__cases__wave__requires=["hat"]), "hat is used but is not one of the parameters"),
        (changed(ACTIONS, parameters__action__required=False), "so it must be required or have a default"),
        ("name: greet\nname: greet\n", "the entry name is there twice"),
        ("name: [", "cannot be read"),
        ("- greet\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("5: x\n", "the entry 5 is not text"),
        ("a: !!python/object/apply:os.system [id]\n", "cannot be read"),
    ],
)
def test_a_fault_is_told_with_its_file_and_place(write: Write, document: object, expected: str) -> None:
    told = sentences(write(document))
    assert any(expected in sentence for sentence in told), told
    assert all(re.match(r"greet\.yaml:[1-9][0-9]*: ", sentence) for sentence in told)


def test_all_faults_of_all_files_are_told_at_once(write: Write) -> None:
    write(changed(GOOD, colour="red", idempotent="yes"))
    write(changed(GOOD, name="bow", argv=["greet", "{who}"]), file="bow.yaml")
    folder = write("name: [", file="nod.yaml")
    (folder / "notes.txt").write_text("x")
    told = sentences(folder)
    assert len(told) == 7
    for start in (
        "greet.yaml:N: colour: ",
        "greet.yaml:N: idempotent: ",
        "bow.yaml:N: who is used",
        "bow.yaml:N: the parameter times is not used",
        "bow.yaml:N: the parameter whom is not used",
        "nod.yaml:N: cannot be read",
        "notes.txt: ",
    ):
        assert len([one for one in told if re.sub(r":\d+: ", ":N: ", one, count=1).startswith(start)]) == 1, told


def test_one_wrong_entry_is_one_fault(write: Write) -> None:
    assert len(sentences(write(changed(GOOD, argv=["greet", "{times}", "--", "{whom}", 5])))) == 1
    assert len(sentences(write(changed(GOOD, parameters__times__default=[[]])))) == 1


def test_two_files_cannot_share_a_name(write: Write) -> None:
    write(GOOD)
    folder = write(changed(ACTIONS, name="bow", also_known_as=["greet"]), file="bow.yaml")
    assert sentences(folder) == ["greet.yaml:1: also_known_as: greet is already a name in bow.yaml"]


def test_a_folder_without_tools_is_a_fault(tmp_path: Path) -> None:
    assert sentences(tmp_path) == [f"{tmp_path}: there is no tool file here"]
    assert sentences(tmp_path / "missing") == [f"{tmp_path / 'missing'}: there is no tool file here"]


def test_groups_and_flags_are_left_out_as_a_whole(write: Write) -> None:
    document = changed(GOOD, parameters__loud={"type": "boolean", "description": "Loudly."})
    document["argv"] = ["greet", ["--for", "{whom}"], {"if": "loud", "then": ["-v", "-v"]}, "{times}"]
    document["parameters"]["whom"] = {
        "type": "string",
        "description": "Whom.",
        "pattern": "[a-z]+",
        "pattern_says": "Write letters.",
    }
    greet = load_catalog(write(document)).get("greet")
    assert greet is not None
    assert greet.prepare({}).argv == ("greet", "1")
    assert greet.prepare({"loud": "true", "whom": "bob"}).argv == ("greet", "--for", "bob", "-v", "-v", "1")
    assert greet.prepare({"loud": False}).argv == ("greet", "1")


def test_two_values_can_share_an_argument(write: Write) -> None:
    greet = load_catalog(write(changed(GOOD, argv=["greet", "--", "{whom}:{times}"]))).get("greet")
    assert greet is not None
    assert greet.prepare({"whom": "{times}"}).argv == ("greet", "--", "{times}:1")
