"""Who may use which secret: the rules of the tenant, asked at submit and again by the worker before it fetches one."""

from __future__ import annotations

from collections.abc import Collection

from safety import rbac
from safety.models import User
from safety.models.secrets import SecretRule


def forbidden_paths(user: User, paths: Collection[str]) -> set[str]:
    """Return those of the paths that `user` may not name in a plan. One query when the tenant has no rules, else two.

    Whether a secret is there makes no difference, so nobody learns by asking which secrets there are.
    """
    if not paths:
        return set()
    if not user.is_active:
        return set(paths)
    rules: dict[str, set[int]] = {}
    listed = SecretRule.objects.filter(tenant_id=user.tenant_id).values_list("prefix", "groups")
    for prefix, group_id in listed:
        rules.setdefault(prefix, set()).update({group_id} if group_id is not None else ())
    ruled = {path: groups for path in paths if (groups := _groups_for(path, rules)) is not None}
    if not ruled or _administers(user):
        return set()
    own = set(user.groups.values_list("pk", flat=True))
    return {path for path, groups in ruled.items() if own.isdisjoint(groups)}


def _groups_for(path: str, rules: dict[str, set[int]]) -> set[int] | None:
    """Return the groups of the longest prefix that fits: the path itself, or a folder that it is in."""
    parts = path.split("/")
    for length in range(len(parts), -1, -1):
        prefix = "/".join(parts[:length])
        if prefix in rules:
            return rules[prefix]
    return None


def _administers(user: User) -> bool:
    return rbac.has_role(user, rbac.Role.ADMIN)
