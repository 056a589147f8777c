"""What a plan says of how its steps are undone: by themselves, or in its rollback_plan."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.executions.plans.compiling import compiled, step, steps, told

UNDO = {"tool": "command", "inputs": {"argv": ["id"]}}


def test_a_rollback_has_its_own_limit_retries_and_success() -> None:
    said = {"timeout_seconds": 7, "retry": {"max_attempts": 3}, "idempotent": True, "success": {"exit_codes": [0, 5]}}
    [made] = steps(step(rollback={**UNDO, **said}))
    undo = made["rollback"]
    assert undo is not None
    assert (undo["timeout_seconds"], undo["retry"]["max_attempts"], undo["idempotent"]) == (7, 3, True)
    assert undo["success"]["exit_codes"] == [0, 5]
    assert undo["action_class"] == "modify"
    [plain] = steps(step(rollback=UNDO))
    assert plain["rollback"] is not None
    assert (plain["rollback"]["timeout_seconds"], plain["rollback"]["idempotent"]) == (None, False)
    wrong: list[dict[str, Any]] = [
        {"timeout_seconds": -1},
        {"retry": {"max_attempts": 0}},
        {"success": {"exit_codes": []}},
    ]
    for field in wrong:
        [(code, path)] = told([step(rollback={**UNDO, **field})])
        assert (code, path.startswith("steps[0].rollback.")) == ("invalid_input", True), field
    assert told([step(rollback={**UNDO, "targets": ["web-1"]})]) == [("invalid_input", "steps[0].rollback.targets")]


def test_what_a_rollback_does_is_part_of_what_is_approved() -> None:
    hashes = {
        compiled([step(rollback=undo)]).hash
        for undo in (None, UNDO, {**UNDO, "timeout_seconds": 7}, {**UNDO, "idempotent": True})
    }
    assert len(hashes) == 4


@pytest.mark.parametrize("action", [UNDO, json.dumps(UNDO), {"type": "command", "parameters": {"argv": ["id"]}}])
def test_an_entry_of_the_rollback_plan_that_names_a_tool_is_the_rollback_of_its_step(action: Any) -> None:
    plan = compiled(
        {"steps": [step(id="a"), step(id="b")], "rollback_plan": [{"step_id": "b", "rollback_action": action}]}
    )
    one, other = plan.document["steps"]
    assert one["rollback"] is None
    assert other["rollback"] is not None
    assert other["rollback"]["inputs"] == {"argv": ["id"]}
    assert not [note for note in plan.document["not_checked"] if note.startswith("Rollback of")]


def test_a_steps_own_rollback_wins_and_prose_stays_prose() -> None:
    own = {"tool": "command", "inputs": {"argv": ["uptime"]}}
    plan = compiled(
        {
            "steps": [step(id="a", rollback=own), step(id="b")],
            "rollback_plan": [
                {"step_id": "a", "rollback_action": UNDO},
                {"step_id": "b", "rollback_action": "{restart it}"},
            ],
        }
    )
    one, other = plan.document["steps"]
    assert one["rollback"] is not None
    assert one["rollback"]["inputs"] == {"argv": ["uptime"]}
    assert other["rollback"] is None
    assert "Rollback of b: {restart it}" in plan.document["not_checked"]


def test_a_rollback_plan_that_cannot_be_meant_is_refused() -> None:
    def problems(**entry: Any) -> list[tuple[str, str]]:
        return told({"steps": [step(id="a"), {"tool": "noop", "id": "n"}], "rollback_plan": [entry]})

    at = "rollback_plan[0]"
    assert problems(step_id="nosuch", rollback_action=UNDO) == [("unknown_dependency", f"{at}.step_id")]
    assert problems(rollback_action=UNDO) == [("unknown_dependency", f"{at}.step_id")]
    assert problems(step_id="a", rollback_action={"tool": "nosuch"}) == [("unknown_tool", f"{at}.rollback_action.tool")]
    assert problems(step_id="n", rollback_action=UNDO) == [("missing_target", f"{at}.rollback_action")]
    secret = {"tool": "shell", "inputs": {"command": "x", "environment": {"DB_PASSWORD": "Summer-2026!"}}}
    assert [code for code, _ in problems(step_id="a", rollback_action=secret)] == ["plaintext_secret"]
    twice = [{"step_id": "a", "rollback_action": UNDO}] * 2
    assert told({"steps": [step(id="a")], "rollback_plan": twice}) == [("invalid_input", "rollback_plan[1].step_id")]


def test_a_secret_of_the_rollback_plan_is_a_reference_of_the_plan() -> None:
    action = {"tool": "shell", "inputs": {"command": "read s", "stdin": {"type": "secret", "path": "db/undo"}}}
    plan = compiled({"steps": [step(id="a")], "rollback_plan": [{"step_id": "a", "rollback_action": action}]})
    assert [ref.path for ref in plan.secret_refs] == ["db/undo"]
    assert plan.document["secrets"] == [{"path": "db/undo", "key": None}]
