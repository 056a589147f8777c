"""Who may do what: rights by role, by object, by group, across tenants, one question at a time and many at once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission
from guardian.shortcuts import assign_perm, remove_perm
from pytest_django import DjangoAssertNumQueries

from executions.models import Asset, AssetGroup, Execution, Step, StepTarget
from safety import rbac
from safety.accounts import set_roles
from safety.models import ActionClass, Tenant, User

pytestmark = pytest.mark.django_db

LEVELS = ["read", "modify", "deploy"]
_numbers = itertools.count(1)


def make_user(*roles: str, tenant: str = "default", **fields: Any) -> User:
    user = User.objects.create_user(
        f"user-{next(_numbers)}", tenant=Tenant.objects.get_or_create(name=tenant)[0], **fields
    )
    set_roles(user, roles)
    return user


def make_asset(tenant: str = "default", **fields: Any) -> Asset:
    owner = Tenant.objects.get_or_create(name=tenant)[0]
    return Asset.objects.create(tenant=owner, name=f"machine-{next(_numbers)}", connection="ssh", **fields)


def make_group(*assets: Asset, tenant: str = "default") -> AssetGroup:
    owner = Tenant.objects.get_or_create(name=tenant)[0]
    group = AssetGroup.objects.create(tenant=owner, name=f"group-{next(_numbers)}")
    group.assets.set(assets)
    return group


def make_execution(actor: User, *assets: Asset) -> Execution:
    execution = Execution.objects.create(
        tenant=actor.tenant, actor=actor, title="t", status="pending_approval", plan_hash="0" * 64,
        action_class="modify", sla_class="fast", approval_level=2, priority=5, execution_seconds=60, step_seconds=10,
        max_attempts=3,
    )  # fmt: skip
    step = Step.objects.create(execution=execution, position=1, key="a", tool="command")
    for position, asset in enumerate(assets, 1):
        StepTarget.objects.create(execution=execution, step=step, position=position, asset=asset, name=asset.name)
    return execution


def allowed_levels(user: User, asset: Asset) -> list[str]:
    return [level for level in LEVELS if rbac.permitted_assets(user, level, [asset.pk])]


# --- executing


@pytest.mark.parametrize("role", ["viewer", "requester", "approver", "operator", None])
def test_no_role_but_admin_gives_a_right_on_a_target(role: str | None) -> None:
    assert allowed_levels(make_user(*[role] if role else []), make_asset()) == []


def test_an_admin_and_a_superuser_may_everything_in_their_tenant_and_nothing_outside() -> None:
    ours, theirs = make_asset(), make_asset(tenant="other")
    for user in (make_user("admin"), make_user(is_superuser=True)):
        assert allowed_levels(user, ours) == LEVELS
        assert allowed_levels(user, theirs) == []


@pytest.mark.parametrize(("permission", "levels"), [("read", 1), ("modify", 2), ("deploy", 3)])
@pytest.mark.parametrize("by", ["user", "group"])
@pytest.mark.parametrize("on", ["asset", "asset group"])
def test_an_object_permission_allows_its_action_class_and_the_lesser_ones_on_that_object(
    permission: str, levels: int, by: str, on: str
) -> None:
    user, asset, other = make_user("requester"), make_asset(), make_asset()
    holder: User | Group = user
    if by == "group":
        holder = Group.objects.create(name="team")
        user.groups.add(holder)
    assign_perm(f"execute_{permission}", holder, asset if on == "asset" else make_group(asset))

    assert allowed_levels(user, asset) == LEVELS[:levels]
    assert allowed_levels(user, other) == []
    assert allowed_levels(make_user("requester"), asset) == []


def test_a_permission_without_an_object_counts_on_every_asset_of_the_tenant() -> None:
    user, ours, theirs = make_user(), make_asset(), make_asset(tenant="other")
    user.user_permissions.add(Permission.objects.get(content_type__model="asset", codename="execute_modify"))
    assert allowed_levels(user, ours) == ["read", "modify"]
    assert allowed_levels(user, theirs) == []

    by_group = make_user()
    team = Group.objects.create(name="team")
    team.permissions.add(Permission.objects.get(content_type__model="assetgroup", codename="execute_read"))
    by_group.groups.add(team)
    assert allowed_levels(by_group, ours) == ["read"]


def test_a_permission_on_an_asset_of_another_tenant_is_worth_nothing() -> None:
    user, theirs = make_user("requester"), make_asset(tenant="other")
    assign_perm("execute_deploy", user, theirs)
    assign_perm("execute_deploy", user, make_group(theirs, tenant="other"))
    assert allowed_levels(user, theirs) == []


def test_the_same_number_of_an_asset_and_a_group_are_not_taken_for_each_other() -> None:
    user, asset, inside = make_user("requester"), make_asset(), make_asset()
    group = AssetGroup.objects.create(pk=asset.pk, tenant=asset.tenant, name="same number")
    group.assets.set([inside])
    assign_perm("execute_modify", user, asset)
    assert allowed_levels(user, inside) == []
    assign_perm("execute_read", make_user(), group)
    remove_perm("execute_modify", user, asset)
    assign_perm("execute_modify", user, group)
    assert allowed_levels(user, asset) == []
    assert allowed_levels(user, inside) == ["read", "modify"]


def test_an_asset_that_is_not_there_is_not_permitted_to_anybody() -> None:
    assert rbac.permitted_assets(make_user(is_superuser=True), "read", [2**62]) == set()


@pytest.mark.parametrize("withdraw", ["permission", "membership", "active", "role"])
def test_a_right_that_is_withdrawn_is_gone_at_the_next_question(withdraw: str) -> None:
    user, asset, team = make_user(), make_asset(), Group.objects.create(name="team")
    if withdraw == "role":
        set_roles(user, ["admin"])
    else:
        user.groups.add(team)
        assign_perm("execute_read", team, asset)
    assert rbac.permitted_many([(user.pk, "read", [asset.pk])]) == [True]

    if withdraw == "permission":
        remove_perm("execute_read", team, asset)
    elif withdraw == "membership":
        user.groups.clear()
    elif withdraw == "active":
        User.objects.filter(pk=user.pk).update(is_active=False)
    else:
        set_roles(user, ["requester"])
    assert rbac.permitted_many([(user.pk, "read", [asset.pk])]) == [False]


def test_a_plan_is_permitted_only_when_every_target_is() -> None:
    user, mine, other = make_user("requester"), make_asset(), make_asset()
    assign_perm("execute_modify", user, mine)
    answers = rbac.permitted_many(
        [
            (user.pk, "modify", [mine.pk]),
            (user.pk, "modify", [mine.pk, other.pk]),
            (user.pk, "deploy", [mine.pk]),
            (user.pk, ActionClass.READ, {mine.pk}),
            (make_user("admin").pk, "deploy", [mine.pk, other.pk]),
        ]
    )
    assert answers == [True, False, False, True, True]


def test_no_targets_is_not_a_pass_for_everybody() -> None:
    with_right = make_user()
    assign_perm("execute_read", with_right, make_asset())
    team_member, team = make_user(), Group.objects.create(name="team")
    team_member.groups.add(team)
    assign_perm("execute_read", team, make_group())
    users = [make_user("requester"), make_user("admin"), make_user(is_superuser=True), with_right, team_member]
    others = [make_user(), make_user("viewer"), make_user("approver", "operator"), make_user("admin", is_active=False)]

    assert rbac.permitted_many([(user.pk, "read", []) for user in [*users, *others]]) == [True] * 5 + [False] * 4
    assert [rbac.can_submit(user) for user in [*users, *others]] == [True] * 5 + [False] * 4
    assert not rbac.can_submit(AnonymousUser())


def test_hundreds_of_requests_cost_two_queries(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    assets = [make_asset() for _ in range(20)]
    group = make_group(*assets[:10])
    users = [make_user("requester") for _ in range(5)]
    for user in users:
        assign_perm("execute_modify", user, group)
    requests: list[rbac.ExecuteRequest] = [
        (user.pk, level, [asset.pk]) for user in users for asset in assets for level in LEVELS
    ]
    requests.append((users[0].pk, "read", []))
    with django_assert_num_queries(2):
        answers = rbac.permitted_many(requests)
    expected = [asset in assets[:10] and level != "deploy" for _ in users for asset in assets for level in LEVELS]
    assert answers == [*expected, True]
    with django_assert_num_queries(1):
        assert rbac.permitted_assets(users[0], "modify", [asset.pk for asset in assets]) == {a.pk for a in assets[:10]}
    with django_assert_num_queries(0):
        assert rbac.permitted_many([]) == []


# --- roles


def test_an_admin_has_every_role_and_an_unknown_role_is_a_mistake() -> None:
    assert rbac.roles_of(make_user("admin")) == set(rbac.ROLES)
    assert rbac.roles_of(make_user("viewer", "operator")) == {"viewer", "operator"}
    assert rbac.roles_of(make_user("admin", is_active=False)) == set()
    assert rbac.roles_of(AnonymousUser()) == set()
    with pytest.raises(ValueError, match="operater"):
        rbac.has_role(make_user(), "operater")


def test_only_operators_and_admins_operate() -> None:
    may = {role: rbac.can_operate(make_user(role)) for role in rbac.ROLES}
    assert may == {"viewer": False, "requester": False, "approver": False, "operator": True, "admin": True}
    assert not rbac.can_operate(AnonymousUser())


# --- seeing


def visible(user: User | AnonymousUser) -> set[Any]:
    return {
        *Execution.objects.filter(rbac.visible_executions(user)),
        *Asset.objects.filter(rbac.visible_assets(user)).exclude(name="localhost"),
    }


@pytest.mark.parametrize("role", list(rbac.ROLES))
def test_every_role_sees_all_of_its_tenant_and_nothing_of_another(role: str) -> None:
    ours, theirs = make_asset(), make_asset(tenant="other")
    execution = make_execution(make_user("admin"), ours)
    foreign = make_execution(make_user("admin", tenant="other"), theirs)
    user = make_user(role)
    assert visible(user) == {ours, execution}
    assert rbac.can_view(user, execution)
    assert not rbac.can_view(user, foreign)


def test_without_a_role_one_sees_what_one_submitted_or_was_given() -> None:
    user, mine, grouped, hidden = make_user(), make_asset(), make_asset(), make_asset()
    own, given, other = make_execution(user), make_execution(make_user()), make_execution(make_user())
    assert visible(user) == {own}

    team = Group.objects.create(name="team")
    user.groups.add(team)
    assign_perm("view_execution", team, given)
    assign_perm("execute_read", user, mine)
    assign_perm("approve", team, make_group(grouped))
    assert visible(user) == {own, given, mine, grouped}
    assert [rbac.can_view(user, execution) for execution in (own, given, other)] == [True, True, False]
    assert hidden not in visible(user)


def test_an_inactive_or_unknown_user_sees_nothing() -> None:
    user = make_user("admin")
    execution = make_execution(user, make_asset())
    user.is_active = False
    user.save()
    for somebody in (user, AnonymousUser()):
        assert visible(somebody) == set()
        assert not rbac.can_view(somebody, execution)
        assert not rbac.can_cancel(somebody, execution)
        assert not rbac.can_approve(somebody, execution)


# --- cancelling and approving


def test_the_requester_operators_admins_and_those_given_it_may_cancel() -> None:
    requester, chosen, teammate, team = (
        make_user("requester"),
        make_user(),
        make_user(),
        Group.objects.create(name="team"),
    )
    teammate.groups.add(team)
    execution, another = make_execution(requester), make_execution(make_user())
    assign_perm("cancel", chosen, execution)
    assign_perm("cancel", team, execution)
    may = [requester, make_user("operator"), make_user("admin"), chosen, teammate]
    may_not = [make_user("viewer", "approver"), make_user("requester"), make_user("admin", tenant="other")]
    assert [rbac.can_cancel(user, execution) for user in may] == [True] * 5
    assert [rbac.can_cancel(user, execution) for user in may_not] == [False] * 3
    assert not rbac.can_cancel(chosen, another)


def test_approvers_approve_on_everything_others_only_where_every_target_is_in_a_group_of_theirs() -> None:
    inside, inside_two, outside = make_asset(), make_asset(), make_asset()
    chosen = make_user()
    assign_perm("approve", chosen, make_group(inside))
    assign_perm("approve", chosen, make_group(inside_two))
    covered = make_execution(make_user(), inside, inside_two)
    partly = make_execution(make_user(), inside, outside)
    without_target = make_execution(make_user())

    for user in (make_user("approver"), make_user("admin")):
        assert all(rbac.can_approve(user, execution) for execution in (covered, partly, without_target))
    assert [rbac.can_approve(chosen, execution) for execution in (covered, partly, without_target)] == [
        True,
        False,
        False,
    ]
    for user in (make_user("requester", "operator"), make_user("approver", tenant="other"), make_user()):
        assert not rbac.can_approve(user, covered)


def test_a_target_whose_asset_was_removed_cannot_be_approved_by_a_group_right() -> None:
    kept, removed, chosen = make_asset(), make_asset(), make_user()
    assign_perm("approve", chosen, make_group(kept, removed))
    execution = make_execution(make_user(), kept, removed)
    assert rbac.can_approve(chosen, execution)
    removed.delete()
    assert not rbac.can_approve(chosen, execution)
