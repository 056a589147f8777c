"""The INI form: `[group]`, `[group:children]`, `[group:vars]`, hosts with `name=value` behind them."""

from __future__ import annotations

import ast
import re
import shlex

from executions.ansible_inventory.patterns import NoPattern, hosts_of
from executions.ansible_inventory.tree import ALL, UNGROUPED, Tree, Value, Variables

_SECTION = re.compile(r"\[([^:\]]+)(?::(vars|children))?\]\s*(?:[#;].*)?")
_COMMENT = re.compile(r"\s[#;]")
VAULT = "$ANSIBLE_VAULT;"
_LONGEST_LITERAL = 10_000  # parsing costs more than the text is worth


def parse_ini(text: str, tree: Tree) -> None:
    """Put what the text says into the tree. Raises TooManyHosts."""
    group, kind = UNGROUPED, "hosts"
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and (section := _SECTION.fullmatch(line)):
            group, kind = section[1].strip(), section[2] or "hosts"
            tree.group(group, number)
        elif kind == "vars":
            _variable(line, number, tree, group)
        elif kind == "children":
            child = _COMMENT.split(line, maxsplit=1)[0].strip()
            tree.group(group, number).children[child] = None
            tree.group(child, number)
        else:
            _hosts(line, number, tree, group)


def _variable(line: str, number: int, tree: Tree, group: str) -> None:
    name, equals, value = line.partition("=")
    if not equals or not name.strip():
        tree.refuse(number, "A line under :vars must be name=value.")
        return
    tree.group(group, number).variables[name.strip()] = value_of(value.strip(), number, tree.source)


def _hosts(line: str, number: int, tree: Tree, group: str) -> None:
    try:
        first, *rest = shlex.split(line, comments=True)
    except ValueError as error:
        tree.refuse(number, f"The line cannot be taken apart: {error}.")
        return
    variables: Variables = {}
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals or not name:
            # Not repeated: it may be a part of a password with a space in it.
            tree.refuse(number, "After the host there is a word that is not name=value. Quote values with spaces.")
            return
        variables[name] = value_of(value, number, tree.source)
    try:
        names, port = hosts_of(first)
    except NoPattern as error:
        tree.refuse(number, str(error))
        return
    if port is not None:
        variables.setdefault("ansible_port", value_of(port, number, tree.source))
    for name in names:
        tree.host(name, number, group if group != ALL else UNGROUPED).variables.update(variables)


def value_of(text: str, line: int, source: str) -> Value:
    """As Ansible has it: a literal of Python where it is one (`['a', 'b']`, `"quoted"`, `22  # why`), else text."""
    try:
        meant = ast.literal_eval(text) if len(text) <= _LONGEST_LITERAL else text
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        meant = text
    if isinstance(meant, (list, tuple)):
        plain = all(isinstance(item, (str, int, float)) for item in meant)
        return Value(tuple(map(text_of, meant)) if plain else None, line, source)
    if isinstance(meant, (dict, set)):
        return Value(None, line, source)
    told = text if isinstance(meant, float) else text_of(meant)
    return Value(() if meant is None else (told,), line, source, is_vault=text.startswith(VAULT))


def text_of(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
