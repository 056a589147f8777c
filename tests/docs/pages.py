"""The documents of the project, as text, and what can be read out of them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def text_of(name: str) -> str:
    """The text of a page, named by its path in the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of one language; "" for those without any."""
    fences = re.findall(r"^[ ]*```([a-z]*)\n(.*?)^[ ]*```[ ]*$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in fences if name == language]


def without_code(text: str) -> str:
    """The prose: code blocks and `code` may hold brackets that are no links."""
    prose = re.sub(r"^[ ]*```.*?^[ ]*```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "code", prose)


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table that begins with this row (cells joined by " | "), without the row and its rule."""
    lines = text.splitlines()
    start = lines.index(f"| {heading} |") + 2
    table: list[list[str]] = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip().strip("|").split(" | ")])
    return table
