"""The first administrator, tenants of new users, roles and tokens."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from pytest_django import DjangoAssertNumQueries

from safety import accounts, rbac
from safety.models import ApiToken, Tenant, User


@pytest.mark.django_db
def test_the_first_admin_can_sign_in_with_the_password_that_is_told_once() -> None:
    password = accounts.ensure_first_admin()
    assert password is not None
    admin = authenticate(username="admin", password=password)
    assert isinstance(admin, User)
    assert (admin.is_superuser, admin.is_staff, admin.tenant.name) == (True, True, "default")
    assert list(admin.groups.values_list("name", flat=True)) == ["admin"]
    assert accounts.ensure_first_admin() is None
    assert authenticate(username="admin", password=password) == admin


@pytest.mark.django_db
def test_no_admin_is_made_where_there_is_a_user() -> None:
    User.objects.create_user("somebody")
    assert accounts.ensure_first_admin() is None
    assert not User.objects.filter(username="admin").exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_processes_at_once_one_makes_the_first_admin() -> None:
    barrier = threading.Barrier(8)

    def start(_number: int) -> str | None:
        try:
            barrier.wait(timeout=20)
            return accounts.ensure_first_admin()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        passwords = [password for password in threads.map(start, range(8)) if password is not None]
    assert len(passwords) == 1
    assert authenticate(username="admin", password=passwords[0]) is not None
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_createsuperuser_needs_no_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery staple")
    call_command("createsuperuser", username="root", email="root@example.com", interactive=False)
    user = User.objects.get(username="root")
    assert (user.is_superuser, user.is_staff, user.tenant.name) == (True, True, "default")


@pytest.mark.django_db
def test_a_user_may_be_made_in_another_tenant() -> None:
    other = Tenant.objects.create(name="other")
    assert User.objects.create_user("a", tenant=other).tenant == other
    assert User.objects.create_superuser("b", tenant_id=other.pk).tenant == other


@pytest.mark.django_db
def test_setting_roles_replaces_roles_and_keeps_other_groups() -> None:
    user = User.objects.create_user("alice")
    team = Group.objects.create(name="team")
    user.groups.add(team)
    assert accounts.set_roles(user, ["requester", "operator"]) == set()
    assert User.objects.get(pk=user.pk).is_staff
    assert accounts.set_roles(user, ["viewer"]) == {"requester", "operator"}
    assert set(user.groups.values_list("name", flat=True)) == {"viewer", "team"}
    assert not User.objects.get(pk=user.pk).is_staff


@pytest.mark.django_db
def test_an_unknown_role_changes_nothing() -> None:
    user = User.objects.create_user("alice")
    accounts.set_roles(user, ["viewer"])
    with pytest.raises(accounts.UnknownRole, match="'boss'; the roles are viewer"):
        accounts.set_roles(user, ["admin", "boss"])
    assert rbac.roles_of(user) == {"viewer"}


# --- tokens


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


def test_a_token_stands_for_its_user_and_only_its_hash_is_kept(alice: User) -> None:
    value = accounts.issue_token(alice, "pipeline")
    assert value.startswith("oc_")
    assert len(value) >= 43
    assert accounts.authenticate_token(value) == alice
    kept = repr(ApiToken.objects.values_list().get())
    assert value not in kept
    assert value.removeprefix("oc_") not in kept


def test_two_tokens_of_a_user_differ(alice: User) -> None:
    assert accounts.issue_token(alice) != accounts.issue_token(alice)


@pytest.mark.parametrize("value", ["", "oc_", "oc_wrong", "Bearer oc_x", "oc_\x00", "oc_é", "x" * 100_000])
def test_what_is_no_token_stands_for_nobody(alice: User, value: str) -> None:
    accounts.issue_token(alice)
    assert accounts.authenticate_token(value) is None


def test_a_changed_character_makes_a_token_worthless(alice: User) -> None:
    value = accounts.issue_token(alice)
    assert accounts.authenticate_token(value[:-1] + ("A" if value[-1] != "A" else "B")) is None
    assert accounts.authenticate_token(value + "A") is None


def test_an_expired_token_stands_for_nobody(alice: User) -> None:
    value = accounts.issue_token(alice, expires_in=timedelta(hours=1))
    ApiToken.objects.update(expires_at=Now() - timedelta(milliseconds=1))
    assert accounts.authenticate_token(value) is None


def test_expiry_is_counted_by_the_clock_of_the_database(alice: User) -> None:
    accounts.issue_token(alice, expires_in=timedelta(days=3))
    lifetime = ApiToken.objects.annotate(lifetime=F("expires_at") - F("created_at")).get().lifetime
    assert abs(lifetime - timedelta(days=3)) < timedelta(seconds=1)


def test_a_token_cannot_be_made_already_expired(alice: User) -> None:
    with pytest.raises(ValueError, match="longer time"):
        accounts.issue_token(alice, expires_in=timedelta(0))


def test_a_revoked_token_stands_for_nobody_and_is_revoked_once(alice: User) -> None:
    value, other = accounts.issue_token(alice), accounts.issue_token(alice)
    token = ApiToken.objects.get(digest=accounts.token_digest(value))
    assert accounts.revoke_token(token.pk)
    assert accounts.authenticate_token(value) is None
    assert accounts.authenticate_token(other) == alice
    assert not accounts.revoke_token(token.pk)
    assert accounts.revoke_tokens_of(alice) == 1
    assert accounts.authenticate_token(other) is None


def test_a_token_of_an_inactive_user_stands_for_nobody(alice: User) -> None:
    value = accounts.issue_token(alice)
    User.objects.update(is_active=False)
    assert accounts.authenticate_token(value) is None


def test_use_is_noted_at_most_once_a_minute(alice: User, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    value = accounts.issue_token(alice)
    with django_assert_num_queries(2):
        accounts.authenticate_token(value)
    first = ApiToken.objects.get().last_used_at
    assert first is not None
    with django_assert_num_queries(1):
        accounts.authenticate_token(value)
    assert ApiToken.objects.get().last_used_at == first

    ApiToken.objects.update(last_used_at=Now() - timedelta(seconds=61))
    accounts.authenticate_token(value)
    noted = ApiToken.objects.get().last_used_at
    assert noted is not None
    assert noted >= first
