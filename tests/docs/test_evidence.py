"""A test that a page names as its evidence exists."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.docs.pages import NAMES, ROOT, rows, text_of

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PROMISES = [f"### {number}. " for number in range(1, 11)]


@cache
def names_in(path: str) -> frozenset[str]:
    return frozenset(re.findall(r"^\s*(?:async )?def (test_\w+)", text_of(path), re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_every_test_that_is_named_exists(name: str) -> None:
    named = NAMED.findall(text_of(name))
    assert [f"{path}::{test}" for path, test in named if not (ROOT / path).exists() or test not in names_in(path)] == []


def test_every_promise_names_its_tests_or_says_that_it_is_not_kept_yet() -> None:
    page = text_of("docs/architecture.md")
    for promise in PROMISES:
        assert page.count(promise) == 1, promise
        section = page.split(promise)[1].split("\n#")[0]
        assert NAMED.search(section) or "Not there yet" in section, promise


def test_every_threat_names_the_test_that_shows_what_stands_in_its_way() -> None:
    threats = rows(text_of("docs/threat-model.md"), "kind | threat | what stands in the way | shown by")
    assert {row[0] for row in threats} == set("STRIDE")
    assert [row[1] for row in threats if not NAMED.search(row[3])] == []
