"""Who may do what. Rights are given by roles (groups of that name) and by object permissions.

    viewer     sees everything of its tenant
    requester  as viewer; submits plans; on a target only with an object permission
    approver   as viewer; approves executions of others, on any asset of its tenant
    operator   as viewer; works on the DLQ, cancels any execution; runs nothing by itself. In the
               tenant `default` it also steers queue and workers, which all tenants share
    admin      everything in its tenant (as a superuser does)

Object permissions, of a user or of a group, on an asset or an asset group: execute_read, execute_modify and
execute_deploy, where a later one includes the earlier ones; on an asset group `approve`; on an execution
`view_execution` and `cancel`. The same permission given without an object counts for every object of the tenant.
Whoever holds any execute permission may submit, with or without the role requester. Nothing reaches across tenants,
and an inactive user may do nothing.

Executions are known here by their columns only, never by import: rights come first. Nothing is cached: a right that is
withdrawn is gone at the next question.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from django.apps import apps
from django.contrib.auth.models import AnonymousUser, Permission
from django.db import connection
from django.db.models import CharField, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Cast
from guardian.models import GroupObjectPermission, UserObjectPermission

from opsconductor.prepared import prepared_cursor
from safety.models import DEFAULT_TENANT, ActionClass, User


class Role(StrEnum):
    VIEWER = "viewer"
    REQUESTER = "requester"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"


ROLES: tuple[str, ...] = tuple(role.value for role in Role)
EXECUTE_PERMISSIONS = {
    ActionClass.READ: "execute_read",
    ActionClass.MODIFY: "execute_modify",
    ActionClass.DEPLOY: "execute_deploy",
}

VIEW_EXECUTION = ("view_execution", "cancel")
VIEW_ASSET = ("view_asset", *EXECUTE_PERMISSIONS.values())
VIEW_ASSET_GROUP = ("view_assetgroup", "approve", *EXECUTE_PERMISSIONS.values())

_LEVEL = {ActionClass.READ: 1, ActionClass.MODIFY: 2, ActionClass.DEPLOY: 3}
_SQL = Path(__file__).parent / "sql"
_EXECUTE_GRANTS = (_SQL / "execute_grants.sql").read_text()
_APPROVERS = (_SQL / "approvers.sql").read_text().replace("{grants}", (_SQL / "approve_grants.sql").read_text())
_SUBMITTERS = (_SQL / "submitters.sql").read_text()


class ExecutionRow(Protocol):
    """What is asked of an execution here: any row with these columns."""

    @property
    def pk(self) -> int: ...
    @property
    def tenant_id(self) -> int: ...
    @property
    def actor_id(self) -> int: ...


ExecuteRequest = tuple[int, str, Collection[int]]  # id of the user, action class, ids of the assets


def roles_of(user: User | AnonymousUser) -> frozenset[str]:
    """Return the roles that `user` has: all of them for a superuser or admin, none for somebody inactive. One query."""
    if not isinstance(user, User) or not user.is_active:
        return frozenset()
    if user.is_superuser:
        return frozenset(ROLES)
    held = frozenset(user.groups.filter(name__in=ROLES).values_list("name", flat=True))
    return frozenset(ROLES) if Role.ADMIN in held else held


def has_role(user: User | AnonymousUser, role: str) -> bool:
    """Whether `user` has this role. Admins and superusers have every role. Raises ValueError for an unknown role."""
    return Role(role) in roles_of(user)


def can_operate(user: User | AnonymousUser) -> bool:
    """Whether `user` may work on the DLQ and the inventory of its tenant, and cancel any execution of it."""
    return has_role(user, Role.OPERATOR)


def can_operate_installation(user: User | AnonymousUser) -> bool:
    """Whether `user` may see and steer what all tenants share: queue and workers.

    Operators of the tenant `default` may, who run the installation; nobody of another tenant, whatever the role.
    """
    return isinstance(user, User) and user.tenant.name == DEFAULT_TENANT and can_operate(user)


def can_govern_installation(user: User | AnonymousUser) -> bool:
    """Whether `user` may change what holds for every tenant: time limits, roles and teams.

    Superusers of the tenant `default` may. A superuser of another tenant is above everybody there, and nowhere else.
    """
    return isinstance(user, User) and user.is_active and user.is_superuser and user.tenant.name == DEFAULT_TENANT


# --- executing


def permitted_assets(user: User, action_class: str, asset_ids: Iterable[int]) -> set[int]:
    """Return those of `asset_ids` on which `user` may execute plans of this action class. One query.

    An asset of another tenant, or one that is not there, is never among them.
    """
    ids = list(asset_ids)
    return _permitted_pairs([(user.pk, action_class, ids)])[0] if ids else set()


def permitted_many(requests: Sequence[ExecuteRequest]) -> list[bool]:
    """Say of each request whether its user may execute on all of its assets. Two queries, however many they are.

    A request without assets (its tools need no target) is permitted to whoever `can_submit`.
    """
    without_assets = {user_id for user_id, _, asset_ids in requests if not asset_ids}
    submitters = _submitters(without_assets)
    permitted = _permitted_pairs(requests)
    return [
        permitted[number].issuperset(asset_ids) if asset_ids else user_id in submitters
        for number, (user_id, _, asset_ids) in enumerate(requests)
    ]


def can_submit(user: User | AnonymousUser) -> bool:
    """Whether `user` may submit plans at all: as requester, as admin, or with any execute permission."""
    return isinstance(user, User) and user.pk in _submitters({user.pk})


def _permitted_pairs(requests: Sequence[ExecuteRequest]) -> list[set[int]]:
    """Return for each request the assets that are permitted to its user."""
    pairs = list({(user_id, asset_id) for user_id, _, asset_ids in requests for asset_id in asset_ids})
    if not pairs:
        return [set() for _ in requests]
    users, assets = (list(column) for column in zip(*pairs, strict=True))
    with prepared_cursor() as cursor:
        cursor.execute(_EXECUTE_GRANTS, {"users": users, "assets": assets})
        levels: dict[tuple[int, int], int] = {
            (user_id, asset_id): level for user_id, asset_id, level in cursor.fetchall()
        }
    return [
        {asset_id for asset_id in asset_ids if levels.get((user_id, asset_id), 0) >= _LEVEL[ActionClass(action_class)]}
        for user_id, action_class, asset_ids in requests
    ]


def _submitters(user_ids: Collection[int]) -> set[int]:
    """Return those of the users who may submit at all. Asked at every submit and every claim, so it is plain SQL."""
    if not user_ids:
        return set()
    with prepared_cursor() as cursor:
        cursor.execute(_SUBMITTERS, {"users": list(user_ids)})
        return {user_id for (user_id,) in cursor.fetchall()}


# --- seeing


def visible_executions(user: User | AnonymousUser) -> Q:
    """Return the condition under which an execution is visible to `user`.

    Everything of the tenant for whoever has a role; otherwise what the user submitted or was given a permission on.
    """
    if not isinstance(user, User):
        return Q(pk__in=[])
    return _visible(user, Q(actor_id=user.pk) | _granted(user, "execution", VIEW_EXECUTION, "pk"), VIEW_EXECUTION)


def visible_assets(user: User | AnonymousUser) -> Q:
    """Return the condition under which an asset is visible to `user`.

    Everything of the tenant for whoever has a role; otherwise assets on which, or on a group of which, the user was
    given a permission.
    """
    if not isinstance(user, User):
        return Q(pk__in=[])
    in_visible_group = _memberships().filter(
        _granted(user, "assetgroup", VIEW_ASSET_GROUP, "assetgroup_id"), asset_id=OuterRef("pk")
    )
    return _visible(user, _granted(user, "asset", VIEW_ASSET, "pk") | Q(Exists(in_visible_group)), VIEW_ASSET)


def can_view(user: User | AnonymousUser, execution: ExecutionRow) -> bool:
    """Whether `user` may see this execution: the rule of `visible_executions`, for one row."""
    return _same_tenant(user, execution) and (
        execution.actor_id == user.pk or bool(roles_of(user)) or _has_on_execution(user, execution, VIEW_EXECUTION)
    )


def _visible(user: User, granted: Q, codenames: Collection[str]) -> Q:
    if not user.is_active:
        return Q(pk__in=[])
    of_tenant = Q(tenant_id=user.tenant_id)
    return of_tenant if roles_of(user) or _has_everywhere(user, codenames) else of_tenant & granted


# --- deciding on an execution


def can_cancel(user: User | AnonymousUser, execution: ExecutionRow) -> bool:
    """Whether `user` may cancel it: its requester, an operator, an admin, or whoever was given `cancel` on it."""
    return _same_tenant(user, execution) and (
        execution.actor_id == user.pk or can_operate(user) or _has_on_execution(user, execution, ["cancel"])
    )


def cancellable_executions(user: User | AnonymousUser) -> Q:
    """Return the condition under which `user` may cancel an execution: the rule of `can_cancel`, for many rows."""
    if not isinstance(user, User) or not user.is_active:
        return Q(pk__in=[])
    of_tenant = Q(tenant_id=user.tenant_id)
    if can_operate(user) or _has_everywhere(user, ["cancel"]):
        return of_tenant
    return of_tenant & (Q(actor_id=user.pk) | _granted(user, "execution", ["cancel"], "pk"))


def can_approve(user: User | AnonymousUser, execution: ExecutionRow) -> bool:
    """Whether `user` may approve executions on these targets: the rule of `approvers_among`, for one.

    Whether it is the user's own execution is another question, which the caller asks.
    """
    return isinstance(user, User) and bool(approvers_among([(user.pk, execution.pk)]))


def approvers_among(pairs: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return those of the (id of the user, id of the execution) pairs whose user may approve the execution. One query.

    An approver or admin may on everything of the tenant; somebody else when every target is in an asset group on which
    `approve` was given; nobody who is inactive, and nothing of another tenant.
    """
    if not pairs:
        return set()
    users, executions = (list(column) for column in zip(*pairs, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(_APPROVERS, {"users": users, "executions": executions})
        return {(user_id, execution_id) for user_id, execution_id in cursor.fetchall()}


def _same_tenant(user: User | AnonymousUser, execution: ExecutionRow) -> bool:
    return isinstance(user, User) and user.is_active and user.tenant_id == execution.tenant_id


def _memberships() -> QuerySet[Any]:
    """Return the rows (asset_id, assetgroup_id) that say which asset is in which group."""
    return apps.get_model("executions", "Asset").groups.through.objects.all()


def _permissions(codenames: Collection[str], model: str | None = None) -> QuerySet[Permission]:
    permissions = Permission.objects.filter(content_type__app_label="executions", codename__in=codenames)
    return permissions.filter(content_type__model=model) if model else permissions


def _has_everywhere(user: User | AnonymousUser, codenames: Collection[str]) -> bool:
    """Whether `user` was given one of the permissions without an object, directly or by a group."""
    return _permissions(codenames).filter(Q(user=user.pk) | Q(group__user=user.pk)).exists()


def _has_on_execution(user: User | AnonymousUser, execution: ExecutionRow, codenames: Collection[str]) -> bool:
    permissions = _permissions(codenames, "execution")
    return (
        UserObjectPermission.objects.filter(user=user.pk, permission__in=permissions, object_pk=execution.pk).exists()
        or GroupObjectPermission.objects.filter(
            group__user=user.pk, permission__in=permissions, object_pk=execution.pk
        ).exists()
        or _has_everywhere(user, codenames)
    )


def _granted(user: User, model: str, codenames: Collection[str], column: str) -> Q:
    """Return the condition that `user`, or a group of the user, has one of the permissions on what `column` names."""
    permissions = _permissions(codenames, model).values("pk")
    object_pk = Cast(OuterRef(column), CharField())
    own = UserObjectPermission.objects.filter(user=user.pk, permission__in=permissions, object_pk=object_pk)
    of_groups = GroupObjectPermission.objects.filter(
        group__user=user.pk, permission__in=permissions, object_pk=object_pk
    )
    return Q(Exists(own)) | Q(Exists(of_groups))
