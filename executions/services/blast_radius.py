"""How much of a group a plan changes: the share of its machines, for groups that are large enough to have a share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Count, Q

from executions.models import AssetGroup
from executions.plans import CompiledPlan

# One machine of two is half of a group, and says nothing. From here on a share measures what may go wrong at once.
SMALLEST_GROUP = 10


def measure(plan: CompiledPlan, tenant_id: int) -> None:
    """Write into the plan's document which groups it changes more than a machine of, and how much of each.

    One query, and none for a plan that changes too few machines to be a majority of any group that counts.
    """
    changed = {use.asset_id for use in plan.targets.values() if use.exclusive}
    if len(changed) * 2 < SMALLEST_GROUP:
        return
    if groups := _groups(changed, tenant_id):
        plan.document["group_shares"] = groups


def largest_share(document: Mapping[str, Any]) -> float:
    """Return the largest share of a group that a stored plan changes, in percent."""
    return max((share["changed"] * 100 / share["members"] for share in document.get("group_shares", ())), default=0.0)


def _groups(changed: Iterable[int], tenant_id: int) -> list[Any]:
    in_use = Q(assets__is_active=True)
    groups = (
        AssetGroup.objects.filter(tenant_id=tenant_id)
        .annotate(
            members=Count("assets", filter=in_use, distinct=True),
            changed=Count("assets", filter=in_use & Q(assets__in=list(changed)), distinct=True),
        )
        .filter(members__gte=SMALLEST_GROUP, changed__gt=1)
        .order_by("name")
    )
    return list(groups.values("name", "members", "changed"))
