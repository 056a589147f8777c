"""create_token and set_role as an operator uses them."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.db.models import F

from safety import accounts, rbac
from safety.models import ApiToken, AuditRecord, Tenant, User
from safety.scopes import ALL_SCOPES

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[str, str]:
    out, errors = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=errors)
    return out.getvalue(), errors.getvalue()


@pytest.mark.parametrize("command", ["create_token", "create_user", "set_role"])
def test_help_shows_an_example_on_lines_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command(command, "--help")
    lines = capsys.readouterr().out.splitlines()
    assert "example:" in lines
    assert any(line.startswith(f"  manage.py {command} alice") for line in lines)


def test_the_token_is_the_last_word_and_works() -> None:
    alice = User.objects.create_user("alice")
    accounts.set_roles(alice, ["requester"])
    out, errors = run("create_token", "alice", "--label", "release pipeline", "--days", "2")
    assert accounts.authenticate_token(out.split()[-1]) == alice
    assert errors == ""
    assert ApiToken.objects.get().label == "release pipeline"


def test_a_token_may_be_limited_to_scopes_and_to_a_time() -> None:
    User.objects.create_user("alice", is_superuser=True)
    out, _ = run("create_token", "alice", "--scope", "submit", "--scope", "read", "--expires-in", "90m")
    assert "valid for 90 minutes, for read, submit only: oc_" in out
    bearer = accounts.bearer_of(out.split()[-1])
    assert bearer is not None
    assert bearer.scopes == {"read", "submit"}
    lifetime = ApiToken.objects.annotate(lifetime=F("expires_at") - F("created_at")).get().lifetime
    assert abs(lifetime - timedelta(minutes=90)) < timedelta(seconds=1)


def test_without_a_scope_a_token_may_do_all_that_its_user_may() -> None:
    User.objects.create_user("alice", is_superuser=True)
    out, _ = run("create_token", "alice")
    assert "valid for 365 days: oc_" in out
    bearer = accounts.bearer_of(out.split()[-1])
    assert bearer is not None
    assert bearer.scopes == set(ALL_SCOPES)


def test_a_token_for_an_unknown_user_says_what_to_do_and_makes_nothing() -> None:
    with pytest.raises(CommandError, match=r"no user 'nobody'.*--create"):
        run("create_token", "nobody")
    assert not ApiToken.objects.exists()


def test_create_makes_the_user_with_its_roles_in_its_tenant() -> None:
    Tenant.objects.create(name="other")
    out, errors = run(
        "create_token", "robot", "--create", "--role", "requester", "--role", "viewer", "--tenant", "other"
    )
    user = accounts.authenticate_token(out.split()[-1])
    assert user is not None
    assert (user.username, user.tenant.name, user.has_usable_password()) == ("robot", "other", False)
    assert rbac.roles_of(user) == {"requester", "viewer"}
    assert "Made the user robot" in errors


def test_a_user_without_a_role_is_pointed_to_set_role() -> None:
    assert "manage.py set_role robot ROLE" in run("create_token", "robot", "--create")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["new", "--create", "--tenant", "nowhere"], "no tenant 'nowhere'; there are default"),
        (["a b", "--create"], "valid username"),
        (["alice", "--role", "admin"], "exists already"),
        (["alice", "--days", "0"], "--days must be"),
        (["alice", "--days", "3", "--expires-in", "3d"], "not both"),
        (["alice", "--expires-in", "0d"], "--expires-in must be"),
        (["alice", "--expires-in", "9999d"], "--expires-in must be"),
        (["alice", "--expires-in", "soon"], "--expires-in must be"),
        (["alice", "--label", "x" * 121], "--label"),
        (["gone"], "not active"),
    ],
)
def test_a_token_that_cannot_be_made_is_refused_with_a_sentence(arguments: list[str], says: str) -> None:
    User.objects.create_user("alice")
    User.objects.create_user("gone", is_active=False)
    with pytest.raises(CommandError, match=says):
        run("create_token", *arguments)
    assert not ApiToken.objects.exists()
    assert User.objects.count() == 2


def test_set_role_says_what_is_and_what_was() -> None:
    alice = User.objects.create_user("alice")
    assert run("set_role", "alice", "operator", "viewer")[0] == "alice: viewer, operator (before: no role)\n"
    assert run("set_role", "alice")[0] == "alice: no role (before: viewer, operator)\n"
    assert rbac.roles_of(alice) == set()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nobody", "viewer"], "create_token nobody --create"), (["alice", "boss"], "the roles are")],
)
def test_set_role_refuses_with_a_sentence(arguments: list[str], says: str) -> None:
    User.objects.create_user("alice")
    with pytest.raises(CommandError, match=says):
        run("set_role", *arguments)


def test_a_tenant_and_its_first_person_are_made_without_sql() -> None:
    out, _ = run("create_tenant", "acme")
    assert "create_user NAME --tenant acme" in out
    out, errors = run("create_user", "root-of-acme", "--tenant", "acme", "--role", "admin")
    user = authenticate(username="root-of-acme", password=out.split()[-1])
    assert isinstance(user, User)
    assert (user.tenant.name, user.is_staff, user.is_superuser, errors) == ("acme", True, False, "")
    assert "admin" in rbac.roles_of(user)
    made = AuditRecord.objects.filter(tenant=user.tenant).order_by("pk").values_list("action", flat=True)
    assert list(made) == ["tenant.create", "user.create", "user.set_roles"]


def test_a_password_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery staple\n"))
    out, errors = run("create_user", "alice", "--password-stdin")
    assert authenticate(username="alice", password="correct horse battery staple") is not None
    assert "staple" not in out
    assert "manage.py set_role alice ROLE" in errors


def test_a_user_for_tokens_alone_has_no_password() -> None:
    run("create_user", "robot", "--no-password", "--role", "viewer")
    assert not User.objects.get().has_usable_password()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create_tenant", "default"], "already exists"),
        (["create_tenant", "a b"], "valid"),
        (["create_tenant", ""], "blank"),
        (["create_user", "alice"], "already exists"),
        (["create_user", "a b"], "valid username"),
        (["create_user", "bob", "--tenant", "nowhere"], "no tenant 'nowhere'; there are default"),
        (["create_user", "bob", "--email", "no address"], "valid email"),
        (["create_user", "bob", "--password-stdin"], "too short"),
    ],
)
def test_who_cannot_be_made_is_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    User.objects.create_user("alice")
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(CommandError, match=says):
        run(*arguments)
    assert (Tenant.objects.count(), User.objects.count()) == (1, 1)
