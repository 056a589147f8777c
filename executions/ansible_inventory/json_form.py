"""The JSON form: what `ansible-inventory --list` and dynamic inventories print."""

from __future__ import annotations

import json
from collections.abc import Mapping

from executions.ansible_inventory.ini import text_of
from executions.ansible_inventory.tree import ALL, Tree, Value, Variables

_VAULT_KEY = "__ansible_vault"
_META = "_meta"
_PARTS = frozenset({"hosts", "vars", "children"})


def parse_json(text: str, tree: Tree) -> None:
    """Put what the text says into the tree. Raises TooManyHosts. There are no lines: problems name hosts and groups."""
    try:
        document = json.loads(text, parse_constant=lambda word: word)
    except json.JSONDecodeError as error:
        tree.refuse(error.lineno, f"This is not JSON: {error.msg}.")
        return
    except (RecursionError, ValueError):
        tree.refuse(0, "This is not JSON that can be read: it is nested too deeply, or a number is too long.")
        return
    if not isinstance(document, dict):
        tree.refuse(0, "The file must be one object: groups by their names, as `ansible-inventory --list` prints it.")
        return
    for name, group in document.items():
        if name != _META:
            _group(name, group, tree)
    meta = document.get(_META)
    host_variables = meta.get("hostvars") if isinstance(meta, dict) else None
    if host_variables is not None and not isinstance(host_variables, dict):
        tree.refuse(0, "_meta.hostvars must be an object.")
        return
    for name, variables in (host_variables or {}).items():
        host = tree.hosts.get(name) or tree.host(name, 0, ALL)
        host.variables |= _variables(variables, tree, f"_meta.hostvars of {name!r}")


def _group(name: str, given: object, tree: Tree) -> None:
    group = tree.group(name, 0)
    if isinstance(given, list):
        given = {"hosts": given}
    if not isinstance(given, dict):
        tree.refuse(0, f"The group {name!r} must be an object, or a list of hosts.")
        return
    for part in sorted(given.keys() - _PARTS):
        tree.refuse(0, f"The group {name!r} has {part!r}; a group has hosts, vars and children.")
    for host in _names(given.get("hosts"), f"hosts of {name!r}", tree):
        tree.host(host, 0, name)
    for child in _names(given.get("children"), f"children of {name!r}", tree):
        tree.group(child, 0)
        group.children[child] = None
    group.variables |= _variables(given.get("vars") or {}, tree, f"vars of {name!r}")


def _names(given: object, what: str, tree: Tree) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(name, str) and name for name in given):
        tree.refuse(0, f"{what} must be a list of names.")
        return []
    return given


def _variables(given: object, tree: Tree, what: str) -> Variables:
    if not isinstance(given, dict):
        tree.refuse(0, f"{what} must be an object.")
        return {}
    return {name: _value(value, tree.source) for name, value in given.items()}


def _value(value: object, source: str) -> Value:
    if isinstance(value, Mapping):
        return Value(None, 0, source, is_vault=_VAULT_KEY in value)
    if isinstance(value, list):
        plain = all(not isinstance(item, (list, dict)) for item in value)
        return Value(tuple(text_of(item) for item in value if item is not None) if plain else None, 0, source)
    return Value(() if value is None else (text_of(value),), 0, source)
