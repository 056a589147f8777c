"""Who may read which records."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Q

from safety import rbac
from safety.audit.chain import INSTALLATION
from safety.models import DEFAULT_TENANT, User


def may_read(user: User) -> bool:
    """Whether `user` may read the audit: operators and administrators."""
    return rbac.can_operate(user)


def chains_for(user: User) -> Collection[int]:
    """Return the chains that `user` may read: the tenant's, and for those who run the installation its own."""
    if not may_read(user):
        return []
    runs_the_installation = user.tenant.name == DEFAULT_TENANT  # as rbac.can_operate_installation, of an operator
    return [user.tenant_id, *([INSTALLATION] if runs_the_installation else [])]


def records_for(user: User) -> Q:
    """Return the condition under which a record is visible to `user`: the rule of `chains_for`."""
    chains = chains_for(user)
    if not chains:
        return Q(pk__in=[])
    own = Q(tenant_id=user.tenant_id)
    return own | Q(tenant_id=None) if INSTALLATION in chains else own
