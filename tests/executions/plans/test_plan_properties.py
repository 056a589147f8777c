"""Whatever is handed in, the answer is a plan or a refusal."""

from __future__ import annotations

import copy
import json
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from executions.plans import CompiledPlan, PlanRefused, Problem
from executions.plans.problems import Code
from executions.plans.vocabulary import PLAN_NAMES, STEP_NAMES
from executions.services.recovery import RESUBMITTED_ROLLBACK
from executions.tools import get_catalog
from tests.executions.plans.compiling import compiled

TOOLS = [*get_catalog().names(), "nosuch"]
WORDS = [
    "localhost", "web-1", "twin", "group:web", "tag:web", "a", "b", "a*", "*", "{{ hostname }}",
    "{{ assets[0].name }}",
    "{{ steps.a.stdout }}", "{{.Names}}", "<x_value>", "C:\\Users\\Zoë", "abort", "rollback it", "", "yes",
    "20%", "ssh", "1",
    "日本語", "{{", "}}", "{{ x", "stop", "set", "/tmp/x", "http://a.b/", "GET",
]  # fmt: skip
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(WORDS),
    st.integers(0, 4),
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)
NOT_THE_TOOLS = {"type", "path", "target_host", "timeout"}
parameters = sorted(NOT_THE_TOOLS.union(*(tool.parameters for tool in get_catalog())))
inputs = st.dictionaries(st.sampled_from(parameters), json_values, max_size=4) | json_values
refs = st.lists(st.sampled_from([1, 2, "1", *WORDS]) | json_values, max_size=4)
step_values = {
    "tool": st.sampled_from(TOOLS),
    "inputs": inputs,
    "id": st.sampled_from(["a", "b", "c", 1, "1", 2.0, "x y"]),
    "depends_on": refs,
    "targets": refs,
    "rollback": st.fixed_dictionaries({"tool": st.sampled_from(TOOLS)}, optional={"inputs": inputs}),
}


@st.composite
def some_step(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {"tool": draw(st.sampled_from(TOOLS))} if draw(st.booleans()) else {}
    for name in draw(st.lists(st.sampled_from(sorted(STEP_NAMES)), max_size=7, unique=True)):
        likely = step_values.get(STEP_NAMES[name], json_values)
        made[name] = draw(likely if draw(st.integers(0, 3)) else json_values)
    return made


words = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="<>{}"), min_size=1, max_size=20)
sound_tools = st.one_of(
    st.just({"tool": "noop"}),
    st.builds(lambda seconds: {"tool_name": "wait", "parameters": {"seconds": seconds}}, st.integers(0, 60)),
    st.builds(
        lambda argv, host, more: {"tool": "command", "inputs": {"argv": argv, **more}, **host},
        st.lists(words | st.sampled_from(["{{ hostname }}", "{{.Names}}", "C:\\x\\ü"]), min_size=1, max_size=3),
        st.sampled_from([{"targets": ["localhost"]}, {"target_host": "web-1"}, {"targets": ["group:web", 4]}]),
        st.sampled_from([{}, {"timeout": 5}, {"connection_type": "ssh"}, {"working_directory": None}]),
    ),
    st.builds(
        lambda body: {"type": "http", "input_data": {"url": "http://a.b/", "method": "POST", "body": body}},
        st.dictionaries(words, words | st.integers(0, 9), max_size=3),
    ),
    st.just({"tool": "asset-query", "inputs": {"filters": {"tag": "web"}}}),
)
sound_fields = st.fixed_dictionaries(
    {},
    optional={
        "name": words,
        "on_failure": st.sampled_from(["stop", "continue", "rollback", None]),
        "failure_handling": words,
        "retry": st.builds(lambda most: {"max_attempts": most}, st.integers(1, 5)),
        "success": st.builds(
            lambda codes: {"exit_codes": codes}, st.lists(st.integers(0, 255), min_size=1, max_size=3)
        ),
        "fan_out": st.sampled_from([{"max_concurrent": 3}, {"max_failures": "20%"}, None]),
        "preconditions": st.lists(words, max_size=2),
        "requires_approval": st.sampled_from([True, False, "yes", None]),
        "rollback": st.sampled_from([None, {"tool": "noop"}]),
        "estimated_duration": st.integers(0, 100) | st.none(),
    },
)


