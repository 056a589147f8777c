"""As which user of the target a step runs: read, kept, hashed, and refused where nobody could carry it out."""

from __future__ import annotations

from typing import Any

import pytest

from executions.engine.state import planned_rollback
from executions.plans.problems import PlanRefused
from executions.plans.run_as import graver_as
from executions.services.policy import risk_of
from safety.approvals import approval_level
from tests.executions.plans.compiling import compiled, step


def run_as(**fields: Any) -> str | None:
    [made] = compiled([step(targets=["web-1"], **fields)]).document["steps"]
    return made.get("run_as")


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({}, None),
        ({"run_as": "postgres"}, "postgres"),
        ({"become_user": "www-data"}, "www-data"),
        ({"sudo_user": "app"}, "app"),
        ({"become": True}, "root"),
        ({"sudo": "yes"}, "root"),
        ({"become": True, "become_user": "app"}, "app"),
        ({"become": False}, None),
    ],
)
def test_a_step_says_as_whom_it_runs(fields: dict[str, Any], user: str | None) -> None:
    assert run_as(**fields) == user


@pytest.mark.parametrize(
    "fields",
    [
        {"run_as": "-u root"},
        {"run_as": "#0"},
        {"run_as": "a b"},
        {"run_as": "x;id"},
        {"run_as": "r\0t"},
        {"run_as": ["root"]},
        {"run_as": "x" * 40},
        {"become": "perhaps"},
        {"become": False, "run_as": "app"},
    ],
)
def test_what_is_no_user_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PlanRefused):
        run_as(**fields)


@pytest.mark.parametrize("changed", [{"targets": ["localhost"]}, {"tool": "wait", "inputs": {"seconds": 1}}])
def test_it_is_refused_where_nobody_could_carry_it_out(changed: dict[str, Any]) -> None:
    fields = {"tool": "command", "inputs": {"argv": ["id"]}, "targets": ["web-1"], **changed}
    if fields["tool"] == "wait":
        del fields["targets"]
    compiled([fields])
    with pytest.raises(PlanRefused) as refused:
        compiled([{**fields, "run_as": "root"}])
    assert [problem.path for problem in refused.value.problems] == ["steps[0].run_as"]


def test_it_is_part_of_the_hash_and_plans_without_it_keep_theirs() -> None:
    plain, as_root = compiled([step(targets=["web-1"])]), compiled([step(targets=["web-1"], become=True)])

    assert plain.hash != as_root.hash
    assert b"run_as" not in plain.canonical


READS = step("file_manager", inputs={"action": "read", "path": "/etc/shadow"}, targets=["web-1"])


@pytest.mark.parametrize("check", [False, True])
def test_what_is_read_as_another_user_counts_as_a_change(check: bool) -> None:
    """For rights, locks and the approval level: as root every file of the machine can be read."""
    own, as_root = (compiled({"check": check, "steps": [{**READS, **fields}]}) for fields in ({}, {"run_as": "root"}))

    assert (own.action_class, as_root.action_class) == ("read", "modify")
    assert [(use.action_class, use.exclusive) for use in own.targets.values()] == [("read", False)]
    assert [(use.action_class, use.exclusive) for use in as_root.targets.values()] == [("modify", True)]
    assert approval_level(risk_of(own.document, own.action_class)) == 0
    assert approval_level(risk_of(as_root.document, as_root.action_class)) == 2  # web-1 is in production


def test_the_check_of_a_change_as_another_user_counts_as_a_change() -> None:
    copy = step("copy", inputs={"path": "/etc/shadow", "content": "x"}, targets=["web-1"], requires_approval=True)
    own, as_root = (compiled({"check": True, "steps": [{**copy, **one}]}) for one in ({}, {"become": True}))

    assert (own.action_class, as_root.action_class) == ("read", "modify")
    assert [one.document["steps"][0]["requires_approval"] for one in (own, as_root)] == [False, True]


def test_a_graver_step_does_not_count_for_less_as_another_user() -> None:
    assert graver_as("app", "deploy") == "deploy"


def test_what_undoes_a_step_is_done_as_the_same_user() -> None:
    undo = {"tool": "command", "inputs": {"argv": ["false"]}}
    [made] = compiled([step(targets=["web-1"], run_as="app", rollback=undo)]).document["steps"]

    assert planned_rollback(dict(made))["run_as"] == "app"
