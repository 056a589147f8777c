"""Whether a run kept its promises: a rate at which something was lost is no figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.children import ChildFailed

# Runs a statement, gives its first row.
Query = Callable[[str], tuple[Any, ...]]

NOT_SUCCEEDED = "SELECT count(*) FROM executions_execution WHERE status <> 'succeeded'"
# Events and output of an execution are one series that runs from 1 to last_seq.
GAPS = """
SELECT count(*) FROM executions_execution e LEFT JOIN (
    SELECT execution_id, count(*) AS number, min(seq) AS first, max(seq) AS last FROM (
        SELECT execution_id, seq FROM executions_event UNION ALL SELECT execution_id, seq FROM executions_outputchunk
    ) s GROUP BY execution_id
) series ON series.execution_id = e.id
WHERE series.number IS DISTINCT FROM e.last_seq OR series.first <> 1 OR series.last <> e.last_seq
"""
STEPS_NOT_SUCCEEDED = """
SELECT (SELECT count(*) FROM executions_step WHERE status <> 'succeeded')
     + (SELECT count(*) FROM executions_steptarget WHERE status <> 'succeeded' OR attempt <> 1)
"""
LEFT = "SELECT (SELECT count(*) FROM queueing_queueentry) + (SELECT count(*) FROM queueing_assetlock)"


def require_all_succeeded(query: Query, executions: int) -> None:
    """Raise ChildFailed unless all executions, and their steps at the first try, succeeded and nothing is left over."""
    require("executions", query("SELECT count(*) FROM executions_execution")[0], executions)
    require("executions that did not succeed", query(NOT_SUCCEEDED)[0], 0)
    require("steps and targets that did not succeed at once", query(STEPS_NOT_SUCCEEDED)[0], 0)
    require("queue entries and locks that are left", query(LEFT)[0], 0)
    require_no_gaps(query)


def require_no_gaps(query: Query) -> None:
    """Raise ChildFailed when the events of an execution are not numbered from 1 without a gap."""
    require("executions with a gap in their events", query(GAPS)[0], 0)


def require(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise ChildFailed(f"{what}: {found}, expected {expected}")
