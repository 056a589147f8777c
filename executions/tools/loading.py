"""Reading the catalog: every file is read and every fault found before anything is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from executions.tools.building import build_tool
from executions.tools.schema import ToolSpec
from executions.tools.tool import Tool

CATALOG_DIRECTORY = Path(__file__).parent / "catalog"
PROGRAMS_DIRECTORY = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True)
class CatalogFault:
    """One thing wrong with one file. `where` is the way to the entry, `parameters.service.type`, or empty."""

    file: str
    where: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where + ': ' if self.where else ''}{self.sentence}"


class CatalogError(Exception):
    """The tool catalog cannot be used. Correct the files named; nothing runs with half a catalog."""

    def __init__(self, faults: Sequence[CatalogFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("The tool catalog cannot be used.\n" + "\n".join(f"  {fault}" for fault in self.faults))


class Catalog:
    """The tools by name. Immutable, and safe to share between threads."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = {tool.name: tool for tool in sorted(tools, key=lambda tool: tool.name)}
        self._known = dict(self._tools)
        for tool in self._tools.values():
            self._known |= dict.fromkeys(tool.also_known_as, tool)

    def get(self, name: str) -> Tool | None:
        """The tool with this name, or another name of it; None when there is none. Upper and lower case differ."""
        return self._known.get(name)

    def names(self) -> tuple[str, ...]:
        """Every tool's own name, sorted."""
        return tuple(self._tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._known


@cache
def get_catalog() -> Catalog:
    """The catalog that comes with OpsConductor, read once per process. Raises CatalogError."""
    return load_catalog()


def load_catalog(directory: Path | None = None, *, programs: Path | None = None) -> Catalog:
    """Read every `*.yaml` of `directory`, with the programs that they name from `programs`.

    Raises CatalogError with every fault of every file.
    """
    directory = directory or CATALOG_DIRECTORY
    programs = programs or PROGRAMS_DIRECTORY
    faults: list[CatalogFault] = []
    tools: dict[str, Tool] = {}
    paths = sorted(directory.glob("*.yaml"))
    if not paths:
        faults.append(CatalogFault(str(directory), "", "there is no tool file here"))
    for path in paths:
        tool = _read_tool(path, programs, faults)
        if tool is not None:
            tools[path.name] = tool
    _refuse_shared_names(tools, faults)
    for path in sorted(set(directory.iterdir()) - set(paths)) if directory.is_dir() else ():
        faults.append(CatalogFault(path.name, "", "is not a .yaml file; only tools belong into the catalog"))
    if faults:
        raise CatalogError(faults)
    return Catalog(tools.values())


def _read_tool(path: Path, programs: Path, faults: list[CatalogFault]) -> Tool | None:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        faults.append(CatalogFault(path.name, "", f"cannot be read: {' '.join(str(error).split())}"))
        return None
    if not isinstance(document, dict):
        faults.append(CatalogFault(path.name, "", "must be a mapping of a tool's entries"))
        return None
    try:
        spec = ToolSpec.model_validate(document)
    except ValidationError as error:
        faults.extend(_shape_faults(path.name, error))
        return None
    if path.name != f"{spec.name}.yaml":
        faults.append(CatalogFault(path.name, "name", f"is {spec.name}, so the file must be called {spec.name}.yaml"))
    tool, sentences = build_tool(spec, programs)
    faults.extend(CatalogFault(path.name, "", sentence) for sentence in sentences)
    return tool


def _shape_faults(file: str, error: ValidationError) -> Iterator[CatalogFault]:
    """One fault an entry: a union reports each of its alternatives, which would be noise."""
    seen: set[tuple[object, ...]] = set()
    for detail in error.errors(include_url=False, include_input=False):
        location = detail["loc"]
        known = next((length for length in range(1, len(location) + 1) if location[:length] in seen), None)
        if known is not None:
            continue
        message = "is not an entry that a tool file has" if detail["type"] == "extra_forbidden" else detail["msg"]
        alternatives = [part for part in location if isinstance(part, str) and ("[" in part or part in _UNION_PARTS)]
        place = location[: location.index(alternatives[0])] if alternatives else location
        if place in seen:
            continue
        seen.add(place)
        yield CatalogFault(file, ".".join(str(part) for part in place), message)


_UNION_PARTS = frozenset({"str", "int", "float", "bool", "SecondsFromInput"})


def _refuse_shared_names(tools: Mapping[str, Tool], faults: list[CatalogFault]) -> None:
    owners: dict[str, str] = {}
    for file, tool in tools.items():
        for name in (tool.name, *tool.also_known_as):
            if name in owners:
                faults.append(CatalogFault(file, "also_known_as", f"{name} is already a name in {owners[name]}"))
            owners.setdefault(name, file)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a mapping that has an entry twice: of two equal entries YAML would keep the last without a word."""


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"the entry {key!r} is not text", key_node.start_mark)
        if key in mapping:
            raise yaml.constructor.ConstructorError(None, None, f"the entry {key} is there twice", key_node.start_mark)
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)
