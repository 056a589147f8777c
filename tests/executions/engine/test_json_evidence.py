"""What is expected of an answer in JSON: what holds, what does not, and what nobody can tell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executions.engine.json_evidence import unmet

ANSWER = {
    "status": {"db": "up", "queue.depth": 0, "~a/b": 1, "": "empty"},
    "items": [{"id": 7}, {"id": 8, "tags": ["a", "b"]}],
    "ready": True,
    "count": 1,
    "ratio": 1.0,
    "nothing": None,
    "0": "zero",
}


def judged(*expectations: dict[str, Any], text: str | None = None) -> str | None:
    return unmet(expectations, json.dumps(ANSWER) if text is None else text, whole=True)


@pytest.mark.parametrize(
    "expectation",
    [
        {"path": "status.db", "equals": "up"},
        {"path": "/status/db", "equals": "up"},
        {"path": "/status/queue.depth", "equals": 0},
        {"path": "/status/~0a~1b", "equals": 1},
        {"path": "/status/", "equals": "empty"},
        {"path": "items[1].tags[0]", "equals": "a"},
        {"path": "items.1.id", "equals": 8},
        {"path": "/items/0/id", "matches": "^[0-9]$"},
        {"path": "0", "equals": "zero"},
        {"path": "ready", "equals": True},
        {"path": "ready", "matches": "true"},
        {"path": "count", "equals": 1.0},
        {"path": "ratio", "equals": 1},
        {"path": "nothing", "equals": None},
        {"path": "nothing", "exists": True},
        {"path": "status.queue", "exists": False},
        {"path": "items[2]", "exists": False},
        {"path": "", "exists": True},
    ],
)
def test_what_holds(expectation: dict[str, Any]) -> None:
    assert judged(expectation) is None


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        ({"path": "status.db", "equals": "down"}, 'status.db is a text other than "down"'),
        ({"path": "status.cache", "equals": "up"}, "status.cache is not there"),
        ({"path": "status.cache", "matches": ".*"}, "status.cache is not there"),
        ({"path": "status.cache", "exists": True}, "status.cache is not there"),
        ({"path": "ready", "exists": False}, "ready is there"),
        ({"path": "ready", "equals": 1}, "ready is true or false other than 1"),
        ({"path": "count", "equals": True}, "count is a number other than true"),
        ({"path": "count", "equals": "1"}, 'count is a number other than "1"'),
        ({"path": "nothing", "equals": False}, "nothing is null other than false"),
        ({"path": "items", "matches": "7"}, "items is a list, which no pattern can match"),
        ({"path": "items[-1]", "exists": True}, "items[-1] is not there"),
        ({"path": "status.db", "matches": "^down"}, "status.db does not match '^down'"),
    ],
)
def test_what_does_not_hold_is_named_without_what_was_found(expectation: dict[str, Any], said: str) -> None:
    assert judged(expectation) == f"The answer's JSON is not as expected: {said}."


def test_all_must_hold() -> None:
    assert judged({"path": "ready", "equals": True}, {"path": "count", "equals": 2}) is not None


@pytest.mark.parametrize("text", ["", "no JSON", '{"ready": tru', "[" * 200_000])
def test_what_is_not_json_meets_no_expectation(text: str) -> None:
    assert judged({"path": "ready", "exists": False}, text=text) is not None


def test_what_did_not_come_whole_is_not_judged() -> None:
    assert unmet([{"path": "ready", "equals": True}], json.dumps(ANSWER), whole=False) is not None
