"""What an execution said, in order: its events and its output as one gapless series.

Every door that shows an execution (API, SSE, WebSocket, pages) reads this and nothing else, by the same cursor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from channels.db import database_sync_to_async
from django.db import connection

from executions.models import ROLLBACK

DEFAULT_LIMIT = 1000  # items
MAX_LIMIT = 10_000  # items
MAX_TEXT = 1024 * 1024  # bytes of output in one page; one item may be larger, and is then alone


class FeedItem(TypedDict):
    """One event or one piece of output.

    `kind` is "output" for a piece of output, whose `data` is {step, target, step_target, stream, text}, and `kind`
    "rollback" when what undoes the step printed it.
    """

    seq: int
    at: str
    kind: str
    actor: str
    reason: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Items after a cursor, ascending by `seq`; `more` says that reading on at once finds further ones."""

    items: list[FeedItem]
    more: bool


# Both tables have (execution_id, seq) as their key: two index scans, merged, and cut before anything else is joined.
# The size is taken first, without the text (octet_length needs not unpack it), and the text only of what is returned.
# The cut by size keeps the first row whatever its size, so that reading always gets on. What retention is just removing
# is not read at all: its first rows go in the transaction that sets the mark, so nobody gets a series with a hole.
READ = """
WITH page AS MATERIALIZED (
    (SELECT seq, at, kind, actor, reason, data, NULL::bigint AS step_target_id, 0 AS size
       FROM executions_event WHERE execution_id = %(execution)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s)
    UNION ALL
    (SELECT seq, at, 'output', 'system', '', NULL, step_target_id, octet_length(text)
       FROM executions_outputchunk WHERE execution_id = %(execution)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s)
    ORDER BY seq LIMIT %(limit)s
), measured AS (
    SELECT page.*, count(*) OVER () AS found, row_number() OVER (ORDER BY seq) AS position,
           sum(size) OVER (ORDER BY seq) AS total
      FROM page
     WHERE NOT EXISTS (SELECT FROM executions_execution WHERE id = %(execution)s AND events_pruned_at IS NOT NULL)
)
SELECT m.seq, m.at, m.kind, m.actor, m.reason, m.data, m.step_target_id, chunk.stream, chunk.text, step.key,
       step.kind, target.name, m.found
  FROM measured m
  LEFT JOIN executions_outputchunk chunk
         ON m.step_target_id IS NOT NULL AND chunk.execution_id = %(execution)s AND chunk.seq = m.seq
  LEFT JOIN executions_steptarget target ON target.id = m.step_target_id
  LEFT JOIN executions_step step ON step.id = target.step_id
 WHERE m.position = 1 OR m.total <= %(text)s
 ORDER BY m.seq
"""


def read_page(execution_id: int, after: int = 0, limit: int = DEFAULT_LIMIT, *, max_text: int = MAX_TEXT) -> FeedPage:
    """Return the items of an execution with `seq` > `after`: at most `limit` of them, and `max_text` bytes of output.

    One statement, so one snapshot: numbers are given out under the lock of the execution's row, hence what is read has
    no hole. Empty when retention has removed them, or has begun to. Says nothing about who may see it: the caller has
    looked the execution up through what its user may see.
    """
    limit = max(1, min(limit, MAX_LIMIT))
    with connection.cursor() as cursor:
        cursor.execute(READ, {"execution": execution_id, "after": after, "limit": limit, "text": max_text})
        rows = cursor.fetchall()
    more = bool(rows) and (len(rows) < rows[0][-1] or len(rows) == limit)
    return FeedPage([_item(row) for row in rows], more)


def read(execution_id: int, after: int = 0, limit: int = DEFAULT_LIMIT) -> list[FeedItem]:
    """Return the items of `read_page` without the rest of it."""
    return read_page(execution_id, after, limit).items


# For coroutines: each call in a thread of its own, whose database connection goes back to the pool afterwards.
aread_page = database_sync_to_async(read_page, thread_sensitive=False)
aread = database_sync_to_async(read, thread_sensitive=False)


def timestamp(at: datetime) -> str:
    """Return a time as the feed writes it: UTC, ISO 8601, with microseconds and a Z."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _item(row: tuple[Any, ...]) -> FeedItem:
    seq, at, kind, actor, reason, data, step_target, stream, text, step_key, step_kind, target_name, _found = row
    if kind == "output":
        data = {
            "step": step_key or "",
            "target": target_name or "",
            "step_target": step_target,
            "stream": stream,
            "text": text,
        }
        if step_kind == ROLLBACK:
            data["kind"] = step_kind
    return {"seq": seq, "at": timestamp(at), "kind": kind, "actor": actor, "reason": reason, "data": _loaded(data)}


def _loaded(data: Any) -> dict[str, Any]:
    """Return a jsonb value as a dict: Django's connection hands jsonb over as text."""
    if isinstance(data, str):
        data = json.loads(data)
    return data if isinstance(data, dict) else {}
