"""The order of the steps: listed, numbered, or a graph."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.plans import PlanLimits
from tests.executions.plans.compiling import compiled, refused, say, step, told


def waits(*given_steps: dict[str, object]) -> dict[str, list[str]]:
    return {one["id"]: one["depends_on"] for one in compiled(list(given_steps)).document["steps"]}


def test_listed_steps_run_one_after_the_other() -> None:
    assert waits(step(id="a"), step(id="b", depends_on=[]), step(id="c", depends_on=None)) == {
        "a": [],
        "b": ["a"],
        "c": ["b"],
    }


def test_numbered_steps_run_by_number_and_equal_numbers_at_the_same_time() -> None:
    plan = compiled(
        [
            step(id="last", execution_order=9),
            step(id="x", execution_order=2),
            step(id="first", execution_order="1"),
            step(id="y", execution_order=2.0),
        ]
    )
    made = plan.document["steps"]
    assert [(one["id"], one["position"]) for one in made] == [("first", 1), ("x", 2), ("y", 3), ("last", 4)]
    assert [one["depends_on"] for one in made] == [[], ["first"], ["first"], ["x", "y"]]


def test_a_step_without_a_number_among_numbered_ones_is_told() -> None:
    assert told([step(execution_order=1), step()]) == [("invalid_input", "steps[1].execution_order")]


def test_one_dependency_makes_the_plan_a_graph() -> None:
    assert waits(step(id="a"), step(id="b"), step(id="c", depends_on=["a"]), step(id="d", execution_order=1)) == {
        "a": [],
        "b": [],
        "c": ["a"],
        "d": [],
    }


def test_a_dependency_may_be_listed_later() -> None:
    assert waits(step(id="a", depends_on="b"), step(id="b")) == {"a": ["b"], "b": []}


def test_globs_name_every_other_step_that_they_match() -> None:
    assert waits(step(id="get-1"), step(id="get-2"), step(id="end", depends_on=["get-*"]), step(id="x")) == {
        "get-1": [],
        "get-2": [],
        "end": ["get-1", "get-2"],
        "x": [],
    }
    assert waits(step(id="s1"), step(id="s2"), step(id="s3", depends_on=["s*"]))["s3"] == ["s1", "s2"]


def test_an_id_that_looks_like_a_glob_is_an_id() -> None:
    assert waits(step(id="a*"), step(id="ab"), step(id="c", depends_on=["a*"]))["c"] == ["a*"]


@pytest.mark.parametrize("dependency", ["nosuch", "no*", "[x]*", "c?"])
def test_a_dependency_that_names_no_other_step_is_told(dependency: str) -> None:
    [problem] = (
        refused([step(id="a"), step(id="c1", depends_on=[dependency])])
        if dependency != "c?"
        else refused([step(id="a"), step(id="c1", depends_on=["c?"])])
    )
    assert (problem.code, problem.path) == ("unknown_dependency", "steps[1].depends_on[0]")


def test_a_near_id_is_suggested() -> None:
    [problem] = refused([step(id="backup-db"), step(id="b", depends_on=["backup_db"])])
    assert "backup-db" in problem.how_to_fix


def test_numbers_and_text_name_the_same_step() -> None:
    assert waits(step(id=1), step(id="2", depends_on=[1]), step(id=3.0, depends_on=["1", 2.0])) == {
        "1": [],
        "2": ["1"],
        "3": ["1", "2"],
    }


def test_a_step_that_waits_for_itself_is_a_cycle() -> None:
    assert told([step(id="a", depends_on=["a"])]) == [("dependency_cycle", "steps[0].depends_on")]


def test_each_cycle_is_told_once_and_named() -> None:
    problems = refused(
        [
            step(id="a", depends_on=["c"]),
            step(id="b", depends_on=["a"]),
            step(id="c", depends_on=["b"]),
            step(id="d", depends_on=["e"]),
            step(id="e", depends_on=["d"]),
            step(id="f", depends_on=["a", "d"]),
        ]
    )
    assert [(one.code, one.path) for one in problems] == [
        ("dependency_cycle", "steps[0].depends_on"),
        ("dependency_cycle", "steps[3].depends_on"),
    ]
    assert "a waits for c waits for b waits for a" in problems[0].message


def test_a_duplicate_id_of_mixed_types_is_told() -> None:
    assert told([step(id=1), step(id="1")]) == [("duplicate_step_id", "steps[1].id")]


def test_a_reference_to_output_makes_the_step_wait() -> None:
    made = waits(
        step(id="root"), step(id="a", depends_on=["root"]), step(id="free"), say("{{ steps.free.stdout }}", id="b")
    )
    assert made == {"root": [], "a": ["root"], "free": [], "b": ["free"]}


def test_too_many_different_patterns_are_refused() -> None:
    plan = [step(id="x"), *[step(id=f"s{at}", depends_on=[f"x*{'*' * at}"]) for at in range(4)]]
    assert told(plan, limits=PlanLimits(max_globs=3)) == [("plan_too_large", "steps")]
    compiled(plan, limits=PlanLimits(max_globs=4))


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    count = draw(st.integers(1, 12))
    return [
        step("noop", id=str(at), depends_on=[str(one) for one in draw(st.sets(st.integers(0, count - 1), max_size=3))])
        for at in range(count)
    ]


@given(graphs())
def test_a_graph_is_either_free_of_cycles_or_refused(plan: list[dict[str, Any]]) -> None:
    named = {one["id"]: set(one["depends_on"]) for one in plan}
    left = dict(named)
    while free := [name for name, wanted in left.items() if not wanted & left.keys()]:
        for name in free:
            del left[name]
    if left:
        problems = refused(plan)
        assert {problem.code for problem in problems} == {"dependency_cycle"}
        assert {plan[int(problem.path[6 : problem.path.index("]")])]["id"] for problem in problems} <= left.keys()
    elif any(named.values()):
        assert {one["id"]: set(one["depends_on"]) for one in compiled(plan).document["steps"]} == named
