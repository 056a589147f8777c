"""What a worker reads of an execution that it has claimed, beside however many others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from executions import sql
from tests.executions.live.rows import make_user

pytestmark = pytest.mark.django_db

SOURCE = Path(next(iter(sql.__path__))) / "ledger.sql"
EXECUTIONS, EACH = 5000, 40  # 200,000 targets, and of the first execution 1,000
TABLES = (
    "executions_execution", "executions_executionplan", "executions_step", "executions_steptarget",
    "executions_approval", "executions_event", "queueing_queueentry",
)  # fmt: skip
WIDE, FEW, MANY = (1,), (100, 101, 102), tuple(range(200, 250))


@pytest.fixture
def crowd() -> None:
    user = make_user()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # not a look at another table for each row
        cursor.execute(
            "INSERT INTO executions_execution (id, tenant_id, actor_id, title, status, plan_hash, action_class,"
            " sla_class, approval_level, priority, tags, execution_seconds, step_seconds, max_attempts, last_seq)"
            " SELECT n, %s, %s, 'x', 'running', '', 'modify', 'fast', 2, 5, '{}', 60, 60, 3, 2"
            " FROM generate_series(1, %s) n",
            [user.tenant_id, user.pk, EXECUTIONS],
        )
        for statement in (
            "INSERT INTO executions_executionplan"
            " SELECT id, jsonb_build_object('steps', repeat('x', 1200)) FROM executions_execution",
            "INSERT INTO executions_step (execution_id, position, key, tool, description, kind)"
            " SELECT id, k, 'k', 'noop', '', CASE k WHEN 1 THEN 'step' ELSE 'rollback' END"
            " FROM executions_execution, generate_series(1, 2) k",
            "INSERT INTO executions_steptarget (execution_id, step_id, position, name)"
            " SELECT execution_id, id, n, '' FROM executions_step,"
            f" generate_series(1, CASE execution_id WHEN 1 THEN 500 ELSE {EACH // 2} END) n ORDER BY n",
            "INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)"
            " SELECT id, n, CASE n WHEN 1 THEN 'rollback.started' ELSE 'execution.requeued' END, '', '', '{}'"
            " FROM executions_execution, generate_series(1, 2) n",
            "INSERT INTO executions_approval (execution_id, by_id, approved, plan_hash, comment)"
            " SELECT id, actor_id, true, '', '' FROM executions_execution",
            "INSERT INTO queueing_queueentry"
            " (execution_id, tenant_id, pool, state, priority, available_at, place, attempts_left)"
            " SELECT id, tenant_id, 'loaded', 'ready', 5, now(), now(), 3 FROM executions_execution",
            f"ANALYZE {', '.join(TABLES)}",
        ):
            cursor.execute(statement)


def loading_statement(ids: tuple[int, ...]) -> str:
    """The query of executions_load, as it stands in its source."""
    body = SOURCE.read_text().split("FUNCTION executions_load", 1)[1]
    found = re.search(r"RETURN \((SELECT .*?)\);\s*END \$\$", body, re.DOTALL)
    assert found is not None
    assert found[1].count("p_ids") == 1
    return found[1].replace("p_ids", f"'{{{','.join(map(str, ids))}}}'::bigint[]")


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def explained(ids: tuple[int, ...]) -> tuple[list[dict[str, Any]], int]:
    """The nodes of the plan that is carried out for these executions, and how many blocks it touches."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {loading_statement(ids)}")
        plan = cursor.fetchone()[0][0]["Plan"]
    return nodes(plan), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def test_loading_reads_what_it_loads_and_nothing_beside_it(crowd: None) -> None:
    for ids, targets in ((WIDE, 1000), (FEW, len(FEW) * EACH), (MANY, len(MANY) * EACH)):
        plan, blocks = explained(ids)
        assert [node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"] == []
        read = {
            table: sum(
                node["Actual Rows"] * node["Actual Loops"] for node in plan if node.get("Relation Name") == table
            )
            for table in TABLES
        }
        assert read["executions_steptarget"] == targets
        assert read["executions_step"] == 2 * len(ids)
        assert read["executions_event"] <= 2 * len(ids)
        assert blocks < 2 * targets + 40 * len(ids)

    # And in the function, which keeps a plan for any ids after some calls: seen by the counters of the tables.
    with connection.cursor() as cursor:

        def counted() -> dict[str, tuple[int, int]]:
            cursor.execute(
                "SELECT relname, coalesce(seq_scan, 0), coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
                " FROM pg_stat_xact_user_tables WHERE relname = ANY (%s)",
                [list(TABLES)],
            )
            return {name: (scans, rows) for name, scans, rows in cursor.fetchall()}

        for _ in range(7):
            cursor.execute("SELECT executions_load(%s)", [list(FEW)])
        before = counted()
        cursor.execute("SELECT executions_load(%s)::text", [list(FEW)])
        loaded = json.loads(cursor.fetchone()[0])
        after = counted()
    assert [len(one["targets"]) for one in loaded] == [EACH] * len(FEW)
    assert loaded[0]["rollback"]["answered"] is True
    now = {table: (scans - before[table][0], rows - before[table][1]) for table, (scans, rows) in after.items()}
    assert {table: scans for table, (scans, _) in now.items() if scans} == {}
    assert sum(rows for _, rows in now.values()) < len(FEW) * (EACH + 20), now
