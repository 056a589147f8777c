from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference" / "settings.md"
READ = re.compile(r'\benv_[a-z]+\(\s*"([A-Z_]+)"([^\n]*)')


def settings_read() -> dict[str, bool]:
    """Every setting that the code reads, and whether it is a secret."""
    found: dict[str, bool] = {}
    for package in ("opsconductor", "executions", "safety", "queueing", "monitoring"):
        for file in (ROOT / package).rglob("*.py"):
            for name, rest in READ.findall(file.read_text(encoding="utf-8")):
                found[name] = found.get(name, False) or "secret=True" in rest
    return found


def test_every_setting_is_in_the_reference_and_nothing_else_is() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)`( \(secret\))? \|", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: bool(secret) for name, secret in rows} == settings_read()