@st.composite
def sound_plans(draw: st.DrawFn) -> dict[str, Any]:
    """Plans that are accepted, unless chance puts a secret or the like into a text."""
    steps: list[dict[str, Any]] = []
    for position in range(draw(st.integers(1, 5))):
        made = {**draw(sound_tools), **draw(sound_fields), "id": draw(st.sampled_from([f"s{position}", position]))}
        made["depends_on"] = draw(st.sets(st.sampled_from([one["id"] for one in steps]))) if steps else []
        made["depends_on"] = sorted(made["depends_on"], key=str)
        steps.append(made)
    return {"title": draw(words), "steps": steps}


any_plans = st.fixed_dictionaries(
    {"steps": st.lists(some_step() | json_values, max_size=5)},
    optional={name: json_values for name in PLAN_NAMES if name != "steps"},
)


@st.composite
def damaged_plans(draw: st.DrawFn) -> dict[str, Any]:
    """Sound plans with one value exchanged for any other."""
    plan = draw(sound_plans())
    damaged = draw(st.sampled_from([plan, *plan["steps"]]))
    damaged[draw(st.sampled_from(sorted(PLAN_NAMES if damaged is plan else STEP_NAMES)))] = draw(json_values)
    return plan


some_plans = any_plans | sound_plans() | damaged_plans()
documents = some_plans | st.fixed_dictionaries({"plan": some_plans}, optional={"execution_metadata": json_values})


def is_answered(document: object) -> CompiledPlan | None:
    """Compile; anything but a plan or a refusal travels on and fails the test."""
    problems: tuple[Problem, ...] = ()
    try:
        return compiled(document)
    except PlanRefused as refusal:
        problems = refusal.problems
    assert problems
    for problem in problems:
        assert problem.code in set(Code)
        assert problem.path
        assert problem.message.endswith(".")
        assert problem.how_to_fix
        json.dumps(problem.as_dict()).encode()
    return None


@settings(max_examples=200)
@given(documents)
def test_every_document_is_accepted_or_refused(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    plan = is_answered(document)
    assert repr(document) == repr(before)
    if plan is None:
        return
    stored = json.dumps(plan.document, allow_nan=False)
    assert "\\u0000" not in stored
    known = {step["id"] for step in plan.document["steps"]}
    assert len(known) == len(plan.document["steps"]) == plan.approval_facts.step_count
    for position, step in enumerate(plan.document["steps"], 1):
        assert step["position"] == position
        assert set(step["depends_on"]) <= known - {step["id"]}
        tool = get_catalog().get(step["tool"])
        assert tool is not None
        assert step["targets"] or not tool.needs_target


@given(json_values)
def test_every_value_is_accepted_or_refused(document: object) -> None:
    is_answered(document)


@given(st.text() | st.text(alphabet="{}[]:,-&*!|>'\"#% \n\tab1"))
def test_every_text_is_accepted_or_refused(document: str) -> None:
    is_answered(document)


@given(st.binary())
def test_all_bytes_are_accepted_or_refused(document: bytes) -> None:
    is_answered(document)


@given(documents | sound_plans())
def test_json_and_yaml_of_one_document_are_the_same_plan(document: dict[str, Any]) -> None:
    try:
        as_json = json.dumps(document, allow_nan=False)
    except ValueError:
        return
    plan = is_answered(as_json)
    if plan is None:
        return
    assert compiled(document).canonical == plan.canonical
    as_yaml = yaml.safe_dump(document, allow_unicode=True)
    assert compiled(as_yaml).canonical == plan.canonical


@given(documents | sound_plans())
def test_a_stored_plan_submitted_again_is_the_same_plan(document: dict[str, Any]) -> None:
    plan = is_answered(document)
    if plan is None:
        return
    again = [
        {
            **{
                name: step[name]
                for name in ("id", "tool", "inputs", "on_failure", "retry", "timeout_seconds", "idempotent")
            },
            **{name: step[name] for name in ("requires_approval", "success", "fan_out", "depends_on")},
            "rollback": {n: v for n, v in (step["rollback"] or {}).items() if n in RESUBMITTED_ROLLBACK},
            "targets": [target["asset_id"] for target in step["targets"]],
        }
        for step in plan.document["steps"]
    ]
    if any(step["depends_on"] for step in plan.document["steps"]) or len(again) == 1:
        same = compiled({"steps": again, "environment": plan.document["environment"]})
        assert same.canonical == plan.canonical
