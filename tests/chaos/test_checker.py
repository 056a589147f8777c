"""Each check of the checker can fail: an honest history, falsified in one place, is found out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from queueing.connections import connect
from tests.chaos.actors import Actor, Stage
from tests.chaos.checker import check
from tests.chaos.evidence import needs_proc
from tests.chaos.history import History, read_history

pytestmark = [pytest.mark.django_db(transaction=True), needs_proc]


def honest(stage: Stage) -> History:
    """Two executions on one asset, one after the other: they ran once each and succeeded."""
    stage.submit(stage.command("one", "work 1"))
    stage.submit(stage.command("one", "work 1", idempotent=True))
    return stage.settle()


def marks(stage: Stage, change: Callable[[list[str]], list[str]]) -> None:
    """Change what the steps wrote down: start, tick and end of the first execution, then of the second."""
    file = stage.marks / "one"
    lines = file.read_text().splitlines(keepends=True)
    assert [line.split()[1] for line in lines] == ["start", "tick", "end:0"] * 2
    file.write_text("".join(change(lines)))


def row(statement: str) -> Callable[[Stage], None]:
    """Change a row; {first} and {second} are the executions."""

    def falsify(stage: Stage) -> None:
        stage.ask(statement.format(first=stage.accepted[0], second=stage.accepted[1]))

    return falsify


def again(fence: int, run: str) -> Callable[[list[str]], list[str]]:
    """A second run of the second execution's step, under a lease so much later."""

    def change(lines: list[str]) -> list[str]:
        added = []
        for line in lines[3:]:
            uptime, mark, number, step, lease, _ = line.split()
            added.append(f"{uptime} {mark} {number} {step} {int(lease) + fence} {run}\n")
        return lines + added

    return change


def later(seconds: float) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        uptime, *rest = lines[5].split()
        return [*lines[:5], " ".join([f"{float(uptime) + seconds:.2f}", *rest]) + "\n"]

    return change


def leave_out(stage: Stage) -> None:
    """Somebody was told that an execution was accepted, and it is not there."""
    stage.accepted[0] = 10**9


FALSE = {
    "an accepted execution that is gone": (leave_out, "accepted means kept"),
    "an execution that has not ended": (
        row("UPDATE executions_execution SET status = 'running', finished_at = NULL WHERE id = {first}"),
        "accepted means kept",
    ),
    "a DLQ entry of what succeeded": (
        row(
            "INSERT INTO queueing_deadletter (execution_id, tenant_id, reason, error, attempts)"
            " SELECT id, tenant_id, 'outcome_unknown', '', 1 FROM executions_execution WHERE id = {first}"
        ),
        "accepted means kept",
    ),
    "a finished step that ran again": (lambda stage: marks(stage, again(1, "f" * 32)), "never twice"),
    "a step that ran twice under one lease": (lambda stage: marks(stage, again(0, "f" * 32)), "never twice"),
    "a step that is said never to have run": (
        row("UPDATE executions_steptarget SET status = 'skipped' WHERE execution_id = {first}"),
        "never twice",
    ),
    "another's mark within a run": (
        lambda stage: marks(stage, lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]]),
        "never two at once",
    ),
    "an older lease after a newer one": (
        lambda stage: marks(stage, lambda lines: [*lines[3:], *lines[:3]]),
        "never two at once",
    ),
    "a lock that was granted while it was held": (
        row("DELETE FROM chaos.lock WHERE execution_id = {first} AND NOT granted"),
        "never two at once",
    ),
    "an event that another worker wrote": (
        row(
            "UPDATE executions_event SET actor = 'worker:elsewhere/1' WHERE execution_id = {first}"
            " AND kind = 'step.succeeded'"
        ),
        "losers write nothing",
    ),
    "an event of a worker without a lease": (
        row("UPDATE chaos.written SET token = NULL WHERE execution_id = {first} AND seq > 1"),
        "losers write nothing",
    ),
    "a lease that was given while one was out": (
        row("INSERT INTO chaos.lease (execution_id, old_token, new_token) VALUES ({first}, 1, 2)"),
        "losers write nothing",
    ),
    "an event that is missing": (
        row("DELETE FROM executions_event WHERE execution_id = {first} AND kind = 'step.running'"),
        "losers write nothing",
    ),
    "a success without a mark of its end": (
        lambda stage: marks(stage, lambda lines: [*lines[:2], *lines[3:]]),
        "evidence or nothing",
    ),
    "a success with another exit code": (
        row("UPDATE executions_steptarget SET exit_code = 3 WHERE execution_id = {first}"),
        "evidence or nothing",
    ),
    "a machine that is said not to have been reached, and was": (
        row(
            "WITH moved AS (UPDATE executions_asset SET connection = 'ssh' WHERE name = 'one'),"
            " ended AS (UPDATE executions_execution SET status = 'failed' WHERE id = {first}),"
            " told AS (UPDATE executions_event SET kind = 'step.failed' WHERE execution_id = {first}"
            " AND kind = 'step.succeeded')"
            " UPDATE executions_steptarget SET status = 'failed', exit_code = NULL, error_code = 'unreachable'"
            " WHERE execution_id = {first}"
        ),
        "evidence or nothing",
    ),
    "a mark after the end": (lambda stage: marks(stage, later(2.0)), "stop means stop"),
    "a status without its event": (
        row("UPDATE executions_execution SET status = 'failed' WHERE id = {first}"),
        "every change has a name",
    ),
    "a step's status without its event": (
        row("UPDATE executions_step SET status = 'failed' WHERE execution_id = {first}"),
        "every change has a name",
    ),
    "a move that is not legal": (
        row(
            "UPDATE executions_event SET kind = 'execution.approved' WHERE execution_id = {first}"
            " AND kind = 'execution.running'"
        ),
        "every change has a name",
    ),
    "an entry that is left": (
        row(
            "INSERT INTO queueing_queueentry (execution_id, tenant_id, state, priority, available_at, place,"
            " attempts_left) SELECT id, tenant_id, 'ready', 5, now(), now(), 3 FROM executions_execution"
            " WHERE id = {first}"
        ),
        "nothing left behind",
    ),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_false_history_is_found_out(stage: Stage, name: str) -> None:
    falsify, promise = FALSE[name]
    assert check(honest(stage)) == []
    falsify(stage)
    with connect("stage") as connection:
        history = read_history(connection, stage.wanted, stage.accepted, stage.marks)
    assert promise in {violation.promise for violation in check(history)}


def test_a_worker_that_writes_under_the_lease_of_another_is_found_out(stage: Stage) -> None:
    """Two actors, one of which only claims: who had the lease, the witness says, not the events."""
    stage.submit(stage.command("one"))
    claimed = Actor.registered()
    (lease,) = claimed.claim()
    Actor.registered().run([lease])
    with connect("stage") as connection:
        history = read_history(connection, stage.wanted, stage.accepted, stage.marks)
    assert "losers write nothing" in {violation.promise for violation in check(history)}
