"""cancel_executions as an operator uses it, on executions that no worker has taken."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from executions.models import Event, Execution
from executions.services import Submission, submit
from safety.accounts import ensure_first_admin
from safety.models import Tenant, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> User:
    ensure_first_admin()
    return User.objects.get(username="admin")


def queue(by: User, title: str = "look around") -> int:
    plan = {"title": title, "steps": [{"id": "a", "tool": "noop"}]}
    return submit(Submission(plan), by=by).execution_id


def run(*arguments: object) -> tuple[int, list[str]]:
    """Return the exit status and the lines."""
    out = io.StringIO()
    try:
        call_command("cancel_executions", *(str(argument) for argument in arguments), stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


def status(execution_id: int) -> str:
    return Execution.objects.get(pk=execution_id).status


def test_executions_named_are_cancelled_with_who_and_why(admin: User) -> None:
    first, second, other = queue(admin), queue(admin), queue(admin)
    code, lines = run(first, second, first, "--reason", "wrong window")
    assert code == 0
    assert lines == [f"{first}  cancelled", f"{second}  cancelled", "2 of 2 cancelled or being cancelled."]
    assert [status(number) for number in (first, second, other)] == ["cancelled", "cancelled", "queued"]
    event = Event.objects.get(execution=first, kind="execution.cancelled")
    assert (event.actor, event.reason) == ("user:admin", "wrong window")


def test_what_cannot_be_cancelled_is_told_and_ends_with_1(admin: User) -> None:
    ended, waiting = queue(admin), queue(admin)
    run(ended, "--reason", "x")
    code, lines = run(ended, waiting, 999_999, "--reason", "y")
    assert code == 1
    assert lines[:3] == [f"{ended}  already_final", f"{waiting}  cancelled", "999999  not_found"]
    assert lines[3] == "1 of 3 cancelled or being cancelled; 2 not."
    assert Event.objects.filter(execution=ended, kind="execution.cancelled").count() == 1


def test_all_of_a_status_are_cancelled_only_when_that_is_confirmed(
    admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [queue(admin) for _ in range(3)]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(CommandError, match="3 executions: give --yes"):
        run("--status", "queued", "--reason", "x")
    assert {status(number) for number in numbers} == {"queued"}
    code, lines = run("--status", "queued", "--reason", "x", "--yes")
    assert (code, lines[-1]) == (0, "3 of 3 cancelled or being cancelled.")
    assert {status(number) for number in numbers} == {"cancelled"}
    assert run("--status", "queued", "--reason", "x", "--yes") == (0, ["No execution is queued."])


@pytest.mark.parametrize(("answer", "expected"), [("y", "cancelled"), ("", "queued"), ("no", "queued")])
def test_at_a_terminal_it_asks(admin: User, monkeypatch: pytest.MonkeyPatch, answer: str, expected: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    number = queue(admin)
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    if expected == "queued":
        with pytest.raises(CommandError, match="Nothing was cancelled"):
            run("--status", "queued", "--reason", "x")
    else:
        run("--status", "queued", "--reason", "x")
    assert status(number) == expected


def test_a_dry_run_shows_and_changes_nothing(admin: User) -> None:
    number = queue(admin, "rotate the keys")
    code, lines = run("--status", "queued", "--reason", "x", "--dry-run")
    assert code == 0
    assert lines == [f"{number}  queued           rotate the keys", "Would cancel 1 of 1. Nothing was changed."]
    assert run(number, 999_999, "--reason", "x", "--dry-run")[1][-1] == "Would cancel 1 of 2. Nothing was changed."
    assert status(number) == "queued"


def test_a_status_reaches_no_further_than_the_users_tenant(admin: User) -> None:
    other = User.objects.create_superuser("boss", tenant=Tenant.objects.create(name="other"))
    ours, theirs = queue(admin), queue(other)
    run("--status", "queued", "--reason", "x", "--yes", "--as", "boss")
    assert (status(ours), status(theirs)) == ("queued", "cancelled")
    assert run(ours, "--reason", "x", "--as", "boss")[1][0] == f"{ours}  not_found"


def test_somebody_without_the_right_cancels_nothing(admin: User) -> None:
    number = queue(admin)
    User.objects.create_user("visitor").groups.add(admin.groups.model.objects.get(name="viewer"))
    code, lines = run(number, "--reason", "x", "--as", "visitor")
    assert (code, lines[0], status(number)) == (1, f"{number}  forbidden", "queued")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--reason", "x"], "one of the two"),
        ([1, "--status", "queued", "--reason", "x"], "one of the two"),
        ([1, "--reason", "  "], "must say why"),
        ([1], "--reason"),
        ([1, "--reason", "x", "--as", "nobody"], "no active user 'nobody'"),
        (["--status", "succeeded", "--reason", "x"], "invalid choice: 'succeeded'"),
    ],
)
def test_an_order_that_is_not_clear_is_refused(admin: User, arguments: list[object], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        run(*arguments)


def test_without_an_administrator_it_says_how_to_make_one() -> None:
    with pytest.raises(CommandError, match=r"no administrator yet: start `make serve`"):
        run(1, "--reason", "x")
