"""What checking a step costs, and that the reference page says what the catalog says."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from executions.tools import Catalog, Tool, load_catalog
from executions.tools.reference import render_reference

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "reference" / "tools.md"
MOST_SECONDS = 20e-6  # a tenth of what one of 5,000 executions a second may take


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("noop", {}),
        ("wait", {"seconds": 5}),
        ("command", {"argv": ["df", "-h", "/var"]}),
        ("systemctl", {"action": "restart", "service": "nginx"}),
        ("http", {"url": "https://example.org/health", "headers": {"Accept": "text/plain"}}),
        ("file_manager", {"action": "write", "path": "/etc/motd", "content": "hello"}),
    ],
)
def test_a_small_step_is_checked_and_prepared_within_20_microseconds(
    tool: Callable[[str], Tool], name: str, inputs: dict[str, Any]
) -> None:
    found = tool(name)
    checked, _ = found.check(inputs)
    # The best of many short ones: other processes of the machine only ever make it slower.
    check = min(timeit.repeat(lambda: found.check(inputs), number=200, repeat=50)) / 200
    prepare = min(timeit.repeat(lambda: found.prepare(checked, timeout_seconds=5), number=200, repeat=50)) / 200
    assert check < MOST_SECONDS
    assert prepare < MOST_SECONDS


def test_the_reference_page_is_what_the_catalog_says(catalog: Catalog) -> None:
    assert PAGE.read_text() == render_reference(catalog), "run: python -m executions.tools.reference > " + str(PAGE)


def test_the_reference_page_names_every_tool_and_parameter(catalog: Catalog) -> None:
    text = PAGE.read_text()
    for found in catalog:
        section = text.split(f"\n## {found.name}\n")[1].split("\n## ")[0]
        for parameter in found.parameters.values():
            assert f"| `{parameter.name}` | {parameter.type} |" in section
            assert parameter.description in section
        for action in found.behaviours:
            assert not found.by or f"| `{action}` |" in section


def test_the_tool_of_the_guide_can_be_added(tmp_path: Path) -> None:
    example = (DOCS / "how-to" / "add-a-tool.md").read_text().split("```yaml\nname: ")[1].split("```")[0]
    (tmp_path / "restart_app.yaml").write_text(f"name: {example}")
    found = load_catalog(tmp_path).get("restart_app")
    assert found is not None
    argv = found.prepare({"application": "shop", "verbose": True}).argv
    assert argv == ("appctl", "--verbose", "--wait=10", "restart", "--", "shop")
