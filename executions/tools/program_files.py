"""The programs that tools name: files of a catalog's folder `programs`, read when the catalog is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def parts_of(program: str | list[str] | None) -> list[str] | None:
    """Return the names of the parts that a program is joined of."""
    return [program] if isinstance(program, str) else program


def misnamed(parts: Sequence[str] | None, ending: str) -> list[str]:
    """Return sentences about names that are none of a file in the folder."""
    pattern = re.compile(rf"[a-z0-9_-]+\.{ending}")
    return [
        f"the program {part!r} must be the name of a .{ending} file without a folder"
        for part in parts or ()
        if not pattern.fullmatch(part)
    ]


def joined(parts: Sequence[str], folders: Sequence[Path]) -> str:
    """Return the text of the parts, each looked for in `folders` in their order. Raises OSError, UnicodeDecodeError."""
    return "\n".join(_found(part, folders).read_text(encoding="utf-8") for part in parts)


def _found(part: str, folders: Sequence[Path]) -> Path:
    return next((folder / part for folder in folders if (folder / part).exists()), folders[-1] / part)
