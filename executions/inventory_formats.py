"""The formats that assets are imported from, by the names that every door has for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath

from executions import ansible_inventory
from executions.ansible_inventory.reading import PARSERS
from executions.inventory_files import FileContent, read_csv

FORMATS: dict[str, Callable[[bytes], FileContent]] = {
    "csv": read_csv,
    "ansible-ini": ansible_inventory.read_ini,
    "ansible-yaml": ansible_inventory.read_yaml,
    "ansible-json": ansible_inventory.read_json,
}
# The usual name of an inventory in INI has no ending at all.
ENDINGS = {
    ".csv": "csv", ".ini": "ansible-ini", ".cfg": "ansible-ini", "": "ansible-ini",
    ".yml": "ansible-yaml", ".yaml": "ansible-yaml", ".json": "ansible-json",
}  # fmt: skip
_PARSE = {"ansible-ini": PARSERS[".ini"], "ansible-yaml": PARSERS[".yml"], "ansible-json": PARSERS[".json"]}


class UnknownFormat(ValueError):
    """Nothing says in which format the assets are. The message is a sentence."""


def format_of(file_name: str) -> str:
    """Return the format that the ending of a file's name says. Raises UnknownFormat."""
    found = ENDINGS.get(PurePath(file_name).suffix.lower())
    if found is None:
        raise UnknownFormat(
            f"A file named *{', *'.join(ending for ending in ENDINGS if ending)} is needed, or its format must be said:"
            f" {', '.join(FORMATS)}; not {PurePath(file_name).name!r}."
        )
    return found


def read(content: bytes, format_name: str) -> FileContent:
    """Read assets that came as one text. Raises UnknownFormat."""
    reader = FORMATS.get(format_name)
    if reader is None:
        raise UnknownFormat(f"There is no format {format_name!r}; there are {', '.join(FORMATS)}.")
    return reader(content)


def read_path(path: Path, format_name: str | None = None) -> FileContent:
    """Read assets from a file, of Ansible's also from a folder, with its group_vars and host_vars.

    Raises UnknownFormat, OSError.
    """
    if path.is_dir():
        return ansible_inventory.read_path(path, _PARSE.get(format_name or ""))
    name = format_name or format_of(path.name)
    if name in _PARSE:
        return ansible_inventory.read_path(path, _PARSE[name])
    return read(path.read_bytes(), name)
