"""What is installed: pinned, whole, used, and under licences that go with ours. Offline, so it knows no advisories."""

from __future__ import annotations

import re
from importlib.metadata import distribution, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.pages import ROOT

LISTS = ("requirements.txt", "requirements-dev.txt")
OURS = ("opsconductor", "executions", "safety", "queueing", "monitoring")
# Needed by another package as an extra of its own, or by name only: nothing here imports them.
NOT_IMPORTED = {"argon2-cffi", "psycopg-binary", "psycopg-pool", "drf-spectacular-sidecar"}
# Those that would make ours theirs. LGPL (psycopg) is linked to, and stays what it is.
STRONG = re.compile(r"(?<!L)(?<!Lesser )\b(AGPL|GPL|GNU General Public|GNU Affero)", re.IGNORECASE)


def pinned(name: str) -> dict[str, str]:
    """Name -> version of every line; fails on a line that pins nothing."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text().splitlines():
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-r "):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^\s;]+)(?:\s*;.*)?", text)
        assert match, f"{name}: {text!r} pins no version"
        key = canonicalize_name(match[1])
        assert key not in found, f"{name}: {key} stands there twice"
        found[key] = match[2]
    return found


RUNTIME = pinned(LISTS[0])


def direct() -> list[str]:
    """What is listed before "What those need"."""
    text = (ROOT / LISTS[0]).read_text().partition("# What those need")[0]
    return [canonicalize_name(match) for match in re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==", text, re.MULTILINE)]


def test_no_list_pins_what_another_pins_otherwise() -> None:
    development = pinned(LISTS[1])
    assert {name for name in development.keys() & RUNTIME.keys() if development[name] != RUNTIME[name]} == set()


@pytest.mark.parametrize("name", sorted(RUNTIME))
def test_what_a_package_needs_is_pinned_too_and_fits(name: str) -> None:
    for text in distribution(name).requires or ():
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        key = canonicalize_name(need.name)
        assert key in RUNTIME, f"{name} needs {key}, which is not in {LISTS[0]}"
        assert need.specifier.contains(RUNTIME[key], prereleases=True), f"{name} needs {need}, pinned is {RUNTIME[key]}"


def test_every_direct_requirement_is_used() -> None:
    modules: dict[str, set[str]] = {}
    for module, names in packages_distributions().items():
        for name in names:
            modules.setdefault(canonicalize_name(name), set()).add(module)
    code = "\n".join(path.read_text() for part in OURS for path in (ROOT / part).rglob("*.py"))
    unused = [
        name for name in direct()
        if name not in NOT_IMPORTED and not any(re.search(rf"\b{module}\b", code) for module in modules.get(name, ()))
    ]  # fmt: skip
    assert unused == []


@pytest.mark.parametrize("name", sorted(RUNTIME))
def test_no_licence_makes_ours_theirs(name: str) -> None:
    told = distribution(name).metadata
    licence = " ".join(told.get_all("License-Expression") or ())
    classifiers = " ".join(line for line in told.get_all("Classifier") or () if line.startswith("License"))
    assert not STRONG.search(f"{licence} {classifiers}") or " OR " in licence or "Lesser" in classifiers
