"""What a tool does on Windows: its argv as it stands, or a PowerShell program that gets the inputs as a table of texts.

No value becomes part of a script: the program is constant, and its first argument is a table of its inputs, by name.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executions.connectors.base import Script
from executions.tools.command_lines import as_text
from executions.tools.program_files import joined, misnamed, parts_of
from executions.tools.schema import WindowsSpec


@dataclass(frozen=True, slots=True)
class WindowsForm:
    """`program`: None where argv is the same there. `without`: inputs that mean nothing there."""

    program: str | None = field(repr=False)
    without: frozenset[str] = frozenset()

    def script(self, given: Mapping[str, Any], *, but: Collection[str | None]) -> Script | None:
        """Return the program with the inputs that were given, as texts, `but` those that reach it otherwise."""
        if self.program is None:
            return None
        return Script(self.program, {name: as_text(value) for name, value in given.items() if name not in but})


def build_form(spec: WindowsSpec | bool | None, folders: Sequence[Path]) -> WindowsForm | None:
    """Raises ValueError whose args are sentences."""
    if spec is None or spec is False:
        return None
    if spec is True:
        return WindowsForm(None)
    assert isinstance(spec, WindowsSpec)
    parts = parts_of(spec.program) or []
    if faults := misnamed(parts, "ps1"):
        raise ValueError(*faults)
    try:
        return WindowsForm(joined(parts, folders), frozenset(spec.without))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"a program for Windows cannot be read: {error}") from None


def as_expression(text: str) -> str:
    """A text as a PowerShell expression of letters and digits: wherever it is put, none of it is ever a command."""
    data = base64.b64encode(text.encode()).decode()
    return f"([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('{data}')))"
