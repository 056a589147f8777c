"""Reading the files of a catalog: every file is read, and every fault in it is told with its line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from executions.tools.building import build_tool
from executions.tools.faults import CatalogFault
from executions.tools.lines import Lines
from executions.tools.schema import ToolSpec
from executions.tools.tool import Tool

CATALOG_DIRECTORY = Path(__file__).parent / "catalog"
PROGRAMS_DIRECTORY = Path(__file__).parent / "programs"

Read = dict[Path, tuple[str, Tool]]  # by file: what faults call the file, and its tool


def read_folder(
    directory: Path, programs: Sequence[Path], faults: list[CatalogFault], *, is_site: bool = False
) -> Read:
    """Read every `*.yaml` of a folder; each fault is added to `faults`.

    is_site: faults call a file by its whole path, and other files are put up with that people keep beside tools.
    """
    paths = sorted(directory.glob("*.yaml"))
    read: Read = {}
    for path in paths:
        file = str(path) if is_site else path.name
        tool = _read_tool(path, file, programs, faults)
        if tool is not None:
            read[path] = (file, tool)
    for path in sorted(set(directory.iterdir()) - set(paths)) if directory.is_dir() else ():
        if is_site and (path.name.startswith((".", "README")) or path.name == PROGRAMS_DIRECTORY.name):
            continue
        file = str(path) if is_site else path.name
        faults.append(CatalogFault(file, "", "is not a .yaml file; only tools belong into the catalog"))
    return read


def _read_tool(path: Path, file: str, programs: Sequence[Path], faults: list[CatalogFault]) -> Tool | None:
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        said = f"cannot be read: {' '.join(str(error).split())}"
        faults.append(CatalogFault(file, "", said, mark.line + 1 if mark else 0))
        return None
    if not isinstance(document, dict):
        faults.append(CatalogFault(file, "", "must be a mapping of a tool's entries", 1))
        return None
    lines = Lines(text)
    try:
        spec = ToolSpec.model_validate(document)
    except ValidationError as error:
        faults.extend(_shape_faults(file, error, lines))
        return None
    if path.name != f"{spec.name}.yaml":
        sentence = f"is {spec.name}, so the file must be called {spec.name}.yaml"
        faults.append(CatalogFault(file, "name", sentence, lines.of(("name",))))
    tool, sentences = build_tool(spec, programs)
    faults.extend(CatalogFault(file, "", sentence, lines.spoken_of(sentence)) for sentence in sentences)
    return tool


def _shape_faults(file: str, error: ValidationError, lines: Lines) -> Iterator[CatalogFault]:
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
        yield CatalogFault(file, ".".join(str(part) for part in place), message, lines.of(place))


_UNION_PARTS = frozenset({"str", "int", "float", "bool", "SecondsFromInput"})


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
