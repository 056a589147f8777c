"""What is to be undone where, and in which order: the rules alone, without a worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from executions.connectors.base import ErrorCode
from executions.engine.outcome import Ending
from executions.engine.state import ExecutionState, StepState, TargetState, planned_rollback, state_of
from executions.engine.undoing import (
    NOTHING_RAN,
    blockers_of,
    given_up,
    is_open,
    rollback_verdict,
    spent_on_cleanup,
    story,
    undos_of,
    was_carried_out,
)
from executions.states import NOT_UNDONE

FAILED = Ending("failed", "Step 'check' failed.", "failed")
CANCELLED = Ending("cancelled", "Cancelled.", "cancelled")
UNDO = {"tool": "shell", "inputs": {"command": "true"}}


def step(
    key: str,
    targets: dict[int | None, str],
    ended: int,
    *,
    needs: tuple[str, ...] = (),
    undo: bool = True,
    **planned: Any,
) -> StepState:
    """`targets`: asset -> status."""
    stored = {
        "id": key, "tool": "shell", "inputs": {}, "depends_on": list(needs), "on_failure": "stop",
        "rollback": UNDO if undo else None, "fan_out": {"max_concurrent": 20, "max_failures": 0},
        "targets": [{"asset_id": asset, "name": f"h{asset}"} for asset in targets if asset], "max_output_bytes": 1000,
        **planned,
    }  # fmt: skip
    rows = [
        TargetState(
            100 * ended + place,
            {"asset_id": asset, "name": f"h{asset}"} if asset else None,
            status,
            0 if status in ("pending", "skipped") else 1,
            None,
            "",
        )
        for place, (asset, status) in enumerate(targets.items(), 1)
    ]
    worst = next((s for s in ("failed", "timed_out", "cancelled", "skipped") if s in targets.values()), "succeeded")
    return StepState(ended, key, stored, worst, rows, ended=ended)


def state(*steps: StepState) -> ExecutionState:
    return ExecutionState(1, 1, 1, "running", "modify", 5, 60, {"steps": []}, list(steps))


def chosen(found: ExecutionState, ending: Ending) -> list[tuple[str, list[str]]]:
    return [(undo.step.key, [target.name for target in undo.targets]) for undo in undos_of(found, ending)]


def test_after_a_failure_it_is_what_was_done_there_and_all_of_what_has_nothing_to_do_with_it() -> None:
    found = state(
        step("register", {None: "succeeded"}, 1),
        step("drain", {9: "succeeded"}, 2),
        step("backup", {1: "succeeded", 2: "succeeded"}, 3),
        step("look", {1: "succeeded", 2: "succeeded"}, 4, undo=False),
        step("change", {1: "succeeded", 2: "succeeded"}, 5),
        step("check", {1: "succeeded", 2: "failed"}, 6, on_failure="rollback"),
        step("after", {1: "skipped", 2: "skipped"}, 7),
    )
    everywhere = [("drain", ["h9"]), ("register", [""])]
    assert chosen(found, FAILED) == [("check", ["h2"]), ("change", ["h2"]), ("backup", ["h2"]), *everywhere]
    assert chosen(found, CANCELLED) == [
        ("check", ["h1", "h2"]), ("change", ["h1", "h2"]), ("backup", ["h1", "h2"]), *everywhere
    ]  # fmt: skip


def test_of_a_step_whose_own_time_ended_it_is_where_it_was_not_done() -> None:
    check = step("check", {1: "succeeded", 2: "skipped"}, 2, on_failure="rollback")
    check.status = "timed_out"
    found = state(step("change", {1: "succeeded", 2: "succeeded"}, 1), check)
    assert chosen(found, Ending("timed_out")) == [("change", ["h2"])]


def test_a_failure_that_asks_for_no_rollback_undoes_nothing() -> None:
    found = state(step("change", {1: "succeeded"}, 1), step("check", {1: "failed"}, 2))
    assert chosen(found, FAILED) == []


@pytest.mark.parametrize(
    ("status", "attempt", "code", "acted", "expected"),
    [
        ("succeeded", 1, "", None, True),
        ("failed", 1, "exit_code", None, True),
        ("timed_out", 1, "timed_out", None, True),
        ("cancelled", 1, "user", None, True),
        ("cancelled", 0, "", None, False),  # never began
        ("skipped", 0, "", None, False),
        ("failed", 1, "unreachable", None, False),
        ("failed", 1, "secret_unavailable", None, False),
        ("failed", 2, "unreachable", None, True),  # what a lost worker's first attempt did, nobody knows
        ("failed", 2, "unreachable", False, False),  # but this worker saw both
        ("failed", 2, "unreachable", True, True),
        ("unknown", 1, "worker_lost", None, False),  # a person decides first
    ],
)
def test_only_what_may_have_changed_something_is_undone(
    status: str, attempt: int, code: str, acted: bool | None, expected: bool
) -> None:
    target = TargetState(1, None, status, attempt, None, "", error_code=code, acted=acted)
    assert was_carried_out(target) is expected


def test_every_code_of_a_connector_after_which_nothing_happened_is_known() -> None:
    assert {str(code) for code in ErrorCode if code.nothing_happened} <= NOTHING_RAN
    assert not {str(code) for code in ErrorCode if not code.nothing_happened} & NOTHING_RAN


def undoing(*undone: tuple[StepState, dict[int | None, str]]) -> ExecutionState:
    """An execution that undoes steps, newest first, with the status of each of their targets."""
    found = state(*sorted((one for one, _ in undone), key=lambda one: one.ended))
    for number, (one, targets) in enumerate(undone, 1):
        rows = [
            TargetState(1000 * number + (asset or 0), t.planned, targets[asset], 1, None, "")
            for t in one.targets
            if (asset := t.planned["asset_id"] if t.planned else None) in targets
        ]
        found.rollbacks.append(
            StepState(number, one.key, planned_rollback(one.planned), "pending", rows, kind="rollback")
        )
    return found


def test_on_one_machine_what_lies_on_top_goes_first_and_elsewhere_what_was_built_on_it() -> None:
    drain = step("drain", {9: "succeeded"}, 1)
    backup = step("backup", {1: "succeeded", 2: "succeeded", 3: "succeeded"}, 2, needs=("drain",))
    change = step("change", {1: "succeeded", 2: "cancelled", 3: "skipped"}, 3, needs=("backup",))
    aside = step("aside", {8: "succeeded"}, 4)
    found = undoing(
        (aside, {8: "pending"}),
        (change, {1: "pending", 2: "pending"}),
        (backup, {1: "pending", 2: "pending", 3: "pending"}),
        (drain, {9: "pending"}),
    )
    waits = {key: [one.id for one in blockers] for key, blockers in blockers_of(found).items()}
    assert waits == {
        1008: [],
        2001: [], 2002: [],
        3001: [2001], 3002: [2002],
        3003: [],  # the change was meant for it, too, and never got there
        4009: [3001, 3002, 3003, 2001, 2002],  # built on it, on other machines; aside was not
    }  # fmt: skip


def test_what_lies_under_something_that_a_person_lets_stand_is_given_up() -> None:
    drain = step("drain", {9: "succeeded"}, 1)
    change = step("change", {1: "succeeded", 2: "succeeded"}, 2, needs=("drain",))
    found = undoing((change, {1: "failed", 2: "succeeded"}), (drain, {9: "pending"}))
    [failed, _] = found.rollbacks[0].targets
    assert is_open(failed)
    assert given_up(found) == set()
    failed.error_code = NOT_UNDONE
    assert not is_open(failed)
    assert given_up(found) == {2009}


def test_a_rollback_says_the_worst_of_its_targets() -> None:
    change = step("change", {1: "succeeded", 2: "succeeded", 3: "succeeded"}, 1)
    for statuses, expected in (
        (("succeeded", "failed", "unknown"), "unknown"),
        (("succeeded", "failed", "pending"), "failed"),
        (("succeeded", "timed_out", "succeeded"), "timed_out"),
        (("succeeded", "timed_out", "failed"), "failed"),
        (("succeeded", "cancelled", "succeeded"), "failed"),
        (("succeeded", "pending", "succeeded"), "pending"),
        (("succeeded", "succeeded", "succeeded"), "succeeded"),
        (("succeeded", "skipped", "succeeded"), "succeeded"),
    ):
        [rollback] = undoing((change, dict(zip((1, 2, 3), statuses, strict=True)))).rollbacks
        assert rollback_verdict(rollback).status == expected, statuses


def test_the_story_names_machines_once_with_what_was_undone_on_them() -> None:
    drain = step("drain", {9: "succeeded"}, 1)
    register = step("register", {None: "succeeded"}, 2)
    change = step("change", dict.fromkeys(range(1, 9), "succeeded"), 3)
    backup = step("backup", {1: "succeeded"}, 4)
    found = undoing(
        (backup, {1: "succeeded"}),
        (change, dict.fromkeys(range(1, 9), "succeeded")),
        (register, {None: "succeeded"}),
        (drain, {9: "failed"}),
    )
    assert story(found.rollbacks) == "on h1: backup, change; on h2, h3, h4, h5, h6 and 2 more: change; register"


def test_a_plan_of_an_earlier_release_is_undone_once_and_never_twice_by_itself() -> None:
    """It says tool and inputs alone: what is not said is what does least harm."""
    made = planned_rollback(step("change", {1: "succeeded"}, 1).planned)
    assert (made["idempotent"], made["retry"]["max_attempts"], made["timeout_seconds"]) == (False, 1, None)
    assert made["success"] == {"exit_codes": [0], "stdout_matches": None}


def test_what_a_cleanup_has_spent_is_what_its_workers_were_seen_to(settings: Any) -> None:
    """Of a worker that fell silent the last lease is not counted: it was waited for."""
    settings.LEASE = timedelta(seconds=30)
    spent = [["worker_died", 4.5], ["lease_expired", 41.0], ["lease_expired", 30.0], ["handed_back", 2.5]]
    assert spent_on_cleanup({"spent": spent}) == 4.5 + 11 + 2.5
    assert spent_on_cleanup({"spent": None}) == spent_on_cleanup(None) == 0


def test_rows_of_rollbacks_are_loaded_with_their_targets_and_the_order_of_the_ends() -> None:
    one = step("one", {1: "succeeded", 2: "succeeded"}, 1).planned
    loaded = {
        "id": 1, "tenant_id": 1, "actor_id": 1, "status": "running", "action_class": "modify", "step_seconds": 5,
        "remaining_seconds": 5, "approval_level": 0, "approvals": None, "wave_approvals": None, "refused": None,
        "rollback": {"status": "failed"},
        "document": {"steps": [{**one, "action_class": "modify"}, {**one, "id": "two", "action_class": "modify"}]},
        "steps": [
            [1, "one", "succeeded", "step", "", "", 20.5], [2, "two", "failed", "step", "exit_code", "why", 10.5],
            [3, "one", "pending", "rollback", "", "", None],
        ],
        "targets": [[n, s, p, "failed", 1, 1, ""] for n, s, p in ((1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 3, 2))],
        "faults": [[3, "exit_code", "why"]],
    }  # fmt: skip
    found = state_of(loaded)
    assert [(one.key, one.ended, one.error) for one in found.steps] == [("one", 3, ""), ("two", 2, "why")]
    [rollback] = found.rollbacks
    assert (rollback.key, rollback.kind, [t.name for t in rollback.targets]) == ("one", "rollback", ["h2"])
    assert found.steps[1].targets[0].error_code == "exit_code"
    assert found.undoing == {"status": "failed"}
