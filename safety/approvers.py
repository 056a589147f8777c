"""Who may decide on a plan, before it is an execution."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from django.db import connection

from safety.models import User

_SQL = Path(__file__).parent / "sql"
_APPROVERS = (_SQL / "approvers_of_plan.sql").read_text().replace("{grants}", (_SQL / "approve_grants.sql").read_text())


def approvers_of(asset_ids: Collection[int], *, asked_by: User, by_group: bool) -> list[str]:
    """Return the names of those who could approve a plan of `asked_by` on these assets: never the asker. Two queries.

    by_group: whether the right to approve on asset groups can cover it: what it changes, it changes on targets.
    """
    others = User.objects.filter(tenant_id=asked_by.tenant_id, is_active=True).exclude(pk=asked_by.pk)
    asked: dict[str, Any] = {
        "users": list(others.values_list("pk", flat=True)),
        "assets": list(asset_ids),
        "by_group": by_group and bool(asset_ids),
    }
    with connection.cursor() as cursor:
        cursor.execute(_APPROVERS, asked)
        return [username for (username,) in cursor.fetchall()]
