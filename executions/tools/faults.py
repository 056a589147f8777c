"""What is wrong with the files of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opsconductor.environment import ConfigError


@dataclass(frozen=True, slots=True)
class CatalogFault:
    """One thing wrong with one file. `where` is the way to the entry, `parameters.service.type`, or empty; `line` is
    that of the entry, 0 where there is none to point at."""

    file: str
    where: str
    sentence: str
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.where + ': ' if self.where else ''}{self.sentence}"


class CatalogError(ConfigError):
    """The tool catalog cannot be used. Correct the files named; nothing runs with half a catalog."""

    def __init__(self, faults: Sequence[CatalogFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("The tool catalog cannot be used.\n" + "\n".join(f"  {fault}" for fault in self.faults))
