"""A plan in check mode: every step reads, and what can be neither read nor checked is skipped by name."""

from __future__ import annotations

from typing import Any

import pytest

from executions.plans import CompiledPlan
from tests.executions.plans.compiling import compiled, say, step, told

RESTART = step("systemctl", id="restart", inputs={"action": "restart", "service": "nginx"}, targets=["localhost"])
PLAN: dict[str, Any] = {
    "title": "Restart nginx",
    "check": True,
    "steps": [
        step("info_display", id="look", inputs={"kind": "uptime"}, targets=["localhost"]),
        {
            **RESTART,
            "on_failure": "rollback",
            "requires_approval": True,
            "success": {"exit_codes": [0, 3], "stdout_matches": "done"},
            "rollback": {"tool": "systemctl", "inputs": {"action": "start", "service": "nginx"}},
        },
        say("made", id="make"),
        say("{{ steps.make.stdout }}", id="use"),
        step("file_manager", id="read", inputs={"action": "read", "path": "/{{ steps.restart.stdout }}"},
             targets=["localhost"]),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> CompiledPlan:
    return compiled(PLAN)


def test_the_whole_plan_only_reads(plan: CompiledPlan) -> None:
    assert plan.action_class == "read"
    assert {use.action_class for use in plan.targets.values()} == {"read"}
    assert not any(use.exclusive for use in plan.targets.values())
    assert not plan.approval_facts.has_irreversible
    for one in plan.document["steps"]:
        assert (one["action_class"], one["check"], one["rollback"]) == ("read", True, None)


def test_a_changing_step_loses_what_is_about_the_change(plan: CompiledPlan) -> None:
    restart = plan.document["steps"][1]
    assert restart["requires_approval"] is False
    assert restart["on_failure"] == "stop"
    assert restart["success"] == {"exit_codes": [0], "stdout_matches": None}
    assert any("success criteria" in sentence for sentence in restart["not_checked"])
    assert restart["idempotent"] is True
    assert "unchecked" not in restart


def test_what_cannot_be_checked_is_skipped_with_the_reason(plan: CompiledPlan) -> None:
    reasons = {one["id"]: one.get("unchecked", "") for one in plan.document["steps"]}
    assert reasons == {
        "look": "",
        "restart": "",
        "make": "The tool command cannot say what it would change.",
        "use": "It takes the output of step 'make', which check mode does not really run.",
        "read": "It takes the output of step 'restart', which check mode does not really run.",
    }


def test_what_is_skipped_takes_no_time(plan: CompiledPlan) -> None:
    took = {one["id"]: one["estimated_duration"] for one in plan.document["steps"]}
    assert (took["make"], took["use"], took["look"]) == (0.0, 0.0, 1.0)


def test_a_reading_step_keeps_its_own_approval_and_criteria() -> None:
    look = step("info_display", inputs={"kind": "os"}, targets=["localhost"], requires_approval=True,
                success={"stdout_matches": "Linux"})  # fmt: skip
    (stored,) = compiled({"check": True, "steps": [look]}).document["steps"]
    assert stored["requires_approval"] is True
    assert stored["success"]["stdout_matches"] == "Linux"


def test_check_mode_is_part_of_the_hash_and_says_so_in_the_title(plan: CompiledPlan) -> None:
    steps = [RESTART]
    hashes = {compiled({"steps": steps, **more}).hash for more in ({}, {"check": False}, {"check": True})}
    assert len(hashes) == 2
    assert plan.title == plan.document["title"] == "Check mode: Restart nginx"
    assert plan.document["check"] is True
    assert "check" not in compiled({"steps": steps}).document


@pytest.mark.parametrize(
    "document",
    [
        {"plan": {"steps": [RESTART]}, "check": True},
        {"plan": {"steps": [RESTART]}, "dry_run": "yes"},
        {"steps": [RESTART], "check_mode": True},
        {"plan": {"steps": [RESTART], "dry_run": True}, "version": "1.0", "execution_metadata": {}},
        {"plan": [RESTART], "dry_run": True},
    ],
)
def test_a_wish_to_only_check_is_never_overlooked(document: dict[str, Any]) -> None:
    assert compiled(document).document["check"] is True


def test_a_wish_that_is_not_understood_is_refused() -> None:
    assert told({"steps": [RESTART], "check": "maybe"}) == [("invalid_input", "check")]


def test_a_plan_of_which_nothing_can_be_checked_is_refused() -> None:
    assert told({"check": True, "steps": [say("x"), step("noop", id="n")]}) == [("invalid_input", "check")]


def test_a_real_plan_cannot_look_like_a_check() -> None:
    assert told({"title": "check mode: restart", "steps": [RESTART]}) == [("invalid_input", "title")]
