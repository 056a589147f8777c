"""What tools do on Windows: constant programs that get every value as a value."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_powershell
import yaml
from hypothesis import given
from hypothesis import strategies as st

from executions.connectors import winrm as agent
from executions.plans.templates import TemplateContext, render
from executions.tools import CatalogError, InvalidInput, Tool, get_catalog, load_catalog
from executions.tools.files import CATALOG_DIRECTORY, PROGRAMS_DIRECTORY
from tests.executions.tools.test_tool_injection import EVIL, inputs_for

Find = Callable[[str], Tool]
AGENT = Path(agent.__file__).with_name("agent.ps1")
PROGRAMS = sorted(PROGRAMS_DIRECTORY.glob("*.ps1"))
FORMS = [
    (tool.name, action)
    for tool in get_catalog()
    for action, behaviour in tool.behaviours.items()
    if behaviour.windows is not None and behaviour.windows.program is not None
]


def test_there_are_programs_and_forms_to_look_at() -> None:
    assert len(PROGRAMS) == 8
    assert len(FORMS) > 25


def parsed(program: str) -> list[str]:
    """What a parser of PowerShell cannot make anything of."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    left, found = [parser.parse(program.encode()).root_node], []
    while left:
        node = left.pop()
        if node.is_error or node.is_missing:
            found.append(f"line {node.start_point.row + 1}: {(node.text or b'').decode()[:80]!r} {node.type}")
        left += node.children
    return found


@pytest.mark.parametrize(
    "program",
    [AGENT.read_text(), *sorted({one.windows.program for tool in get_catalog() for one in tool.behaviours.values()
                                 if one.windows is not None and one.windows.program is not None})],
    ids=lambda text: text.partition("\n")[0][2:40],
)  # fmt: skip
def test_every_program_is_powershell_as_it_is_sent(program: str) -> None:
    """There is no Windows here to run it: what can be shown is that it parses, and takes what it is given first."""
    assert parsed(program) == []
    assert re.sub(r"(?m)^#.*\n", "", program).startswith("param([")
    assert program.count("\nparam(") == 1
    assert parsed(program[: program.rindex("}")]), "what is broken is told"


@pytest.mark.parametrize(("name", "action"), FORMS)
def test_every_value_reaches_the_program_in_the_table_and_nowhere_else(tool: Find, name: str, action: str) -> None:
    found = tool(name)
    behaviour = found.behaviours[action]
    form = behaviour.windows
    assert form is not None
    texts = [one for one in sorted(behaviour.accepted) if found.parameters[one].type in ("string", "path", "host")]
    for parameter in texts:
        if found.parameters[parameter].enum or parameter in (*form.without, behaviour.stdin):
            continue
        for value in (*EVIL, *(f"C:\\folder\\{value}" for value in EVIL)):
            try:
                script = found.prepare(inputs_for(found, action, parameter, value)).script
            except InvalidInput:
                continue  # which is as good
            assert script is not None
            assert script.text == form.program
            assert (script.inputs or {})[parameter] == value


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_no_program_makes_code_of_what_it_is_given(program: Path) -> None:
    text = program.read_text(encoding="ascii")
    code = re.sub(r"(?m)^\s*#.*$", "", text)
    assert text.split("\nparam(")[0].startswith("#"), "what it is for, then what it takes"
    for word in (
        "Invoke-Expression",
        "iex",
        "ScriptBlock",
        "Invoke-Command",
        "Add-Type",
        "cmd",
        "-Path",
        "Start-Process",
    ):
        assert not re.search(rf"(?i)(?<![\w-]){re.escape(word)}(?![\w-])", code), word
    assert not re.search(r"(?m)(^|[;{|(])\s*[&.]\s", code), "nothing is called by a name that is not written there"


def test_content_is_sent_as_it_is_and_not_in_the_table(tool: Find) -> None:
    invocation = tool("copy").prepare({"path": "C:\\a.txt", "content": "grün\n"})
    assert invocation.stdin == "grün\n".encode()
    assert invocation.script is not None
    assert invocation.script.inputs == {"path": "C:\\a.txt"}


def test_a_script_is_the_script_and_nothing_is_added_to_it(tool: Find) -> None:
    invocation = tool("powershell").prepare({"script": "exit 3", "stdin": "x", "environment": {"A": "b"}})
    assert invocation.script is not None
    assert (invocation.script.text, invocation.script.inputs) == ("exit 3", None)
    assert (invocation.stdin, dict(invocation.environment), invocation.argv) == (b"x", {"A": "b"}, ())


@given(st.text(st.characters(exclude_categories=["Cs"])))
@pytest.mark.parametrize("name", ["powershell", "Invoke-Command"])
def test_what_a_template_brings_into_a_script_is_data_wherever_it_is_put(name: str, text: str) -> None:
    found = get_catalog().get(name)
    assert found is not None
    context = TemplateContext(steps={"a": {"stdout": text}})
    unquoted = str(render("x{{ steps.a.stdout }}", context))[1:]
    for script in ("echo {{ steps.a.stdout }}", '"in {{ steps.a.stdout }} quotes"', "'{{ steps.a.stdout }}'"):
        rendered = str(render(script, context, quote=found.quote_for("script")))
        before, _, after = script.partition("{{ steps.a.stdout }}")
        expression = rendered[len(before) : len(rendered) - len(after)]
        shown = re.fullmatch(
            r"\(\[Text\.Encoding\]::UTF8\.GetString\(\[Convert\]::FromBase64String\('([A-Za-z0-9+/=]*)'\)\)\)",
            expression,
        )
        assert shown is not None, expression
        assert base64.b64decode(shown[1]).decode() == unquoted


def test_in_check_mode_only_what_reads_has_a_script(tool: Find) -> None:
    systemctl = tool("systemctl")
    reading = systemctl.prepare({"action": "status", "service": "W32Time"}, check=True)
    changing = systemctl.prepare({"action": "stop", "service": "W32Time"}, check=True)
    assert reading.script is not None
    assert changing.script is None


def site(tmp_path: Path, **changes: Any) -> Path:
    document = yaml.safe_load((CATALOG_DIRECTORY / "ps.yaml").read_text())
    directory = tmp_path / "catalog"
    directory.mkdir()
    (directory / "ps.yaml").write_text(yaml.safe_dump({**document, **changes}))
    return directory


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"windows": {"program": "processes.sh"}}, "must be the name of a .ps1 file"),
        ({"windows": {"program": "../processes.ps1"}}, "must be the name of a .ps1 file"),
        ({"windows": {"program": "nowhere.ps1"}}, "a program for Windows cannot be read"),
        ({"windows": {"program": "processes.ps1", "without": ["mode"]}}, "mode is used but is not one of"),
        ({"windows": {"script": "x"}}, "windows"),
        ({"script": "pattern"}, "the entry script belongs to the connector powershell"),
        ({"connector": "powershell"}, "has no argv and no program"),
    ],
)
def test_a_bad_form_is_a_fault_of_the_file(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CatalogError) as refused:
        load_catalog(site(tmp_path, **changes))
    assert words in str(refused.value)
