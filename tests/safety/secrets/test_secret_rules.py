"""Rules: who may name which secrets in plans."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group

from safety.accounts import set_roles
from safety.models import SecretRule, Tenant, User
from safety.secrets.rules import forbidden_paths

PATHS = {"db/orders", "db/orders/backup", "db/other", "web", "dbx"}


@pytest.fixture
def requester(db: None) -> User:
    user = User.objects.create_user("ruth", password="only-for-this-test-1")
    set_roles(user, ["requester"])
    return user


def rule(prefix: str, *groups: str, tenant: str = "default") -> SecretRule:
    made = SecretRule.objects.create(tenant=Tenant.objects.get(name=tenant), prefix=prefix)
    made.groups.set([Group.objects.get_or_create(name=name)[0] for name in groups])
    return made


def test_without_a_rule_whoever_submits_may_use_a_secret(requester: User) -> None:
    assert forbidden_paths(requester, PATHS) == set()


def test_a_rule_holds_for_the_path_and_what_is_below_it_and_for_nothing_else(requester: User) -> None:
    rule("db/orders", "dba")
    assert forbidden_paths(requester, PATHS) == {"db/orders", "db/orders/backup"}
    requester.groups.add(Group.objects.get(name="dba"))
    assert forbidden_paths(requester, PATHS) == set()


def test_the_longest_prefix_decides(requester: User) -> None:
    rule("")
    rule("db", "requester")
    rule("db/orders", "dba")
    assert forbidden_paths(requester, PATHS) == {"db/orders", "db/orders/backup", "web", "dbx"}


def test_a_rule_without_groups_leaves_it_to_administrators(requester: User) -> None:
    rule("web")
    admin = User.objects.create_user("ada", password="only-for-this-test-1")
    set_roles(admin, ["admin"])
    assert forbidden_paths(requester, {"web"}) == {"web"}
    assert forbidden_paths(admin, {"web"}) == set()
    assert forbidden_paths(User.objects.create_superuser("root"), {"web"}) == set()


def test_rules_of_another_tenant_mean_nothing_here(requester: User) -> None:
    Tenant.objects.create(name="other")
    rule("", tenant="other")
    assert forbidden_paths(requester, PATHS) == set()


def test_somebody_inactive_may_use_nothing(requester: User) -> None:
    requester.is_active = False
    assert forbidden_paths(requester, PATHS) == PATHS
