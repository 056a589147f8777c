"""Many executions in the DLQ at once, made by the database from one that was submitted."""

from __future__ import annotations

from django.db import connection

from executions.models import Execution
from queueing.fingerprint import fingerprint_of, pattern_of
from queueing.models import DeadLetter, QueueEntry
from safety.models import User
from tests.executions.services.requests import ask_new

COPY = """
WITH copied AS (
    INSERT INTO executions_execution (tenant_id, actor_id, title, status, plan_hash, action_class, sla_class,
           approval_level, priority, tags, execution_seconds, step_seconds, max_attempts, last_seq, created_at)
    SELECT tenant_id, actor_id, title || ' ' || n, 'needs_attention', plan_hash, action_class, sla_class,
           approval_level, priority, tags, execution_seconds, step_seconds, max_attempts, 2,
           now() - n * interval '1 second'
      FROM executions_execution, generate_series(1, %(count)s) n WHERE id = %(id)s
    RETURNING id
), plan AS (
    INSERT INTO executions_executionplan (execution_id, document)
    SELECT copied.id, p.document FROM copied, executions_executionplan p WHERE p.execution_id = %(id)s
), event AS (
    INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
    SELECT id, 1, 'execution.submitted', 'user:test', '', '{"to": "queued"}'::jsonb FROM copied
     UNION ALL
    SELECT id, 2, 'execution.needs_attention', 'worker:test', 'look', '{"to": "needs_attention"}'::jsonb FROM copied
), step AS (
    INSERT INTO executions_step (execution_id, position, key, tool, description, kind, status)
    SELECT copied.id, s.position, s.key, s.tool, '', s.kind, %(step_status)s
      FROM copied, executions_step s WHERE s.execution_id = %(id)s
    RETURNING id, execution_id, position
), target AS (
    INSERT INTO executions_steptarget (execution_id, step_id, position, asset_id, name, status)
    SELECT step.execution_id, step.id, t.position, t.asset_id, t.name, %(step_status)s
      FROM step, executions_steptarget t JOIN executions_step s ON s.id = t.step_id
     WHERE s.execution_id = %(id)s AND s.position = step.position
), letter AS (
    INSERT INTO queueing_deadletter (execution_id, tenant_id, reason, error, pattern, fingerprint, attempts, created_at)
    SELECT copied.id, %(tenant)s, %(reason)s, %(error)s, %(pattern)s, %(fingerprint)s, 3,
           now() - %(age)s * interval '1 hour' FROM copied ORDER BY copied.id
    RETURNING id
)
SELECT array_agg(id ORDER BY id) FROM letter
"""


def park(
    by: User,
    count: int = 1,
    *targets: str,
    reason: str = "engine_error",
    error: str = "The engine failed: KeyError: 'x'",
    step_status: str = "pending",
    hours_old: int = 0,
) -> list[int]:
    """Make executions of one step that are in the DLQ; return their entries, oldest first."""
    one = ask_new(by, *targets)
    QueueEntry.objects.filter(pk=one).delete()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM queueing_assetlock WHERE execution_id = %s", [one])
        pattern = pattern_of(error)
        cursor.execute(
            COPY,
            {
                "id": one, "count": count, "tenant": by.tenant_id, "reason": reason, "error": error, "pattern": pattern,
                "fingerprint": fingerprint_of(reason, pattern), "step_status": step_status, "age": hours_old,
            },
        )  # fmt: skip
        row = cursor.fetchone()
        for table in ("event", "steptarget", "step", "executionplan"):
            cursor.execute(f"DELETE FROM executions_{table} WHERE execution_id = %s", [one])
        cursor.execute("ANALYZE queueing_deadletter, executions_execution, executions_step, executions_steptarget")
    Execution.objects.filter(pk=one).delete()
    return list(row[0])


def execution_of(entry: int) -> int:
    """Return the execution of a DLQ entry."""
    return DeadLetter.objects.values_list("execution_id", flat=True).get(pk=entry)
