"""The examples, and the example of the page about plans, are accepted as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from executions.plans import Code
from tests.executions.plans.compiling import compiled

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples" / "plans").glob("*.yaml"))
OVER_SSH = {"change-with-rollback": {"web-1", "web-2"}}  # the others run on a new installation as they are
PAGE = (ROOT / "docs" / "reference" / "plan.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_accepted(path: Path) -> None:
    plan = compiled(path.read_bytes())
    assert plan.document["title"]
    assert {use.name for use in plan.targets.values()} == OVER_SSH.get(path.stem, {"localhost"})


def test_the_examples_show_order_and_graph() -> None:
    plans = {path.stem: compiled(path.read_bytes()).document["steps"] for path in EXAMPLES}
    assert [step["depends_on"] for step in plans["ordered-change"]] == [[], ["make"], ["write"], ["check"]]
    assert plans["parallel-graph"][4]["depends_on"] == ["look-memory", "look-load", "look-uptime"]
    assert [step["depends_on"] for step in plans["parallel-graph"][1:4]] == [["find"]] * 3


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_every_plan_of_the_page_is_accepted(example: str) -> None:
    assert compiled(example).document["steps"]


def test_the_page_names_every_refusal() -> None:
    assert [code for code in Code if f"`{code}`" not in PAGE] == []
