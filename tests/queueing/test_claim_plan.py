"""The claim touches what it takes, however much is waiting."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from queueing import queue
from queueing.queue import Connection
from tests.queueing.lines import LEASE

pytestmark = [pytest.mark.django_db]

POOL = "counted"  # of its own: what other tests left dead in the index is not in its way
SOURCE = Path(queue.__file__).parent / "sql" / "queue.sql"


@pytest.fixture
def long_queue(connection: Connection) -> Connection:
    """20,000 entries that are ready and 20,000 that are parked behind the holders of 100 assets."""
    connection.execute(
        "INSERT INTO queueing_queueentry"
        " (execution_id, tenant_id, pool, state, priority, available_at, place, attempts_left)"
        f" SELECT n, 1, '{POOL}', CASE WHEN n % 2 = 0 THEN 'ready' ELSE 'blocked' END, 5, now(),"
        " now() + n * interval '1 ms', 3"
        " FROM generate_series(1, 40000) n"
    )
    connection.execute("INSERT INTO queueing_assetline SELECT n FROM generate_series(0, 30000) n")
    connection.execute(
        "INSERT INTO queueing_assetlock (execution_id, asset_id, place, exclusive, state)"
        " SELECT n, CASE WHEN n % 2 = 0 THEN 200 + n / 2 ELSE n % 100 END, now() + n * interval '1 ms', true, 'queued'"
        " FROM generate_series(1, 40000) n"
    )
    connection.execute("ANALYZE queueing_queueentry, queueing_assetlock, queueing_assetline")
    return connection


def looking_statement() -> str:
    """The statement of queue_look that finds the entries of one line, as it stands in its source."""
    body = SOURCE.read_text().split("FUNCTION queue_look", 1)[1]
    found = re.search(r"INTO v_more FROM \((.*?)\) ready;", body, re.DOTALL)
    assert found is not None
    statement = found[1]
    for name, value in {
        "v_head.pool": f"'{POOL}'", "v_head.region": "''", "v_head.tenant_id": "1", "v_ids": "'{}'::bigint[]",
        "least(v_head.share, v_left)": "10",
    }.items():  # fmt: skip
        assert name in statement
        statement = statement.replace(name, value)
    return statement


def heads_statement() -> str:
    """The statement of queue_look that finds the first entry of every line."""
    body = SOURCE.read_text().split("FUNCTION queue_look", 1)[1]
    found = re.search(r"(WITH RECURSIVE head AS \(.*?)\), served AS", body, re.DOTALL)
    assert found is not None
    return found[1] + ") SELECT * FROM head"


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def test_the_claim_finds_entries_by_the_index_of_what_is_ready(long_queue: Connection) -> None:
    row = long_queue.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {looking_statement()}").fetchone()
    assert row is not None
    plan = nodes(row[0][0]["Plan"])
    assert {node["Index Name"] for node in plan if "Index Name" in node} == {"entry_line"}
    assert not [node for node in plan if node["Node Type"] in ("Sort", "Seq Scan", "Incremental Sort")]
    assert max(node["Actual Rows"] for node in plan) <= 10
    assert plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"] < 60


def test_the_first_of_every_line_is_found_by_one_look_for_each(long_queue: Connection) -> None:
    long_queue.execute("UPDATE queueing_queueentry SET tenant_id = 1 + execution_id / 2 % 5 WHERE state = 'ready'")
    long_queue.execute("ANALYZE queueing_queueentry")
    row = long_queue.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {heads_statement()}").fetchone()
    assert row is not None
    plan = nodes(row[0][0]["Plan"])
    assert plan[0]["Actual Rows"] == 5
    assert {node["Index Name"] for node in plan if "Index Name" in node} == {"entry_line"}
    assert not [node for node in plan if node["Node Type"] in ("Sort", "Seq Scan", "Incremental Sort")]
    read = [node for node in plan if "Index Name" in node]
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) <= 6


def test_a_whole_claim_reads_little_of_a_long_queue(long_queue: Connection, worker: int) -> None:
    """Everything that the function does, seen by the counters of the tables it reads."""

    def read() -> dict[str, int]:
        rows = long_queue.execute(
            "SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
            " FROM pg_stat_xact_user_tables WHERE relname LIKE 'queueing_%'"
        ).fetchall()
        return dict(rows)

    for _ in range(6):  # prepared: the plans inside become generic ones after five calls
        queue.claim(long_queue, worker, 10, LEASE)
    before = read()
    claim = queue.claim(long_queue, worker, 10, LEASE)
    after = read()
    assert len(claim.leases) == 10
    touched = {table: count - before.get(table, 0) for table, count in after.items()}
    assert sum(touched.values()) < 400, touched
