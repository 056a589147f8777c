"""requeue_dead_letters and discard_dead_letters as an operator uses them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from executions.dead_letter_queries import Selection
from executions.models import Event, StepTarget
from executions.services import requeue_dead_letters, start_batch, work_at_batches
from queueing.models import DeadLetter, DeadLetterBatch, QueueEntry
from safety.accounts import ensure_first_admin
from safety.models import User
from tests.executions.services.parked import execution_of, park
from tests.executions.services.requests import make_user, status_of
from tests.installations import MANAGE, wait_until
from tests.queueing.lines import several

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> User:
    ensure_first_admin()
    return User.objects.get(username="admin")


def run(command: str, *arguments: object) -> tuple[int, list[str]]:
    """Return the exit status and the lines."""
    out = io.StringIO()
    try:
        call_command(f"{command}_dead_letters", *(str(argument) for argument in arguments), stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


def states(letters: list[int]) -> set[str]:
    return set(DeadLetter.objects.filter(pk__in=letters).values_list("state", flat=True))


def test_entries_that_are_named_are_requeued_with_who_and_why(admin: User) -> None:
    first, second, other = park(admin, 3)
    code, lines = run("requeue", first, second, first, "--why", "mended")
    assert code == 0
    batch = DeadLetterBatch.objects.get()
    assert lines == [
        "       2  requeued         back in the queue", f"2 of 2 requeued (batch {batch.pk})."
    ]  # fmt: skip
    assert states([first, second]) == {"requeued"}
    assert states([other]) == {"open"}
    event = Event.objects.get(execution=execution_of(first), kind="execution.requeued")
    assert (event.actor, event.reason) == ("user:admin", "mended")


def test_what_is_not_done_is_told_with_its_reason_and_ends_with_1(admin: User) -> None:
    good, closed = park(admin, 2)
    (unknown,) = park(admin, step_status="unknown", reason="outcome_unknown")
    requeue_dead_letters([closed], by=admin)
    code, lines = run("requeue", good, closed, unknown, 999_999)
    assert code == 1
    told = "\n".join(lines)
    assert f"{unknown:>8}  {execution_of(unknown):>9}  unknown_outcome" in told
    assert "  999999             moved_on" in told
    assert "       2  moved_on         somebody had decided already" in told
    assert lines[-1].startswith("1 of 4 requeued")
    assert run("requeue", closed) == (1, ["No open DLQ entry is selected."])


def test_a_reason_an_error_or_all_is_asked_for_first(admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = park(admin, 2)
    ended = park(admin, 3, reason="attempts_exhausted", error="Each of its 3 attempts ended")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for which, count in ((["--all"], 5), (["--reason", "engine_error"], 2)):
        with pytest.raises(CommandError, match=f"{count} entries: give --yes"):
            run("requeue", *which)
    assert states([*keyed, *ended]) == {"open"}
    group = DeadLetter.objects.get(pk=ended[0]).fingerprint
    assert run("requeue", "--fingerprint", group, "--yes")[0] == 0
    assert states(ended) == {"requeued"}
    assert states(keyed) == {"open"}
    assert run("requeue", "--all", "--yes")[1][-1].startswith("2 of 2 requeued")
    assert run("requeue", "--all", "--yes") == (0, ["No open DLQ entry is selected."])


@pytest.mark.parametrize(("answer", "expected"), [("y", "requeued"), ("", "open"), ("no", "open")])
def test_at_a_terminal_it_asks_with_what_would_be_met(
    admin: User, monkeypatch: pytest.MonkeyPatch, answer: str, expected: str
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    letters = park(admin, 2)
    park(admin, step_status="unknown", reason="outcome_unknown")
    asked: list[str] = []

    def answered(prompt: str) -> str:
        asked.append(prompt)
        return answer

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", answered)
    if expected == "open":
        with pytest.raises(CommandError, match=r"Nothing was changed\."):
            run("requeue", "--all")
    else:
        assert run("requeue", "--all")[0] == 1
    assert asked == [
        "Requeue 3 entries; 1 have a step whose outcome is unknown, and are refused, as admin? [y/N] "
    ]  # fmt: skip
    assert states(letters) == {expected}


def test_a_dry_run_shows_them_and_writes_nothing(admin: User) -> None:
    letters = park(admin, 22)
    code, lines = run("requeue", "--all", "--dry-run")
    assert code == 0
    assert lines[0].split() == ["ENTRY", "EXECUTION", "REASON", "TITLE", "LAST", "ERROR"]
    assert lines[1].split()[:3] == [str(letters[0]), str(execution_of(letters[0])), "engine_error"]
    assert lines[-2:] == ["and 2 more", "Would requeue 22 entries. Nothing was changed."]
    assert states(letters) == {"open"}
    assert not DeadLetterBatch.objects.exists()


def test_from_the_failed_step_wants_to_know_why(admin: User) -> None:
    (letter,) = park(admin, step_status="unknown", reason="outcome_unknown")
    with pytest.raises(CommandError, match="--why") as refused:
        run("requeue", letter, "--from-failed-step")
    assert refused.value.returncode == 2
    assert run("requeue", letter, "--from-failed-step", "--why", "idempotent")[0] == 0
    assert StepTarget.objects.get(execution_id=execution_of(letter)).status == "pending"


def test_discard_ends_them_as_failed_and_wants_to_know_why(admin: User) -> None:
    letters = park(admin, 2)
    with pytest.raises(CommandError, match="--why"):
        run("discard", "--all", "--yes")
    code, lines = run("discard", "--all", "--yes", "--why", "gone")
    assert (code, lines[0]) == (0, "       2  discarded        given up: ended as failed")
    assert {status_of(execution_of(letter)) for letter in letters} == {"failed"}


@pytest.mark.parametrize(
    "arguments", [[], ["--all", "1"], ["1", "--reason", "engine_error"], ["--all", "--fingerprint", "x"]]
)
def test_which_entries_has_to_be_clear(admin: User, arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="Say which") as refused:
        run("requeue", *arguments)
    assert refused.value.returncode == 2


@pytest.mark.parametrize("pace", ["0", "1001", "fast", "-1"])
def test_a_pace_that_is_none_is_refused(admin: User, pace: str) -> None:
    with pytest.raises(CommandError):
        run("requeue", "--all", "--per-second", pace)


def test_it_acts_with_the_rights_of_the_user_it_is_told(admin: User) -> None:
    letters = park(admin, 2)
    make_user("vera", "viewer")
    code, lines = run("requeue", *letters, "--as", "vera")
    assert (code, lines[-1].split(" (")[0]) == (1, "0 of 2 requeued")
    assert "forbidden" in lines[1]
    park(admin, 200)
    with pytest.raises(CommandError, match="You may not decide on 202 entries") as refused:
        run("requeue", "--all", "--yes", "--as", "vera")
    assert refused.value.returncode == 2


@several
def test_ctrl_c_cancels_the_batch_and_says_how_far_it_came(process_environment: dict[str, str]) -> None:
    ensure_first_admin()
    park(User.objects.get(username="admin"), 30)
    process = start("--all", "--yes", "--per-second", "5", environment=process_environment)
    wait_until(lambda: DeadLetterBatch.objects.filter(counts__requeued__gte=1).exists(), what="the first slice")
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 130, told
    batch = DeadLetterBatch.objects.get()
    assert (batch.state, batch.ended_by) == ("cancelled", "user:admin")
    assert 0 < batch.done < 30
    assert f"{30 - batch.done:>8}  waiting" in told
    assert f"{batch.done} of 30 requeued; cancelled (batch {batch.pk})." in told
    assert QueueEntry.objects.count() == batch.done


@several
def test_workers_go_on_with_the_batch_of_a_command_that_is_killed(process_environment: dict[str, str]) -> None:
    ensure_first_admin()
    park(User.objects.get(username="admin"), 20)
    process = start("--all", "--yes", "--per-second", "5", environment=process_environment)
    wait_until(lambda: DeadLetterBatch.objects.filter(counts__requeued__gte=1).exists(), what="the first slice")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    batch = DeadLetterBatch.objects.get()
    assert batch.state == "running"
    DeadLetterBatch.objects.update(per_second=None)
    assert work_at_batches() == 20 - batch.done
    batch.refresh_from_db()
    assert (batch.state, batch.counts) == ("done", {"requeued": 20})
    assert QueueEntry.objects.count() == 20


def start(*arguments: str, environment: dict[str, str]) -> Any:
    return subprocess.Popen(
        [sys.executable, MANAGE, "requeue_dead_letters", *arguments],
        env=environment, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_an_entry_of_another_batch_that_has_been_done_meanwhile_has_moved_on(admin: User) -> None:
    letters = park(admin, 2)
    other = start_batch(Selection(ids=(letters[0],)), verb="discard", by=admin, reason="x")
    assert other is not None
    work_at_batches(other.pk)
    code, lines = run("requeue", *letters)
    assert (code, lines[-1].split(" (")[0]) == (1, "1 of 2 requeued")
