"""What executions look like in the queue, when they come into it after they were submitted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import orjson
from django.db import connection

# In the shape of queue_enqueue. An asset is locked exclusively when some step, or what undoes it, does more than read
# on it. Worked out where the plans are: one with a thousand machines is not read over the network for its locks. A plan
# of an earlier release names neither pool nor region, nor the class of its rollbacks. What waited for the approval of a
# step goes on with the attempts it had.
ENTRIES = """
SELECT coalesce(jsonb_agg(jsonb_build_object(
           'execution_id', e.id, 'tenant_id', e.tenant_id, 'priority', e.priority, 'max_attempts', e.max_attempts,
           'not_before', CASE WHEN %(at_once)s OR e.started_at IS NOT NULL THEN NULL ELSE e.not_before END,
           'pool', p.document ->> 'pool', 'region', p.document ->> 'region',
           'losses', CASE WHEN e.id = ANY (%(apart)s) THEN 1 ELSE coalesce(waited.losses, 0) END, 'locks', l.locks,
           'attempt', coalesce(waited.attempt, 0), 'attempts_left', waited.attempts_left,
           'came_back', waited.execution_id IS NOT NULL AND e.started_at IS NOT NULL) ORDER BY e.id), '[]')::text
  FROM executions_execution e
  LEFT JOIN executions_pendingapproval waited ON waited.execution_id = e.id
  JOIN executions_executionplan p ON p.execution_id = e.id
 CROSS JOIN LATERAL (
      SELECT coalesce(jsonb_agg(jsonb_build_object('asset_id', asset_id, 'exclusive', exclusive) ORDER BY asset_id),
                      '[]') AS locks
        FROM (SELECT (target ->> 'asset_id')::bigint AS asset_id,
                     bool_or(step ->> 'action_class' <> 'read'
                             OR coalesce(step #>> '{rollback,action_class}',
                                         CASE jsonb_typeof(step -> 'rollback') WHEN 'object' THEN 'modify' END,
                                         'read') <> 'read') AS exclusive
                FROM jsonb_array_elements(p.document -> 'steps') step,
                     jsonb_array_elements(step -> 'targets') target GROUP BY 1) of_plan
  ) l
 WHERE e.id = ANY (%(ids)s)
"""


def entries_of(
    execution_ids: Sequence[int], *, at_once: bool = False, apart: Collection[int] = ()
) -> list[dict[str, Any]]:
    """Return the queue entries of these executions in the shape of queue_enqueue, with the locks of their plans.

    at_once: whatever `not_before` said, it has been waited for. apart: those that run away from others from the start,
    because a worker may have died of them.
    """
    with connection.cursor() as cursor:
        cursor.execute(ENTRIES, {"ids": list(execution_ids), "at_once": at_once, "apart": list(apart)})
        row = cursor.fetchone()
    entries: list[dict[str, Any]] = orjson.loads(row[0]) if row else []
    return entries
