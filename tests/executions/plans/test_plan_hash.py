"""The hash: the same for every copy of a plan, another one for every other plan."""

from __future__ import annotations

import copy
import hashlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.executions.plans.compiling import compiled, say, step
from tests.executions.plans.memory_inventory import MemoryInventory

PLAN: dict[str, Any] = {
    "title": "A change",
    "steps": [
        {"id": "find", "tool": "asset-query", "inputs": {"filters": {"tag": "web"}}},
        say("{{ assets[0].hostname }}", id="a", depends_on=["find"]),
        say("{{ steps.a.stdout }}", "{{ hostname }}", "C:\\Ünïcode\\日本", id="b", depends_on=["a"]),
        step(
            id="c",
            depends_on=["a", "b"],
            targets=["web-1", "db"],
            rollback={"tool": "command", "inputs": {"argv": ["echo", "{{ steps.b.stdout }}"]}},
            retry={"max_attempts": 2},
        ),
    ],
    "execution_metadata": {"approval_points": ["c"]},
}  # fmt: skip


def renamed(plan: dict[str, Any], names: dict[str, object]) -> dict[str, Any]:
    """The same plan with other step ids, wherever an id stands."""

    def change(value: Any) -> Any:
        if isinstance(value, str):
            for old, new in names.items():
                value = value.replace(f"steps.{old}.", f"steps['{new}'].")
            return value
        if isinstance(value, list):
            return [change(item) for item in value]
        if isinstance(value, dict):
            return {key: change(item) for key, item in value.items()}
        return value

    made = change(plan)
    for one in made["steps"]:
        one["id"] = names[one["id"]]
        one["depends_on"] = [names[name] for name in one.get("depends_on", [])]
    made["execution_metadata"]["approval_points"] = [
        names[name] for name in plan["execution_metadata"]["approval_points"]
    ]
    return dict(made)


ids = st.one_of(
    st.integers(0, 10**6),
    st.text(st.characters(exclude_characters="{}\"'*?[]", exclude_categories=("C", "Z")), min_size=1, max_size=12),
    st.uuids().map(lambda one: f"step_{one}"),
)


@given(st.lists(ids, min_size=4, max_size=4, unique_by=str))
def test_the_ids_of_steps_do_not_matter(new: list[object]) -> None:
    other = renamed(PLAN, dict(zip(["find", "a", "b", "c"], new, strict=True)))
    assert compiled(other).hash == compiled(PLAN).hash


@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(shuffler: random.Random) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if isinstance(value, dict):
            keys = list(value)
            shuffler.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return value

    assert compiled(shuffled(PLAN)).canonical == compiled(PLAN).canonical


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Another title"},
        {"labels": {"a": "b"}},
        {"version": "7.0", "timestamp": "2026-01-01T00:00:00Z", "processing_time_ms": 5, "plan_id": "x"},
        {"safety_checks": [{"check": "x"}], "observability": {"logs_to_monitor": ["y"]}},
    ],
)
def test_titles_times_and_words_do_not_matter(change: dict[str, object]) -> None:
    assert compiled({**PLAN, **change}).hash == compiled(PLAN).hash


@pytest.mark.parametrize("field", ["description", "estimated_duration", "preconditions", "tool_metadata"])
def test_words_and_estimates_of_a_step_do_not_matter(field: str) -> None:
    other = copy.deepcopy(PLAN)
    other["steps"][3][field] = "5"
    assert compiled(other).hash == compiled(PLAN).hash


def test_aliases_and_nulls_do_not_matter() -> None:
    plain = compiled([{"tool": "journalctl", "inputs": {"unit": "nginx"}, "targets": ["web-1"]}])
    other = compiled(
        [
            {
                "type": "journalctl",
                "parameters": {"service": "nginx", "since": None, "target_host": "10.0.0.1", "timeout": None},
                "depends_on": None,
                "id": "x-1",
            }
        ]
    )
    assert other.hash == plain.hash


def test_implied_and_explicit_order_are_the_same() -> None:
    assert (
        compiled([step(), step("noop")]).hash
        == compiled([step(id="a"), step("noop", depends_on=["a"])]).hash
        == compiled([step("noop", execution_order=2), step(execution_order=1)]).hash
    )


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"argv": ["false"]}},
        {"targets": ["web-1"]},
        {"depends_on": ["b"]},
        {"on_failure": "continue"},
        {"retry": {"max_attempts": 3}},
        {"timeout_seconds": 5},
        {"idempotent": True},
        {"success": {"exit_codes": [0, 1]}},
        {"fan_out": {"max_concurrent": 1}},
        {"rollback": None},
    ],
)
def test_what_is_done_matters(change: dict[str, object]) -> None:
    other = copy.deepcopy(PLAN)
    other["steps"][3] |= change
    assert compiled(other).hash != compiled(PLAN).hash


def test_approval_points_and_environment_matter() -> None:
    assert compiled({**PLAN, "execution_metadata": {}}).hash != compiled(PLAN).hash
    assert compiled({**PLAN, "environment": "production"}).hash != compiled(PLAN).hash


def test_other_machines_behind_the_same_query_are_another_plan() -> None:
    inventory = MemoryInventory()
    inventory.assets = [one for one in inventory.assets if one.name != "web-1"]
    plan = {"steps": [PLAN["steps"][0], step(target_hosts="{{ hostname }}")]}
    assert compiled(plan, inventory=inventory).hash != compiled(plan).hash


def test_the_hash_is_that_of_the_canonical_form() -> None:
    plan = compiled(PLAN)
    assert plan.hash == hashlib.sha256(plan.canonical).hexdigest()
    assert b"find" not in plan.canonical
