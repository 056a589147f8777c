"""Reading the catalog: every file is read and every fault found before anything is refused."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from django.conf import settings

from executions.tools.faults import CatalogError, CatalogFault
from executions.tools.files import CATALOG_DIRECTORY, PROGRAMS_DIRECTORY, Read, read_folder
from executions.tools.lines import Lines
from executions.tools.tool import Tool

log = logging.getLogger(__name__)


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
    """The catalog of this installation: what comes with OpsConductor and the tools of TOOLS_DIR, read once per process.

    Raises CatalogError.
    """
    catalog = load_catalog(site=settings.TOOLS_DIR)
    named = {tool.name: f" (in place of {tool.replaces})" if tool.replaces else "" for tool in catalog if tool.source}
    own = [name + said for name, said in named.items()]
    if own:
        log.info("Tools of %s: %s.", settings.TOOLS_DIR, ", ".join(own))
    return catalog


def load_catalog(directory: Path | None = None, *, programs: Path | None = None, site: Path | None = None) -> Catalog:
    """Read every `*.yaml` of `directory`, with the programs that they name from `programs`, and then those of `site`.

    Raises CatalogError with every fault of every file.
    """
    directory = directory or CATALOG_DIRECTORY
    programs = programs or PROGRAMS_DIRECTORY
    faults: list[CatalogFault] = []
    tools = read_folder(directory, [programs], faults)
    _refuse_shared_names(tools, faults)
    for path, (file, tool) in tools.items():
        if tool.replaces:
            faults.append(_fault(path, file, "replaces", "is for the tools of a site's own folder"))
    if not tools and not faults:
        faults.append(CatalogFault(str(directory), "", "there is no tool file here"))
    merged = [tool for _, tool in tools.values()]
    if site is not None:
        merged = _add_site_tools(merged, _read_site(site, programs, faults), faults)
    if faults:
        raise CatalogError(faults)
    return Catalog(merged)


def _read_site(site: Path, programs: Path, faults: list[CatalogFault]) -> Read:
    """Read a site's own tools. Its programs are in the folder `programs` beside them, or come with OpsConductor."""
    if not site.is_dir():
        faults.append(CatalogFault(str(site), "", "is not a folder"))
        return {}
    own = site / PROGRAMS_DIRECTORY.name
    for path in sorted({*site.glob("*.yaml"), *own.glob("*"), *site.glob(own.name), site}):
        if path.stat().st_mode & stat.S_IWOTH:
            faults.append(CatalogFault(str(path), "", "can be written by everybody, who could then run anything"))
    for path in sorted(own.glob("*.sh")):
        if (programs / path.name).exists():
            faults.append(CatalogFault(str(path), "", "has the name of a program of OpsConductor; choose another"))
    read = read_folder(site, [own, programs], faults, is_site=True)
    return {path: (file, replace(tool, source=file)) for path, (file, tool) in read.items()}


def _refuse_shared_names(tools: Read, faults: list[CatalogFault]) -> None:
    owners: dict[str, str] = {}
    for path, (file, tool) in tools.items():
        for name in (tool.name, *tool.also_known_as):
            if name in owners:
                faults.append(_fault(path, file, "also_known_as", f"{name} is already a name in {owners[name]}"))
            owners.setdefault(name, file)


def _add_site_tools(tools: list[Tool], site: Read, faults: list[CatalogFault]) -> list[Tool]:
    """Put a site's tools beside the others: none takes the place of another, or its name, without saying so.

    A tool that stands in the place of another goes by all of its names, too: plans that use them find one tool.
    """
    by_name = {tool.name: tool for tool in tools}
    replaced: dict[str, str] = {}
    own: list[tuple[Path, str, Tool]] = []
    for path, (file, tool) in site.items():
        if tool.replaces and tool.replaces not in by_name:
            faults.append(_fault(path, file, "replaces", f"there is no tool {tool.replaces} that it could replace"))
        elif tool.replaces in replaced:
            sentence = f"{tool.replaces} is already replaced by {replaced[tool.replaces]}"
            faults.append(_fault(path, file, "replaces", sentence))
        elif tool.replaces:
            replaced[tool.replaces] = file
            former = by_name[tool.replaces]
            names = dict.fromkeys((*tool.also_known_as, former.name, *former.also_known_as))
            tool = replace(tool, also_known_as=tuple(name for name in names if name != tool.name))
        own.append((path, file, tool))
    left = [tool for tool in tools if tool.name not in replaced]
    owners = {name: tool for tool in left for name in (tool.name, *tool.also_known_as)}
    for path, file, tool in own:
        for name in (tool.name, *tool.also_known_as):
            if name in owners:
                entry = "name" if name == tool.name else "also_known_as"
                faults.append(_fault(path, file, entry, _taken(name, owners[name])))
            owners.setdefault(name, tool)
    return [*left, *(tool for _, _, tool in own)]


def _fault(path: Path, file: str, entry: str, sentence: str) -> CatalogFault:
    return CatalogFault(file, entry, sentence, Lines(path.read_text(encoding="utf-8")).of((entry,)))


def _taken(name: str, owner: Tool) -> str:
    if owner.source:
        return f"{name} is already a name of the tool in {owner.source}"
    what = f"{name} is a tool of OpsConductor" if name == owner.name else f"{name} is another name of {owner.name}"
    return f"{what}; choose another name, or write `replaces: {owner.name}` if this is to stand in its place"
