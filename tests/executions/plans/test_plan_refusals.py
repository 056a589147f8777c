"""Every refusal of the contract, by its code, its path and what it says to do."""

from __future__ import annotations

import pytest

from executions.plans import PlanLimits
from tests.executions.plans.compiling import compiled, refused, say, step, told
from tests.executions.plans.memory_inventory import MemoryInventory, asset


@pytest.mark.parametrize(
    "document",
    [{}, {"steps": []}, {"steps": None}, {"plan": {}}, {"plan": {"steps": []}}, [], b"", "  \n", None, "{}", "steps:"],
)
def test_a_plan_without_steps_is_refused_as_empty(document: object) -> None:
    assert told(document) == [("empty_plan", "steps")]


@pytest.mark.parametrize("document", [5, "just words", '"text"', True, {"steps": "ls"}, {"steps": {"a": {}}}])
def test_what_is_not_a_plan_is_refused(document: object) -> None:
    assert [problem.code for problem in refused(document)] == ["invalid_input"]


def test_ten_faults_are_told_in_one_answer() -> None:
    plan = {
        "steps": [
            step("comand", id="a"),
            {"id": "b", "tool": "command", "inputs": {"argv": ["ls"]}},
            step("noop", id="b", depends_on=["zz"]),
            step("noop", id="c", depends_on=["d"]),
            step("noop", id="d", depends_on=["c"]),
            {"id": "e", "tool": "systemctl", "inputs": {"action": "dance", "service": "nginx"}, "host": "web-1"},
            {"id": "f", "tool": "ps", "targets": ["nosuch"]},
            {"id": "g", "tool": "ps", "targets": ["twin"]},
            {"id": "h", "tool": "systemctl", "inputs": {"action": "status", "service": "<service_name>"}, "host": "db"},
            say("{{ favourite_colour }}", id="i"),
            {"id": "j", "tool": "http", "inputs": {"method": "POST", "url": "http://a.b/", "body": {"password": "pw"}}},
        ]
    }
    assert told(plan) == [
        ("unknown_tool", "steps[0].tool"),
        ("missing_target", "steps[1].targets"),
        ("duplicate_step_id", "steps[2].id"),
        ("unknown_dependency", "steps[2].depends_on[0]"),
        ("dependency_cycle", "steps[3].depends_on"),
        ("invalid_input", "steps[5].inputs.action"),
        ("unknown_asset", "steps[6].targets[0]"),
        ("ambiguous_asset", "steps[7].targets[0]"),
        ("unresolved_placeholder", "steps[8].inputs.service"),
        ("unresolved_placeholder", "steps[9].inputs.argv[1]"),
        ("plaintext_secret", "steps[10].inputs.body.password"),
    ]
    assert all(problem.message and problem.how_to_fix for problem in refused(plan))


def test_an_unknown_tool_is_answered_with_tools_of_a_like_name() -> None:
    [problem] = refused([step("sytemctl")])
    assert problem.code == "unknown_tool"
    assert "systemctl" in problem.how_to_fix
    assert told([{"description": "no tool"}]) == [("unknown_tool", "steps[0].tool")]


def test_an_ambiguous_asset_comes_with_its_candidates() -> None:
    [problem] = refused([step(targets=["twin"])])
    assert problem.as_dict()["candidates"] == [
        "5: twin (twin.a.example.com, 10.0.1.1, production)",
        "6: twin (twin.b.example.com, 10.0.1.2, production)",
    ]


def test_a_problem_without_candidates_shows_none() -> None:
    [problem] = refused([step(targets=["nosuch"])])
    assert set(problem.as_dict()) == {"code", "path", "message", "how_to_fix"}


def test_localhost_is_a_target_only_when_the_inventory_has_it() -> None:
    inventory = MemoryInventory([asset(9, "web-9", "web-9.example.com")])
    assert told([step()], inventory=inventory) == [("unknown_asset", "steps[0].targets[0]")]


def test_an_empty_list_of_targets_is_no_target() -> None:
    assert told([step(targets=[])]) == [("missing_target", "steps[0].targets")]


def test_a_problem_of_the_target_is_told_once() -> None:
    assert told([step(targets=["<server_name>"])]) == [("unresolved_placeholder", "steps[0].targets[0]")]
    assert told([step(targets=["group:nobody"])]) == [("missing_target", "steps[0].targets[0]")]


def test_an_approval_point_that_names_no_step_is_not_left_out() -> None:
    plan = {"steps": [step(id="a")], "execution_metadata": {"approval_points": ["b"]}}
    assert told(plan) == [("unknown_dependency", "execution_metadata.approval_points[0]")]


def test_more_targets_than_allowed_are_refused() -> None:
    limits = PlanLimits(max_targets=1)
    assert told([step(targets=["group:web"])], limits=limits) == [("too_many_targets", "steps[0].targets")]
    assert compiled([step(), step()], limits=limits).approval_facts.target_count == 1
    limits = PlanLimits(max_step_targets=3)
    assert told([step(targets=["tag:web"])] * 2, limits=limits) == [("too_many_targets", "steps[1].targets")]


def test_more_steps_than_allowed_are_refused() -> None:
    assert told([step()] * 3, limits=PlanLimits(max_steps=2)) == [("plan_too_large", "steps")]


@pytest.mark.parametrize("kind", ["bytes", "text", "values"])
def test_a_larger_document_than_allowed_is_refused(kind: str) -> None:
    long = "x" * 3000
    document: object = {"steps": [step(description=long)]}
    if kind != "values":
        document = f'{{"steps": [{{"tool": "noop", "description": "{long}"}}]}}'
        document = document if kind == "text" else str(document).encode()
    assert [problem.code for problem in refused(document, limits=PlanLimits(max_bytes=2000))] == ["plan_too_large"]


def test_a_refusal_never_repeats_the_secret() -> None:
    refusal = refused(
        [{"tool": "http", "inputs": {"url": "http://a.b/", "headers": {"Authorization": "hunter2hunter2"}}}]
    )
    assert [problem.code for problem in refusal] == ["plaintext_secret"]
    assert "hunter2" not in str([problem.as_dict() for problem in refusal])


def test_thousands_of_problems_are_cut_with_a_word_about_it() -> None:
    plan = [step("noop", inputs={f"x{number}": 1 for number in range(20)}) for _ in range(100)]
    problems = refused(plan)
    assert len(problems) == 1001
    assert problems[-1].message == "1000 further problems are not listed."


def test_a_step_that_is_no_object_is_told_and_the_others_are_still_looked_at() -> None:
    assert told(["ls", None, step("nosuch")]) == [
        ("invalid_input", "steps[0]"),
        ("invalid_input", "steps[1]"),
        ("unknown_tool", "steps[2].tool"),
    ]
