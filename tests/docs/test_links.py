"""Every link of a page leads to a file, and to a place in it, that is there."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import NAMES, ROOT, text_of, without_code

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:[a-z_]+/)+[a-z0-9_.-]+\.(?:py|sql|md|yaml|json|txt|css|js))`", re.IGNORECASE)
MADE_BY_THE_READER = {"benchmarks/results/latest.json", "executions/tools/catalog/restart_app.yaml"}


def anchors(text: str) -> set[str]:
    """The places that a link can name: headings, as GitHub writes them, and ids of our own."""
    made = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        made.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return made


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    missing = []
    for link in LINK.findall(without_code(text_of(name))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_is_named_is_there(name: str) -> None:
    missing = [path for path in NAMED.findall(text_of(name)) if not (ROOT / path).exists()]
    assert [path for path in missing if path not in MADE_BY_THE_READER] == []


def test_the_index_leads_to_every_page() -> None:
    index = text_of("docs/README.md")
    pages = [name.removeprefix("docs/") for name in NAMES if name.startswith("docs/") and name != "docs/README.md"]
    assert [page for page in pages if f"({page})" not in index] == []
