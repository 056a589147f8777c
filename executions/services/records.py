"""Writing the move of an execution that no worker holds: status, event and notice in one transaction.

While a worker holds the execution only its ledger writes (engine/ledger.py); `move` then changes nothing and says so,
because the worker's own moves have changed the status that is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.db import connection, transaction

from executions.states import FINAL_EXECUTION, execution_event

MOVE = """
WITH moved AS (
    UPDATE executions_execution
       SET status = %(new)s, status_reason = %(status_reason)s, last_seq = last_seq + 1,
           finished_at = CASE WHEN %(final)s THEN statement_timestamp() END,
           deadline_at = CASE WHEN %(restart)s THEN NULL ELSE deadline_at END,
           error_code = CASE WHEN %(restart)s THEN '' ELSE error_code END
     WHERE id = %(id)s AND status = %(old)s
    RETURNING id, last_seq
), event AS (
    INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
    SELECT id, last_seq, %(kind)s, %(actor)s, %(reason)s, %(data)s::jsonb FROM moved
), freed AS (
    UPDATE safety_idempotencykey SET blocks_until = to_timestamp(0)
     WHERE %(final)s AND %(new)s <> 'succeeded' AND execution_id IN (SELECT id FROM moved)
)
SELECT count(*) FROM moved
"""

REMARK = """
WITH moved AS (
    UPDATE executions_execution SET last_seq = last_seq + 1 WHERE id = %(id)s RETURNING id, last_seq
)
INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
SELECT id, last_seq, %(kind)s, %(actor)s, %(reason)s, %(data)s::jsonb FROM moved
"""

# Events as the engine writes them: a step with one target moves together with it.
SKIP = """
WITH target AS (
    UPDATE executions_steptarget SET status = 'skipped', finished_at = statement_timestamp()
     WHERE execution_id = %(id)s AND status = 'pending' RETURNING id, step_id, position, name, attempt
), step AS (
    UPDATE executions_step SET status = 'skipped', finished_at = statement_timestamp()
     WHERE execution_id = %(id)s AND status = 'pending' RETURNING id, position, key
), single AS (
    SELECT step_id, min(id) AS id, min(name) AS name, min(attempt) AS attempt
      FROM executions_steptarget WHERE execution_id = %(id)s GROUP BY step_id HAVING count(*) = 1
), event AS (
    SELECT s.position, t.position AS target_position, 'target.skipped' AS kind,
           jsonb_build_object('step', s.key, 'target', t.name, 'step_target', t.id, 'from', 'pending', 'to', 'skipped',
                              'attempt', t.attempt) AS data
      FROM target t JOIN executions_step s ON s.id = t.step_id
     WHERE t.step_id NOT IN (SELECT step_id FROM single)
     UNION ALL
    SELECT step.position, NULL, 'step.skipped',
           jsonb_build_object('step', step.key, 'step_id', step.id, 'from', 'pending', 'to', 'skipped')
               || CASE WHEN single.id IS NULL THEN '{}' ELSE jsonb_build_object(
                    'target', single.name, 'step_target', single.id, 'attempt', single.attempt) END
      FROM step LEFT JOIN single ON single.step_id = step.id
), numbered AS (
    SELECT kind, data, row_number() OVER (ORDER BY position, target_position NULLS LAST) AS k FROM event
), moved AS (
    UPDATE executions_execution SET last_seq = last_seq + (SELECT count(*) FROM event) WHERE id = %(id)s
    RETURNING id, last_seq - (SELECT count(*) FROM event) AS base
)
INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
SELECT moved.id, moved.base + k, kind, %(actor)s, '', data FROM moved, numbered
"""


def move(
    execution_id: int,
    old: str,
    new: str,
    *,
    actor: str,
    reason: str = "",
    status_reason: str | None = None,
    data: dict[str, Any] | None = None,
    restart: bool = False,
) -> bool:
    """Move one execution from `old` to `new` with its event; return whether it was still in `old`.

    `restart` clears deadline and error for a new run. Raises KeyError when the move is not legal.
    """
    kind = execution_event(old, new)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            MOVE,
            {
                "id": execution_id,
                "old": old,
                "new": new,
                "kind": kind,
                "actor": actor,
                "reason": reason,
                "status_reason": reason if status_reason is None else status_reason,
                "final": new in FINAL_EXECUTION,
                "restart": restart,
                "data": json.dumps({"from": old, "to": new, **(data or {})}),
            },
        )
        row = cursor.fetchone()
        moved = bool(row and row[0] == 1)
        if moved:
            tell([execution_id])
    return moved


def conclude(execution_id: int, old: str, new: str, *, actor: str, reason: str) -> bool:
    """Move one execution that no worker holds from `old` to its end `new`; what has not begun is skipped.

    Returns whether it was still in `old`; nothing is written if it was not. Raises KeyError when the move is not legal.
    """
    execution_event(old, new)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT status FROM executions_execution WHERE id = %s FOR UPDATE", [execution_id])
        if cursor.fetchone() != (old,):
            return False
        # Before the move: the last event of an execution is that it ended, and readers stop there.
        cursor.execute(SKIP, {"id": execution_id, "actor": actor})
        return move(execution_id, old, new, actor=actor, reason=reason)


def remark(execution_id: int, kind: str, *, actor: str, reason: str = "", data: dict[str, Any] | None = None) -> None:
    """Write an event that moves nothing, such as one approval of several."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            REMARK,
            {"id": execution_id, "kind": kind, "actor": actor, "reason": reason, "data": json.dumps(data or {})},
        )
        tell([execution_id])


def tell(execution_ids: Iterable[int]) -> None:
    """Notify the live pages, at commit, that these executions changed."""
    names = ",".join(map(str, execution_ids))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('opsconductor_events', %s)", [names if len(names) < 7000 else "*"])
