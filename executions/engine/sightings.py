"""What executions let us know of assets: that they answered, and what checks of them found.

Nothing of it is written on the way of an execution. What ended is noted in memory, and written now and then, many at
once. A worker that dies takes the last seconds of it along: the marks are of days, and a check can be repeated.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from django.db import connection

from executions.connectors.base import ErrorCode
from executions.engine.probing import HOST_KEY_TOOL, TOOL
from executions.engine.state import ExecutionState
from executions.models import Health
from executions.states import StepStatus
from executions.tools import get_catalog

# Marks of when an asset was last seen are this old at most; so an asset that is in use all the time costs little.
SEEN_EVERY_SECONDS = 600
_FORGET_ABOVE = 100_000  # assets whose last mark is remembered
# They act on nothing, or not on the target.
_SEES_NOTHING = frozenset({"none", "inventory", "http"})

REFUSED = (
    ErrorCode.HOST_KEY_UNKNOWN, ErrorCode.HOST_KEY_CHANGED, ErrorCode.AUTHENTICATION_FAILED, ErrorCode.TLS_FAILED,
    ErrorCode.INVALID_ANSWER,
)  # fmt: skip
UNREACHABLE = (
    ErrorCode.UNREACHABLE, ErrorCode.CONNECTION_REFUSED, ErrorCode.NO_ANSWER, ErrorCode.CONNECTION_LOST, "timed_out",
)  # fmt: skip

# From rows that are committed, in the database's time. The newest check wins, in whatever order they are written here,
# and writing one twice does no harm. Rows are locked in one order, as every other writer of many assets does.
_WRITE_CHECKS = """
WITH found AS (
    SELECT DISTINCT ON (t.asset_id) t.asset_id, t.status, t.error_code, t.error, t.finished_at,
           (t.data ->> 'response_ms')::int AS response_ms
      FROM executions_steptarget t JOIN executions_step s ON s.id = t.step_id
     WHERE t.execution_id = ANY (%(executions)s) AND s.tool = %(tool)s AND t.asset_id IS NOT NULL
       AND t.status IN ('succeeded', 'failed', 'timed_out')
     ORDER BY t.asset_id, t.finished_at DESC
), held AS (
    SELECT a.id FROM executions_asset a JOIN found ON found.asset_id = a.id
     WHERE a.checked_at IS NULL OR a.checked_at < found.finished_at
     ORDER BY a.id FOR NO KEY UPDATE OF a
)
UPDATE executions_asset a
   SET health = CASE WHEN found.status = 'succeeded' THEN %(healthy)s
                     WHEN found.error_code = ANY (%(refused)s) THEN %(is_refused)s
                     WHEN found.error_code = ANY (%(unreachable)s) OR found.status = 'timed_out' THEN %(is_unreachable)s
                     ELSE %(failed)s END,
       health_code = found.error_code, health_message = found.error, checked_at = found.finished_at,
       response_ms = CASE WHEN found.status = 'succeeded' THEN found.response_ms END,
       last_seen_at = CASE WHEN found.status = 'succeeded' THEN greatest(a.last_seen_at, found.finished_at)
                           ELSE a.last_seen_at END
  FROM found JOIN held ON held.id = found.asset_id
 WHERE a.id = found.asset_id AND (a.checked_at IS NULL OR a.checked_at < found.finished_at)
"""
_WRITE_SEEN = """
WITH held AS (SELECT id FROM executions_asset
               WHERE id = ANY (%(assets)s)
                 AND (last_seen_at IS NULL OR last_seen_at < statement_timestamp() - %(every)s * interval '1 second')
               ORDER BY id FOR NO KEY UPDATE)
UPDATE executions_asset a SET last_seen_at = statement_timestamp() FROM held WHERE a.id = held.id
"""


class Sightings:
    """One for each worker. `note` in the event loop's thread, `write` in the upkeep's."""

    def __init__(self) -> None:
        self._checked: deque[int] = deque()
        self._seen: deque[int] = deque()
        self._written_at: dict[int, float] = {}

    def note(self, state: ExecutionState) -> None:
        """Remember what an execution that has ended, or stops here, saw."""
        catalog = get_catalog()
        for step in state.steps:
            tool = catalog.get(step.planned["tool"])
            # Whoever answers in a machine's place shows a host key as well.
            if tool is None or tool.connector in _SEES_NOTHING or tool.name == HOST_KEY_TOOL:
                continue
            if tool.name == TOOL:
                self._checked.append(state.id)
                continue
            now = time.monotonic()
            for target in step.targets:
                if target.planned and target.status == StepStatus.SUCCEEDED:
                    number = target.planned["asset_id"]
                    if now - self._written_at.get(number, -SEEN_EVERY_SECONDS) >= SEEN_EVERY_SECONDS:
                        self._written_at[number] = now
                        self._seen.append(number)

    def write(self) -> None:
        """Write what was noted. What cannot be written now is written the next time."""
        self._write(self._checked, write_checks)
        self._write(self._seen, write_seen)
        if len(self._written_at) > _FORGET_ABOVE:
            self._written_at = {}

    @staticmethod
    def _write(noted: deque[int], write: Callable[[list[int]], None]) -> None:
        taken = [noted.popleft() for _ in range(len(noted))]
        if not taken:
            return
        try:
            write(taken)
        except BaseException:
            noted.extend(taken)
            raise


def write_checks(execution_ids: list[int]) -> None:
    """Keep what the checks in these executions found as the health of their assets."""
    words = {
        "healthy": Health.HEALTHY, "is_refused": Health.REFUSED, "is_unreachable": Health.UNREACHABLE,
        "failed": Health.FAILED,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            _WRITE_CHECKS,
            {
                "executions": execution_ids, "tool": TOOL, "refused": [str(code) for code in REFUSED],
                "unreachable": [str(code) for code in UNREACHABLE],
                **{name: word.value for name, word in words.items()},
            },
        )  # fmt: skip


def write_seen(asset_ids: list[int]) -> None:
    """Mark assets as seen now, unless they were a short while ago."""
    with connection.cursor() as cursor:
        cursor.execute(_WRITE_SEEN, {"assets": asset_ids, "every": SEEN_EVERY_SECONDS})
