"""The locks that are held on assets, by whom, who waits for them; and how one is taken back."""

from __future__ import annotations

from typing import Any

import orjson
from django.db import connection
from django.http import HttpResponse
from rest_framework.request import Request

from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import ApiView, caller, visible
from executions.api.bodies import ReasonBody
from executions.api.detail import links
from executions.api.fleet_shapes import Freed, LockPage
from executions.api.reading import BIGGEST_ID, Query, read_body
from executions.api.schema import PAGING, call, parameter
from executions.models import Asset, Execution
from executions.services import free_lock, free_within_seconds
from queueing.models import AssetLock, LockState, QueueEntry
from safety.scopes import Scope

WAITERS_SHOWN = 10
MOST_COUNTED = 10_000

# Of several assets at once: the first in line, and how many there are.
WAITERS = """
SELECT a.asset_id, coalesce(line.waiting, 0), coalesce(first.waiters, '[]'::jsonb)
  FROM unnest(%(assets)s::bigint[]) AS a(asset_id)
  LEFT JOIN LATERAL (SELECT count(*) AS waiting FROM (
      SELECT FROM queueing_assetlock l WHERE l.asset_id = a.asset_id AND l.state = 'queued' LIMIT %(most)s) counted
  ) line ON true
  LEFT JOIN LATERAL (SELECT jsonb_agg(jsonb_build_object('execution', l.execution_id, 'mode',
                                CASE WHEN l.exclusive THEN 'exclusive' ELSE 'shared' END)
                                ORDER BY l.place, l.execution_id) AS waiters FROM (
      SELECT l.* FROM queueing_assetlock l WHERE l.asset_id = a.asset_id AND l.state = 'queued'
       ORDER BY l.place, l.execution_id LIMIT %(shown)s) l
  ) first ON true
"""


def mode_of(lock: AssetLock) -> str:
    """Whether others may hold it at the same time."""
    return "exclusive" if lock.exclusive else "shared"


class LocksView(ApiView):
    """Who has which machine."""

    @call(
        "locks_list",
        "List the locks that executions of your tenant hold, those that were asked for last first",
        scope=Scope.READ,
        tag="locks",
        gives=LockPage,
        refuses=("invalid_parameter",),
        parameters=(parameter("asset", "Only the lock of this asset: its number."), *PAGING),
    )
    def get(self, request: Request) -> HttpResponse:
        query = Query(request, ("asset", *cursors.PARAMETERS))
        rows = AssetLock.objects.filter(state=LockState.HELD, execution_id__in=visible(request).values("pk"))
        if query.text("asset") is not None:
            rows = rows.filter(asset_id=query.whole("asset", 0, least=1, most=BIGGEST_ID))
        return cursors.page_of(request, query, rows, _shown)


def _shown(locks: list[AssetLock]) -> list[dict[str, Any]]:
    """Locks as the call gives them; four statements, however many they are."""
    assets = [lock.asset_id for lock in locks]
    holders = [lock.execution_id for lock in locks]
    names = dict(Asset.objects.filter(pk__in=assets).values_list("pk", "name"))
    titles = dict(Execution.objects.filter(pk__in=holders).values_list("pk", "title"))
    freeing = set(
        QueueEntry.objects.filter(pk__in=holders, revoked_at__isnull=False).values_list("execution_id", flat=True)
    )
    with connection.cursor() as cursor:
        cursor.execute(WAITERS, {"assets": assets, "most": MOST_COUNTED, "shown": WAITERS_SHOWN})
        lines = {asset: (count, orjson.loads(waiters)) for asset, count, waiters in cursor.fetchall()}
    return [
        {
            "asset": lock.asset_id,
            "asset_name": names.get(lock.asset_id, ""),
            "execution": lock.execution_id,
            "title": titles.get(lock.execution_id, ""),
            "mode": mode_of(lock),
            "fence": lock.fence,
            "since": lock.held_at,
            "freeing": lock.execution_id in freeing,
            "waiting": lines[lock.asset_id][0],
            "waiters": lines[lock.asset_id][1],
            "links": {"execution": links(lock.execution_id)["self"], "free": f"/api/v1/locks/{lock.asset_id}/free/"},
        }
        for lock in locks
    ]


class FreeLockView(ApiView):
    """Take a lock back."""

    @call(
        "locks_free",
        "Free the lock of an asset: its holder is cancelled, and loses it when its commands run no more",
        scope=Scope.OPERATE,
        tag="locks",
        description="The executions that hold the lock are cancelled, with the reason, and their leases are renewed no "
        "more. So the lock is free as soon as the worker has let go, at the latest when the lease has run out "
        "(`free_within_seconds`): never while a command of theirs may still run. Needs the right to cancel them.",
        takes=ReasonBody,
        gives=Freed,
        refuses=("not_found", "not_held", "reason_required", "forbidden", "busy"),
        example={"reason": "It hangs, and db-12 is wanted for the outage"},
        answer={
            "asset": 12,
            "holders": [{"execution": 4711, "status": "cancelling", "revoked": True}],
            "free_within_seconds": 41.5,
        },
    )
    def post(self, request: Request, asset_id: int) -> HttpResponse:
        body = ReasonBody.model_validate(read_body(request))
        freed = free_lock(asset_id, by=caller(request), reason=body.reason)
        return answer(
            {
                "asset": asset_id,
                "holders": [
                    {"execution": one.execution_id, "status": one.status, "revoked": one.revoked} for one in freed
                ],
                "free_within_seconds": free_within_seconds(),
            }
        )
