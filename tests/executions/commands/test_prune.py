"""prune as an operator uses it: counted, asked for, killed, and two at the same time."""

from __future__ import annotations

import io
import signal
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from executions.models import Event, Execution
from queueing.connections import connect
from safety.models import User
from tests.executions.live.rows import make_user
from tests.executions.old_rows import old_execution, said, whole
from tests.installations import MANAGE, wait_until

several = pytest.mark.django_db(transaction=True)


@pytest.fixture
def user(db: None) -> User:
    return make_user()


def run(*arguments: str) -> list[str]:
    out = io.StringIO()
    call_command("prune", *arguments, stdout=out)
    return out.getvalue().splitlines()


def started(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, MANAGE, "prune", *arguments],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_it_says_its_rules_and_what_it_removed(user: User) -> None:
    old_execution(user, 100)
    assert run("--yes", "--pause", "0") == [
        "Events and output are kept for 90 days after the end of their execution, executions for 730 days.",
        "Removed 2 pieces of output, 1 events.",
    ]
    assert run("--yes")[-1] == "Removed nothing."


def test_a_dry_run_counts_and_changes_nothing(user: User) -> None:
    execution = old_execution(user, 100)
    assert run("--dry-run")[-1] == (
        "Would remove 1 executions that lose their events, 2 pieces of output, 1 events. Nothing was changed."
    )
    assert whole() == {execution.pk}


def test_without_a_terminal_it_wants_to_be_told_yes(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = old_execution(user, 100)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(CommandError, match="give --yes"):
        run()
    assert whole() == {execution.pk}


@pytest.mark.parametrize(("answer", "events"), [("y", 0), ("", 1), ("no", 1)])
def test_at_a_terminal_it_asks(user: User, monkeypatch: pytest.MonkeyPatch, answer: str, events: int) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    old_execution(user, 100)
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    if events:
        with pytest.raises(CommandError, match="Nothing was removed"):
            run()
    else:
        run()
    assert Event.objects.count() == events


@pytest.mark.parametrize("arguments", [("--batch", "0"), ("--batch", "x"), ("--pause", "-1"), ("--pause", "soon")])
def test_a_pace_that_makes_no_sense_is_refused(arguments: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match="please"):
        run("--yes", *arguments)


@several
def test_killed_in_the_middle_it_leaves_nothing_half_shown_and_ends_the_next_time(
    process_environment: dict[str, str], user: User
) -> None:
    old = [old_execution(user, 100, chunks=20) for _ in range(40)]
    young = old_execution(user, 1)
    process = started(process_environment, "--yes", "--batch", "7", "--pause", "0.01")
    try:
        wait_until(lambda: sum(map(said, old)) < 700, what="some of it is removed")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
    left = sum(map(said, old))
    assert 0 < left < 700
    assert young.pk in whole()  # which also looks that whoever lacks a part says so
    ended = started(process_environment, "--yes", "--pause", "0")
    said_by_it, _ = ended.communicate(timeout=60)
    assert ended.returncode == 0, said_by_it
    assert sum(map(said, old)) == 0
    assert whole() == {young.pk}
    assert Execution.objects.count() == 41


@several
def test_ctrl_c_ends_it_with_what_it_did_and_how_to_go_on(process_environment: dict[str, str], user: User) -> None:
    old = [old_execution(user, 100, chunks=20) for _ in range(40)]
    process = started(process_environment, "--yes", "--batch", "7", "--pause", "0.01")
    wait_until(lambda: sum(map(said, old)) < 700, what="some of it is removed")
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told.splitlines()[-1].startswith("Stopped after removing ")
    assert told.splitlines()[-1].endswith("Run it again to go on.")


@several
def test_two_of_them_take_turns(process_environment: dict[str, str], user: User) -> None:
    execution = old_execution(user, 100)
    with connect("test") as other:
        assert other.execute("SELECT pg_try_advisory_lock(hashtextextended('opsconductor prune', 0))").fetchone() == (
            True,
        )
        process = started(process_environment, "--yes")
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert "Another prune is at work" in lines[1]
        assert whole() == {execution.pk}
    # The connection of the other one is gone, and its turn with it.
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert said(execution) == 0


@several
def test_a_row_that_somebody_has_in_hand_is_left_for_the_next_time(user: User) -> None:
    """So it never waits in the way of somebody else, who might be waiting for it."""
    execution = old_execution(user, 100)
    with connect("test") as other:
        with other.transaction():
            other.execute("SELECT FROM executions_execution WHERE id = %s FOR UPDATE", (execution.pk,))
            assert run("--yes", "--pause", "0")[-1] == "Removed nothing."
        assert run("--yes", "--pause", "0")[-1] == "Removed 2 pieces of output, 1 events."


@several
def test_a_key_that_is_used_again_in_that_moment_stays(user: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO safety_idempotencykey (tenant_id, key, execution_id, request_hash, blocks_until)"
            " VALUES (%s, 'k', 1, '', to_timestamp(0))",
            [user.tenant_id],
        )
    with connect("test") as other:
        with other.transaction():
            other.execute("UPDATE safety_idempotencykey SET blocks_until = now() + interval '1 day' WHERE key = 'k'")
            assert run("--yes", "--pause", "0")[-1] == "Removed nothing."
        assert run("--yes", "--pause", "0")[-1] == "Removed nothing."
