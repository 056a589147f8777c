"""Every command that a page shows exists, with the options shown, and explains itself."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from io import StringIO

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandParser

from tests.docs.pages import NAMES, ROOT, blocks, rows, text_of

OUR_APPS = {"opsconductor", "executions", "queueing", "safety", "monitoring"}
OURS = sorted(name for name, app in get_commands().items() if app in OUR_APPS)
SHOWN = re.compile(r"manage\.py ([a-z_]+)((?:[^\n`|<>#\\]|\\\n)*)")
TARGETS = re.compile(r"(?:^|`)make ([a-z]+)\b", re.MULTILINE)


@cache
def parser_of(name: str) -> CommandParser:
    return load_command_class(get_commands()[name], name).create_parser("manage.py", name)


@pytest.mark.parametrize("page", NAMES)
def test_every_command_shown_exists_with_its_options(page: str) -> None:
    wrong = []
    for name, rest in SHOWN.findall(text_of(page)):
        if name not in get_commands():
            wrong.append(name)
            continue
        known = {option for action in parser_of(name)._actions for option in action.option_strings}
        given = rest.split(" -- ")[0]  # what follows is for another program
        wrong += [f"{name} {word}" for word in re.findall(r"(?<=\s)--[a-z-]+", given) if word not in known]
    assert wrong == []


@pytest.mark.parametrize("page", NAMES)
def test_every_make_target_shown_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(TARGETS.findall(text_of(page))) <= targets


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_explains_itself_with_an_example(name: str) -> None:
    told = StringIO()
    parser_of(name).print_help(told)
    text = told.getvalue()
    assert "xample" in text
    shown = re.search(rf"manage\.py {name}\b", text.split("xample", 1)[1])
    assert shown or name == "demo", text


def test_the_reference_lists_every_command_and_option_of_ours() -> None:
    common = {option for action in parser_of("showmigrations")._actions for option in action.option_strings}
    table = rows(text_of("docs/reference/commands.md"), "command | does | exit status")
    assert sorted(row[0].strip("`").split()[0] for row in table) == OURS
    for row in table:
        name = row[0].strip("`").split()[0]
        own = {o for a in parser_of(name)._actions for o in a.option_strings if o.startswith("--")} - common
        assert own == set(re.findall(r"--[a-z-]+", row[1])), name


@pytest.mark.parametrize("page", NAMES)
def test_what_is_shown_for_the_shell_can_be_read_by_one(page: str) -> None:
    for block in blocks(text_of(page), ""):
        if "manage.py" in block or "curl " in block:
            read = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, timeout=10)
            assert read.returncode == 0, read.stderr
