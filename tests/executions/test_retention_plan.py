"""Retention reads what it removes, however much lies beside it."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from executions import retention
from safety.models import User
from tests.executions.live.rows import make_user

pytestmark = pytest.mark.django_db

LARGE = (
    "executions_execution", "executions_event", "executions_outputchunk", "executions_step", "executions_steptarget",
    "executions_executionplan", "queueing_deadletter",
)  # fmt: skip
OLD, ALL = 400, 4000  # executions, the first of them old enough


@pytest.fixture
def history() -> User:
    user = make_user()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO executions_execution (id, tenant_id, actor_id, title, status, plan_hash, action_class,"
            " sla_class, approval_level, priority, tags, execution_seconds, step_seconds, max_attempts, last_seq,"
            " created_at, finished_at)"
            " SELECT n, %s, %s, 'x', 'succeeded', '', 'read', 'fast', 0, 5, '{}', 60, 60, 3, 11,"
            " now() - CASE WHEN n <= %s THEN interval '800 days' ELSE interval '1 day' END,"
            " now() - CASE WHEN n <= %s THEN interval '800 days' ELSE interval '1 day' END"
            " FROM generate_series(1, %s) n",
            [user.tenant_id, user.pk, OLD, OLD, ALL],
        )
        for statement in (
            "INSERT INTO executions_executionplan SELECT id, '{}' FROM executions_execution",
            "INSERT INTO executions_step (id, execution_id, position, key, tool, description)"
            " SELECT id * 2 + k, id, k, 'k', 'noop', '' FROM executions_execution, generate_series(0, 1) k",
            "INSERT INTO executions_steptarget (execution_id, step_id, position, name)"
            " SELECT execution_id, id, 1, '' FROM executions_step",
            "INSERT INTO executions_event (execution_id, seq, kind, actor, reason)"
            " SELECT id, n, 'x', '', '' FROM executions_execution, generate_series(1, 10) n",
            "INSERT INTO executions_outputchunk (execution_id, seq, step_target_id, stream, text)"
            " SELECT t.execution_id, 10 + row_number() OVER (PARTITION BY t.execution_id), t.id, 'stdout', 'x'"
            " FROM executions_steptarget t",
            "INSERT INTO queueing_deadletter (execution_id, tenant_id, reason, error, attempts)"
            f" SELECT id, 1, 'engine_error', '', 1 FROM executions_execution WHERE id > {OLD}",
            f"ANALYZE {', '.join(LARGE)}",
        ):
            cursor.execute(statement)
    return user


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def explained(statement: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", given)
        answer = cursor.fetchone()[0]
    assert isinstance(answer, list)
    return nodes(answer[0]["Plan"])


def assert_reads_no_table(plan: list[dict[str, Any]]) -> None:
    read = [node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"]
    assert [table for table in read if table in LARGE] == []


@pytest.mark.parametrize("page", [retention.WITH_EVENTS, retention.ANY])
def test_a_page_of_executions_is_found_by_keys_alone(history: User, page: str) -> None:
    ageing = retention.Ageing(settings.EVENT_RETENTION, page, retention.NO_LIVE_RETRY, ())
    given: dict[str, Any] = {"after": 0, "executions": 50, "keep": ageing.keep, "whole": None}
    plan = explained(ageing.due(lock=True), given)
    assert_reads_no_table(plan)
    # No node of it sees more rows than the page has.
    assert max(node["Actual Rows"] for node in plan) <= 51
    with connection.cursor() as cursor:
        cursor.execute(ageing.due(lock=True), given)
        assert cursor.fetchone() == (50, list(range(1, 51)), False)


@pytest.mark.parametrize(("name", "statement"), [*retention.WHOLE, *retention.LAST_OF_WHOLE])
def test_a_batch_finds_its_rows_by_an_index(history: User, name: str, statement: str) -> None:
    given: dict[str, Any] = {"ids": list(range(1, 51)), "rows": 30}
    with connection.cursor() as cursor:  # what is left of the others would keep an execution from being deleted
        for _, earlier in (*retention.WHOLE, *retention.LAST_OF_WHOLE):
            if earlier == statement:
                break
            cursor.execute(earlier, {**given, "rows": 100_000})
    plan = explained(statement, given)
    assert_reads_no_table(plan)
    if (name, statement) in retention.WHOLE:
        assert max(node["Actual Rows"] for node in plan) <= 50  # the ids, or the rows
