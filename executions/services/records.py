"""Writing the move of an execution that no worker holds: status, event and notice in one transaction.

Whatever people and programs give as a reason is masked here, so it is in every event and on every page.

While a worker holds the execution only its ledger writes (engine/ledger.py); `move` then changes nothing and says so,
because the worker's own moves have changed the status that is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connection, transaction

from executions.states import FINAL_EXECUTION, RERUN_MOVES, RERUN_STEPS, STEP_MOVES, StepStatus, execution_event
from safety.masking import mask_data, mask_text

MOVE = """
WITH moved AS (
    UPDATE executions_execution
       SET status = %(new)s, status_reason = %(status_reason)s, last_seq = last_seq + 1,
           finished_at = CASE WHEN %(final)s THEN statement_timestamp() END,
           -- Time that people take to approve a step does not count against the limit: what was left of it is left.
           deadline_at = CASE WHEN %(restart)s THEN NULL WHEN %(old)s = 'pending_approval' THEN coalesce(
                deadline_at + (statement_timestamp() - (SELECT asked_at FROM executions_pendingapproval p
                                                         WHERE p.execution_id = executions_execution.id)), deadline_at)
                ELSE deadline_at END,
           error_code = CASE WHEN %(restart)s THEN '' ELSE coalesce(%(error_code)s, error_code) END
     WHERE id = ANY (%(ids)s) AND status = %(old)s
    RETURNING id, last_seq
), event AS (
    INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
    SELECT id, last_seq, %(kind)s, %(actor)s, %(reason)s, %(data)s::jsonb FROM moved
), decided AS (
    DELETE FROM executions_pendingapproval
     WHERE %(old)s = 'pending_approval' AND execution_id IN (SELECT id FROM moved)
), freed AS (
    UPDATE safety_idempotencykey SET blocks_until = to_timestamp(0)
     WHERE %(final)s AND %(new)s <> 'succeeded' AND execution_id IN (SELECT id FROM moved)
)
SELECT coalesce(array_agg(id), '{}') FROM moved
"""

REMARK = """
WITH moved AS (
    UPDATE executions_execution SET last_seq = last_seq + 1 WHERE id = %(id)s RETURNING id, last_seq
)
INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
SELECT id, last_seq, %(kind)s, %(actor)s, %(reason)s, %(data)s::jsonb FROM moved
"""

# Events as the engine writes them: a step with one target moves together with it. {step_and_target} are the two UPDATEs
# that move the rows; each returns also `was`, the status before.
_STEP_MOVES = """
WITH {step_and_target}, single AS (
    SELECT step_id, min(id) AS id, min(name) AS name, min(attempt) AS attempt
      FROM executions_steptarget WHERE execution_id = ANY (%(ids)s) GROUP BY step_id HAVING count(*) = 1
), event AS (
    SELECT t.execution_id, s.position, t.position AS target_position, 'target.' || t.status AS kind,
           jsonb_build_object('step', s.key, 'target', t.name, 'step_target', t.id, 'from', t.was, 'to', t.status,
                              'attempt', t.attempt) AS data
      FROM target t JOIN executions_step s ON s.id = t.step_id
     WHERE t.step_id NOT IN (SELECT step_id FROM single)
     UNION ALL
    SELECT step.execution_id, step.position, NULL, 'step.' || step.status,
           jsonb_build_object('step', step.key, 'step_id', step.id, 'from', step.was, 'to', step.status)
               || CASE WHEN step.error = '' THEN '{{}}'
                       ELSE jsonb_build_object('error_code', step.error_code, 'error', step.error) END
               || CASE WHEN single.id IS NULL THEN '{{}}' ELSE jsonb_build_object(
                    'target', single.name, 'step_target', single.id, 'attempt', single.attempt) END
      FROM step LEFT JOIN single ON single.step_id = step.id
), numbered AS (
    SELECT execution_id, kind, data, row_number() OVER of_execution AS k, count(*) OVER (PARTITION BY execution_id) AS n
      FROM event WINDOW of_execution AS (PARTITION BY execution_id ORDER BY position, target_position NULLS LAST)
), moved AS (
    UPDATE executions_execution e SET last_seq = e.last_seq + counted.n
      FROM (SELECT DISTINCT execution_id, n FROM numbered) counted WHERE e.id = counted.execution_id
    RETURNING e.id, e.last_seq - counted.n AS base
)
INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
SELECT moved.id, moved.base + k, kind, %(actor)s, %(reason)s, data FROM moved JOIN numbered ON execution_id = moved.id
"""

# What has not begun will not.
SKIP = _STEP_MOVES.format(
    step_and_target="""target AS (
    UPDATE executions_steptarget SET status = %(new)s, finished_at = statement_timestamp()
     WHERE execution_id = ANY (%(ids)s) AND status = 'pending'
    RETURNING execution_id, id, step_id, position, name, attempt, status, 'pending'::text AS was
), step AS (
    UPDATE executions_step SET status = %(new)s, finished_at = statement_timestamp()
     WHERE execution_id = ANY (%(ids)s) AND status = 'pending'
    RETURNING execution_id, id, position, key, status, error_code, error, 'pending'::text AS was
)"""
)

# Steps that nobody let go on: one that had begun has failed, one that had not is skipped; what was left of both, too.
REFUSE = _STEP_MOVES.format(
    step_and_target="""step AS (
    UPDATE executions_step s
       SET status = CASE WHEN s.started_at IS NULL THEN 'skipped' ELSE 'failed' END,
           finished_at = statement_timestamp(), error_code = %(code)s, error = refused.error
      FROM unnest(%(steps)s::text[], %(errors)s::text[]) AS refused(key, error)
     WHERE s.execution_id = ANY (%(ids)s) AND s.status = 'pending' AND s.kind = 'step' AND s.key = refused.key
    RETURNING s.execution_id, s.id, s.position, s.key, s.status, s.error_code, s.error, 'pending'::text AS was
), target AS (
    UPDATE executions_steptarget t SET status = 'skipped', finished_at = statement_timestamp()
     WHERE t.step_id IN (SELECT id FROM step) AND t.status = 'pending'
    RETURNING t.execution_id, t.id, t.step_id, t.position, t.name, t.attempt, t.status, 'pending'::text AS was
)"""
)

# Steps that failed, or whose outcome nobody knows, are to be run again, on the targets where they did not succeed.
RERUN = _STEP_MOVES.format(
    step_and_target="""step AS (
    UPDATE executions_step s SET status = %(new)s, finished_at = NULL, error_code = '', error = ''
      FROM executions_step before
     WHERE s.execution_id = ANY (%(ids)s) AND s.status = ANY (%(rerun_steps)s)
       -- What is being rolled back does not go on: of such an execution it is the rollback that is tried again.
       AND (s.kind = 'rollback') = EXISTS (
            SELECT FROM executions_step r WHERE r.execution_id = s.execution_id AND r.kind = 'rollback')
       AND before.id = s.id AND before.status = s.status
    RETURNING s.execution_id, s.id, s.position, s.key, s.status, s.error_code, s.error, before.status AS was
), target AS (
    UPDATE executions_steptarget t SET status = %(new)s, finished_at = NULL, error_code = '', error = ''
      FROM executions_steptarget before
     WHERE t.step_id IN (SELECT id FROM step) AND t.status = ANY (%(rerun_targets)s)
       AND before.id = t.id AND before.status = t.status
    RETURNING t.execution_id, t.id, t.step_id, t.position, t.name, t.attempt, t.status, before.status AS was
)"""
)


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
    error_code: str | None = None,
) -> bool:
    """Move one execution from `old` to `new` with its event; return whether it was still in `old`.

    `restart` clears deadline and error for a new run. Raises KeyError when the move is not legal.
    """
    moved = move_many(
        [execution_id],
        old,
        new,
        actor=actor,
        reason=reason,
        status_reason=status_reason,
        data=data,
        restart=restart,
        error_code=error_code,
    )
    return bool(moved)


def move_many(
    execution_ids: Sequence[int],
    old: str,
    new: str,
    *,
    actor: str,
    reason: str = "",
    status_reason: str | None = None,
    data: dict[str, Any] | None = None,
    restart: bool = False,
    error_code: str | None = None,
) -> list[int]:
    """The same for several; return those that were still in `old`. The caller has locked their rows, in order."""
    kind = execution_event(old, new)
    reason = mask_text(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            MOVE,
            {
                "ids": list(execution_ids),
                "old": old,
                "new": new,
                "kind": kind,
                "actor": actor,
                "reason": reason,
                "status_reason": reason if status_reason is None else mask_text(status_reason),
                "final": new in FINAL_EXECUTION,
                "restart": restart,
                "error_code": error_code,
                "data": json.dumps(mask_data({"from": old, "to": new, **(data or {})})),
            },
        )
        row = cursor.fetchone()
        moved: list[int] = list(row[0]) if row else []
        if moved:
            tell(moved)
    return moved


def conclude(
    execution_id: int,
    old: str,
    new: str,
    *,
    actor: str,
    reason: str,
    status_reason: str | None = None,
    error_code: str | None = None,
) -> bool:
    """Move one execution that no worker holds from `old` to its end `new`; what has not begun is skipped.

    Returns whether it was still in `old`; nothing is written if it was not. Raises KeyError when the move is not legal.
    """
    return bool(
        conclude_many(
            [execution_id],
            old,
            new,
            actor=actor,
            reason=reason,
            status_reason=status_reason,
            error_code=error_code,
        )
    )


def conclude_many(
    execution_ids: Sequence[int],
    old: str,
    new: str,
    *,
    actor: str,
    reason: str,
    data: dict[str, Any] | None = None,
    status_reason: str | None = None,
    error_code: str | None = None,
) -> list[int]:
    """The same for several; return those that were still in `old`."""
    execution_event(old, new)
    with transaction.atomic(), connection.cursor() as cursor:
        still = lock_in(execution_ids, old)
        if not still:
            return []
        # Before the move: the last event of an execution is that it ended, and readers stop there.
        cursor.execute(SKIP, {"ids": still, "new": StepStatus.SKIPPED, "actor": actor, "reason": ""})
        return move_many(
            still, old, new, actor=actor, reason=reason, data=data, status_reason=status_reason, error_code=error_code
        )


def run_again(execution_ids: Sequence[int], *, actor: str, reason: str) -> None:
    """Have the steps that failed, or whose outcome is unknown, run again on the targets where they did not succeed.

    For executions that no worker holds, whose rows the caller has locked. Each step and target gets its event.
    """
    targets = {old for old, new in (*STEP_MOVES, *RERUN_MOVES) if new == StepStatus.PENDING}
    with connection.cursor() as cursor:
        cursor.execute(
            RERUN,
            {
                "ids": list(execution_ids),
                "new": StepStatus.PENDING,
                "rerun_steps": sorted(RERUN_STEPS),
                "rerun_targets": sorted(targets),
                "actor": actor,
                "reason": mask_text(reason),
            },
        )


def refuse_steps(execution_id: int, errors: Mapping[str, str], *, code: str, actor: str, reason: str) -> None:
    """End the steps that an execution waits before, as far as they are still to do, with an error for each.

    For one that no worker holds, whose row the caller has locked.
    """
    if not errors:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            REFUSE,
            {
                "ids": [execution_id],
                "steps": list(errors),
                "errors": [mask_text(error) for error in errors.values()],
                "code": code,
                "actor": actor,
                "reason": mask_text(reason),
            },
        )


def lock_in(execution_ids: Sequence[int], status: str) -> list[int]:
    """Lock the rows of these executions, in order, to the end of the transaction; return those in this status."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, status FROM executions_execution WHERE id = ANY (%s) ORDER BY id FOR NO KEY UPDATE",
            [list(execution_ids)],
        )
        return [execution_id for execution_id, now in cursor.fetchall() if now == status]


def remark(execution_id: int, kind: str, *, actor: str, reason: str = "", data: dict[str, Any] | None = None) -> None:
    """Write an event that moves nothing, such as one approval of several."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            REMARK,
            {
                "id": execution_id,
                "kind": kind,
                "actor": actor,
                "reason": mask_text(reason),
                "data": json.dumps(mask_data(data or {})),
            },
        )
        tell([execution_id])


def tell(execution_ids: Iterable[int]) -> None:
    """Notify the live pages, at commit, that these executions changed."""
    names = ",".join(map(str, execution_ids))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('opsconductor_events', %s)", [names if len(names) < 7000 else "*"])
