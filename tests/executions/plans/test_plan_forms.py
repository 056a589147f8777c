"""The forms a plan is accepted in, the names that callers use, and what becomes of them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.executions.plans.compiling import compiled, refused, step, steps, told

PLANNER_DOCUMENT: dict[str, Any] = {
    "version": "1.0",
    "timestamp": "2026-05-04T10:00:00Z",
    "processing_time_ms": 812,
    "plan": {
        "steps": [
            {
                "id": "step_8f3a_1",
                "description": "Look at the disk of C:\\Users\\Ünïcödé",
                "tool": "info_display",
                "inputs": {"kind": "disk", "target_host": "web-1", "connection_type": "ssh", "timeout": 20},
                "preconditions": ["The machine is reachable"],
                "success_criteria": ["Less than 90 % used"],
                "failure_handling": "Abort and tell the operator",
                "estimated_duration": 5,
                "depends_on": [],
                "execution_order": 1,
                "requires_credentials": True,
                "execution_location": "remote",
                "tool_metadata": None,
            },
            {
                "id": "step_8f3a_2",
                "description": "Restart nginx",
                "tool": "systemctl",
                "inputs": {"action": "restart", "service": "nginx", "use_asset_credentials": True, "lines": None},
                "target_asset_id": 2,
                "failure_handling": "rollback to the previous state",
                "estimated_duration": 30,
                "depends_on": ["step_8f3a_*"],
                "execution_order": 2,
            },
        ],
        "safety_checks": [{"check": "Nobody is logged in", "stage": "before", "failure_action": "warn"}],
        "rollback_plan": [{"step_id": "step_8f3a_2", "rollback_action": "Start the old version"}],
        "observability": {"metrics_to_collect": ["cpu"], "logs_to_monitor": [], "alerts_to_set": None},
    },
    "execution_metadata": {
        "total_estimated_time": 35,
        "risk_factors": ["Restart of a web server"],
        "approval_points": ["step_8f3a_2"],
        "checkpoint_steps": [],
    },
}


def test_the_planners_whole_document_is_accepted() -> None:
    plan = compiled(PLANNER_DOCUMENT)
    look, restart = plan.document["steps"]
    assert look["inputs"] == {"kind": "disk"}
    assert [target["asset_id"] for target in look["targets"]] == [2]
    assert look["timeout_seconds"] == 20
    assert (look["on_failure"], restart["on_failure"]) == ("stop", "rollback")
    assert restart["depends_on"] == ["step_8f3a_1"]
    assert restart["requires_approval"] is True
    assert plan.approval_facts.requires_approval_steps == ("step_8f3a_2",)
    assert plan.document["observability"] == {"metrics_to_collect": ["cpu"]}
    assert plan.estimated_seconds == 35
    assert plan.title.startswith("Look at the disk of C:\\Users\\Ünïcödé")


def test_the_inner_plan_alone_is_accepted_and_does_the_same() -> None:
    inner = {**PLANNER_DOCUMENT["plan"], "execution_metadata": PLANNER_DOCUMENT["execution_metadata"]}
    assert compiled(inner).hash == compiled(PLANNER_DOCUMENT).hash


def test_json_text_bytes_and_parsed_values_give_the_same_plan() -> None:
    text = json.dumps(PLANNER_DOCUMENT)
    made = {compiled(form).hash for form in (PLANNER_DOCUMENT, text, text.encode(), b"\xef\xbb\xbf" + text.encode())}
    assert len(made) == 1


def test_yaml_is_accepted() -> None:
    plan = compiled(
        """
        title: A look at localhost
        labels: {team: operations, ticket: 4711}
        steps:
          - tool: info_display
            inputs: {kind: memory}
            targets: [localhost]
          - tool: wait
            inputs: {seconds: 1}
        """
    )
    assert plan.title == "A look at localhost"
    assert plan.document["labels"] == {"team": "operations", "ticket": "4711"}
    assert [one["tool"] for one in plan.document["steps"]] == ["info_display", "wait"]


def test_a_bare_list_of_steps_is_accepted() -> None:
    assert len(compiled([step(), step()]).document["steps"]) == 2


def test_the_callers_document_is_never_changed() -> None:
    document = copy.deepcopy(PLANNER_DOCUMENT)
    before = json.dumps(document)
    plan = compiled(document)
    plan.document["steps"][0]["inputs"]["kind"] = "cpu"
    plan.document["rollback_plan"].clear()
    assert json.dumps(document) == before


def test_what_only_people_can_judge_is_kept_and_said_to_be_not_checked() -> None:
    plan = compiled(PLANNER_DOCUMENT).document
    assert plan["steps"][0]["not_checked"] == [
        "Precondition: The machine is reachable",
        "Success criterion: Less than 90 % used",
        "Failure handling, taken as stop: Abort and tell the operator",
    ]
    assert "Safety check before (then warn): Nobody is logged in" in plan["not_checked"]
    assert "Rollback of step_8f3a_2: Start the old version" in plan["not_checked"]
    assert "Risk named by the planner: Restart of a web server" in plan["not_checked"]
    assert plan["rollback_plan"] == PLANNER_DOCUMENT["plan"]["rollback_plan"]


@pytest.mark.parametrize("tool", ["tool", "tool_name", "type"])
@pytest.mark.parametrize("inputs", ["inputs", "parameters", "input_data"])
@pytest.mark.parametrize("description", ["description", "name"])
def test_tool_inputs_and_description_have_other_names(tool: str, inputs: str, description: str) -> None:
    [made] = steps({tool: "noop", inputs: {}, description: "Nothing at all"})
    assert (made["tool"], made["description"]) == ("noop", "Nothing at all")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("targets", ["web-1"]),
        ("targets", [2]),
        ("targets", "web-1.example.com"),
        ("targets", [{"asset_id": 2}]),
        ("target_asset_id", 2),
        ("target_asset_id", "2"),
        ("asset_id", 2),
        ("target_hostname", "web-1.example.com"),
        ("target_host", "10.0.0.1"),
        ("host", "web-1"),
        ("target", "web-1"),
        ("target_hosts", ["web-1"]),
        ("target_hosts", "web-1"),
    ],
)
@pytest.mark.parametrize("among_inputs", [False, True])
def test_a_target_can_be_named_in_every_way(name: str, value: object, among_inputs: bool) -> None:
    inputs: dict[str, object] = {"argv": ["uptime"]}
    if among_inputs and name != "targets":
        [made] = steps({"tool": "command", "inputs": {**inputs, name: value}})
    else:
        [made] = steps({"tool": "command", "inputs": inputs, name: value})
    assert [target["asset_id"] for target in made["targets"]] == [2]
    assert made["inputs"] == {"argv": ["uptime"]}


def test_an_input_that_the_tool_takes_itself_is_not_taken_for_the_steps_target() -> None:
    [made] = steps(
        {"tool": "network_tools", "inputs": {"action": "ping", "target": "db.example.com"}, "targets": ["web-1"]}
    )
    assert made["inputs"]["target"] == "db.example.com"
    assert [target["name"] for target in made["targets"]] == ["web-1"]


def test_what_the_step_says_wins_over_what_its_inputs_say() -> None:
    [made] = steps({"tool": "command", "inputs": {"argv": ["id"], "timeout": 5}, "timeout_seconds": 9, "host": "db"})
    assert made["timeout_seconds"] == 9


def test_a_null_or_empty_field_is_as_good_as_none() -> None:
    [made] = steps(
        step(retry=None, success={}, fan_out=None, rollback=None, depends_on=None, on_failure=None, target_host="")
    )
    assert made["retry"] == {"max_attempts": 1, "delay_seconds": 0.0}
    assert made["success"] == {"exit_codes": [0], "stdout_matches": None}
    assert made["fan_out"] == {"max_concurrent": 20, "max_failures": 0}


def test_a_misspelled_field_is_told_and_a_strange_one_is_shown() -> None:
    [problem] = refused({"steps": [step(dependsOn=["x"])]})
    assert (problem.code, problem.path) == ("invalid_input", "steps[0].dependsOn")
    assert "depends_on" in problem.how_to_fix
    [made] = steps(step(rationale="Because"))
    assert made["not_checked"] == ["The field 'rationale' is not known and was ignored."]


@pytest.mark.parametrize("name", ["dependencies", "needs", "when", "on_error", "hosts", "args", "loop"])
def test_a_field_that_would_change_what_is_done_is_never_ignored(name: str) -> None:
    assert told({"steps": [step(**{name: "something"})]}) == [("invalid_input", f"steps[0].{name}")]


def test_a_field_of_steps_given_to_the_plan_is_told() -> None:
    assert told({"targets": ["localhost"], "steps": [step()]}) == [("invalid_input", "targets")]
    assert told({"enviroment": "staging", "steps": [step()]}) == [("invalid_input", "enviroment")]


@pytest.mark.parametrize(
    ("prose", "meaning"),
    [
        ("Abort the plan", "stop"),
        ("STOP", "stop"),
        ("continue with the next step", "continue"),
        ("Rollback to the last version", "rollback"),
        ("roll back", "rollback"),
        ("Retry three times, then continue", "stop"),
        ("", "stop"),
        ("Ask somebody", "stop"),
    ],
)
def test_failure_handling_in_prose_sets_on_failure(prose: str, meaning: str) -> None:
    assert steps(step(failure_handling=prose))[0]["on_failure"] == meaning


def test_exit_codes_may_be_numbers_in_quotes() -> None:
    [made] = steps(step(success={"exit_codes": ["3", 0, 2.0]}))
    assert made["success"]["exit_codes"] == [0, 2, 3]


def test_on_failure_wins_over_prose() -> None:
    assert steps(step(failure_handling="Abort", on_failure="continue"))[0]["on_failure"] == "continue"


def test_native_fields_arrive_in_the_stored_step() -> None:
    [made] = steps(
        step(
            id=7,
            retry={"max_attempts": 3, "delay_seconds": 0.5},
            timeout_seconds=12,
            idempotent=True,
            requires_approval=True,
            success={"exit_codes": [0, 3], "stdout_matches": "^ok"},
            rollback={"tool": "command", "inputs": {"argv": ["false"]}},
            fan_out={"max_concurrent": 2, "max_failures": "20%"},
            estimated_duration=1.5,
        )
    )
    assert made["id"] == "7"
    assert made["retry"] == {"max_attempts": 3, "delay_seconds": 0.5}
    assert made["timeout_seconds"] == 12
    assert made["idempotent"] is True
    assert made["requires_approval"] is True
    assert made["success"] == {"exit_codes": [0, 3], "stdout_matches": "^ok"}
    assert made["rollback"] is not None
    assert made["rollback"]["inputs"] == {"argv": ["false"]}
    assert made["fan_out"] == {"max_concurrent": 2, "max_failures": "20%"}
    assert made["estimated_duration"] == 1.5


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"retry": {"max_attempts": 0}}, "retry.max_attempts"),
        ({"retry": {"attempts": 3}}, "retry.attempts"),
        ({"retry": 3}, "retry"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": "soon"}, "timeout_seconds"),
        ({"idempotent": "perhaps"}, "idempotent"),
        ({"on_failure": "explode"}, "on_failure"),
        ({"success": {"exit_codes": []}}, "success.exit_codes"),
        ({"success": {"exit_codes": ["zero"]}}, "success.exit_codes"),
        ({"success": {"stdout_matches": "(?=x)"}}, "success.stdout_matches"),
        ({"success": {"stdout_matches": "("}}, "success.stdout_matches"),
        ({"fan_out": {"max_failures": "120%"}}, "fan_out.max_failures"),
        ({"fan_out": {"max_concurrent": 0}}, "fan_out.max_concurrent"),
        ({"fan_out": {"max_failures": -1}}, "fan_out.max_failures"),
        ({"connection_type": "telnet"}, "connection_type"),
        ({"description": ["no"]}, "description"),
        ({"id": ["no"]}, "id"),
        ({"id": 'a"b'}, "id"),
        ({"id": "x" * 201}, "id"),
        ({"execution_order": "first"}, "execution_order"),
        ({"inputs": ["true"]}, "inputs"),
    ],
)
def test_a_wrong_value_is_told_with_its_path(fields: dict[str, Any], path: str) -> None:
    assert ("invalid_input", f"steps[0].{path}") in told({"steps": [step(**fields)]})


def test_inputs_given_twice_and_differing_are_not_chosen_between() -> None:
    assert ("invalid_input", "steps[0].inputs") in told({"steps": [step(parameters={"argv": ["reboot"]})]})


def test_a_rollback_is_checked_like_a_step() -> None:
    assert told({"steps": [step(rollback={"tool": "nosuch"})]}) == [("unknown_tool", "steps[0].rollback.tool")]
    assert told({"steps": [step(rollback={"tool": "command"})]}) == [("invalid_input", "steps[0].rollback.inputs.argv")]
    assert told({"steps": [step("noop", rollback={"tool": "command", "inputs": {"argv": ["id"]}})]}) == [
        ("missing_target", "steps[0].rollback")
    ]


def test_a_plan_changes_what_its_rollbacks_change() -> None:
    read = {"tool": "info_display", "inputs": {"kind": "disk"}, "targets": ["web-1"]}
    assert compiled([read]).action_class == "read"
    assert not compiled([read]).targets[2].exclusive
    plan = compiled([{**read, "rollback": {"tool": "command", "inputs": {"argv": ["id"]}}}])
    assert plan.action_class == "modify"
    assert plan.targets[2].exclusive
    assert plan.document["steps"][0]["action_class"] == "read"


def test_the_facts_for_the_approver_are_those_of_the_resolved_targets() -> None:
    plan = compiled({"environment": "staging", "steps": [step(targets=["group:web", "db"]), step(targets=["web-1"])]})
    assert plan.approval_facts.environments == ("production", "staging")
    assert plan.approval_facts.criticalities == ("high", "medium")
    assert plan.approval_facts.target_count == 3
    assert plan.approval_facts.step_count == 2
    assert any("environment staging" in note for note in plan.document["not_checked"])


def test_the_estimate_follows_the_critical_path_and_the_rounds_of_a_fan_out() -> None:
    plan = compiled(
        {
            "steps": [
                step(id="a", estimated_duration=10),
                step(id="b", estimated_duration=50),
                step(
                    id="c", estimated_duration=5, depends_on=["a"], targets=["group:web"], fan_out={"max_concurrent": 1}
                ),
                step(id="d", estimated_duration="no idea", depends_on=["a"]),
            ]
        }
    )
    assert plan.estimated_seconds == 50
    assert compiled([step(estimated_duration=10), step(estimated_duration=20)]).estimated_seconds == 30


def test_a_yes_or_no_in_words_counts_as_one() -> None:
    assert compiled("steps: [{tool: noop, requires_approval: yes}]").approval_facts.requires_approval_steps == (
        "step-1",
    )


def test_a_step_without_an_id_is_named_after_its_place() -> None:
    made = steps(step("noop"), step("noop", id="step-3"), step("noop"))
    assert [one["id"] for one in made] == ["step-1", "step-3", "step-3x"]
    assert [one["position"] for one in made] == [1, 2, 3]
