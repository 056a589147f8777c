"""Reading an inventory: one text, or a file or folder with its group_vars and host_vars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from executions.ansible_inventory.ini import VAULT, parse_ini
from executions.ansible_inventory.json_form import parse_json
from executions.ansible_inventory.tree import ALL, MOST_HOSTS, TooManyHosts, Tree, Variables
from executions.ansible_inventory.variables import rows_of
from executions.ansible_inventory.yaml_form import parse_variables, parse_yaml
from executions.inventory_files import FileContent, decoded

Parse = Callable[[str, Tree], None]

PARSERS: dict[str, Parse] = {
    ".ini": parse_ini, ".cfg": parse_ini, "": parse_ini, ".yml": parse_yaml, ".yaml": parse_yaml, ".json": parse_json,
}  # fmt: skip
_OF_VARIABLES = frozenset({"", ".yml", ".yaml", ".json"})


def read_ini(content: bytes) -> FileContent:
    """Read the INI form."""
    return _read(content, parse_ini)


def read_yaml(content: bytes) -> FileContent:
    """Read the YAML form."""
    return _read(content, parse_yaml)


def read_json(content: bytes) -> FileContent:
    """Read what `ansible-inventory --list` prints."""
    return _read(content, parse_json)


def read_path(path: Path, parse: Parse | None = None) -> FileContent:
    """Read an inventory file, or every one in a folder, with the group_vars and host_vars beside it.

    `parse` None: each by the ending of its name. Raises OSError.
    """
    tree = Tree()
    folder = path if path.is_dir() else path.parent
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if _is_inventory(file) or not path.is_dir():
                _parse(file.read_bytes(), parse or PARSERS.get(file.suffix.lower(), parse_ini), tree, file.name)
        tree.group(ALL, 0)
        for name, group in tree.groups.items():
            group.beside = _variables(folder / "group_vars", name, tree)
        for name, host in tree.hosts.items():
            host.variables |= _variables(folder / "host_vars", name, tree)
    except TooManyHosts:
        tree = _too_many()
    return rows_of(tree)


def _read(content: bytes, parse: Parse) -> FileContent:
    tree = Tree()
    try:
        _parse(content, parse, tree, "")
    except TooManyHosts:
        tree = _too_many()
    return rows_of(tree)


def _too_many() -> Tree:
    tree = Tree()
    tree.refuse(0, f"It names more than {MOST_HOSTS:,} hosts. Is a range of it wrong?")
    return tree


def _parse(content: bytes, parse: Parse, tree: Tree, source: str) -> None:
    tree.source = source
    if (text := _text(content, tree)) is not None:
        parse(text, tree)


def _text(content: bytes, tree: Tree) -> str | None:
    text = decoded(content, tree.refuse)
    if text is None:
        return None
    if text.startswith(VAULT):
        tree.refuse(
            1,
            "The whole file is encrypted with ansible-vault. Keep its secrets with `manage.py set_secret PATH`, and"
            " give an inventory that names their paths in opsconductor_credential.",
        )
        return None
    return text


def _is_inventory(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in PARSERS and not file.name.startswith(".")


def _variables(folder: Path, name: str, tree: Tree) -> Variables:
    """Return what the files of one group or host say, in the order of their names."""
    found: Variables = {}
    if not folder.is_dir() or "/" in name or "\0" in name or name in (".", ".."):
        return found
    for file in _files(folder, name):
        tree.source = f"{folder.name}/{file.relative_to(folder)}"
        if (text := _text(file.read_bytes(), tree)) is not None:
            found |= parse_variables(text, tree)
    return found


def _files(folder: Path, name: str) -> Iterator[Path]:
    for suffix in sorted(_OF_VARIABLES):
        place = folder / f"{name}{suffix}"
        if place.is_dir():
            yield from (file for file in sorted(place.iterdir()) if file.is_file() and file.suffix in _OF_VARIABLES)
        elif place.is_file():
            yield place
