"""Retention: what is old enough is removed, in small batches beside live load, so that nothing grows for ever.

    events and output      EVENT_RETENTION_DAYS after the end of their execution, which stays and says so
    whole executions       EXECUTION_RETENTION_DAYS after their end
    closed DLQ entries     the same time after they were closed, and the batches that they were decided on in
    the fleet's history    ended workers and clusters, and decisions on their number, FLEET_KEEP after their time
    idempotency keys and sessions that have expired

What has not ended, needs attention or has an open DLQ entry is never touched. There is no index on the end of an
execution, it would cost every move of every execution; none is needed, for ids grow with time: the oldest are looked at
first, and the first page with an execution younger than the limit is the last one.

Every batch is a transaction of its own, and finds what is due by itself. So a run that is killed has lost nothing, and
the next one goes on where it stopped.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from queueing import worker

log = logging.getLogger(__name__)

FLEET_KEEP = timedelta(days=30)
LOCK_LOOK_SECONDS = 1.0
# The row of django-q2 that runs it, made by migration 0004.
NAME = "prune"
TASK = "executions.retention.prune_daily"
# Under the time limit of django-q2's tasks (settings.Q_CLUSTER): what is left over waits for the next day.
DAILY_SECONDS = 3000.0

Counts = Counter[str]
Key = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is removed at once, and how long the database is left alone after it.

    rows            most rows of a batch that can be many (events, output, steps, targets); the others are a few for
                    each execution
    pause_seconds   at least; also at least as long as the batch took, so that half of the time belongs to others
    """

    rows: int = 2000
    pause_seconds: float = 0.1

    @property
    def executions(self) -> int:
        """How many executions are looked at for one batch."""
        return max(1, self.rows // 10)


# A page of executions that have events: from one to the next by the key (execution_id, seq), so an execution is one
# step however much it said, and one whose events are gone is none.
WITH_EVENTS = """
WITH RECURSIVE hop AS (
    (SELECT execution_id AS id, 1 AS number FROM executions_event WHERE execution_id > %(after)s
      ORDER BY execution_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.execution_id FROM executions_event e WHERE e.execution_id > hop.id
             ORDER BY e.execution_id LIMIT 1), number + 1
      FROM hop WHERE hop.id IS NOT NULL AND number < %(executions)s
), page AS MATERIALIZED (SELECT id FROM hop WHERE id IS NOT NULL)
"""

ANY = """
WITH page AS MATERIALIZED (
    SELECT id FROM executions_execution WHERE id > %(after)s ORDER BY id LIMIT %(executions)s
)
"""

# Those of a page that are due, and whether the page has reached what is younger. Locked to the end of the transaction:
# who writes a remark to one waits for that long. A row that somebody else has in hand is left for the next run.
# An array, not a join: however many rows the planner expects of the page, it takes the key.
DUE = """
, due AS (
    SELECT x.id FROM executions_execution x
     WHERE x.id = ANY (ARRAY(SELECT id FROM page))
       AND x.finished_at < statement_timestamp() - %(keep)s::interval
       AND (%(whole)s::interval IS NULL OR x.finished_at >= statement_timestamp() - %(whole)s::interval)
       AND NOT EXISTS (SELECT FROM queueing_deadletter d WHERE d.execution_id = x.id AND d.state = 'open')
       {more}
     ORDER BY x.id {lock}
)
SELECT (SELECT max(id) FROM page), (SELECT array_agg(id) FROM due),
       EXISTS (SELECT FROM executions_execution y WHERE y.id = ANY (ARRAY(SELECT id FROM page))
                  AND y.created_at >= statement_timestamp() - %(keep)s::interval)
"""
LOCK = "FOR UPDATE OF x SKIP LOCKED"
# Its retry would have to forget where it came from, and that is a row that a worker writes.
NO_LIVE_RETRY = """
       AND NOT EXISTS (SELECT FROM executions_execution retry
                        WHERE retry.parent_id = x.id AND retry.finished_at IS NULL)"""

MARK = """
UPDATE executions_execution SET events_pruned_at = statement_timestamp()
 WHERE id = ANY (%(ids)s) AND events_pruned_at IS NULL
"""

# Rows of the executions that are due, at most so many: found by their index, one execution after the other until there
# are enough, never by reading the table. What has ended is not written any more, so ctid names the row.
ROWS_OF = """
ctid = ANY (ARRAY(
    SELECT piece.ctid FROM unnest(%(ids)s::bigint[]) AS due(id)
     CROSS JOIN LATERAL (SELECT t.ctid FROM {table} t WHERE t.execution_id = due.id {more} LIMIT %(rows)s) piece
     LIMIT %(rows)s))
"""


def _delete(table: str, more: str) -> str:
    return f"DELETE FROM {table} WHERE {ROWS_OF.format(table=table, more=more)}"


# What can be many. The events go last: by them the next batch finds an execution of which something is left.
EVENTS = (
    ("pieces of output", _delete("executions_outputchunk", "ORDER BY t.seq")),
    (
        "",
        "UPDATE executions_steptarget SET stdout = '' WHERE "
        + ROWS_OF.format(table="executions_steptarget", more="AND t.stdout <> ''"),
    ),
    ("events", _delete("executions_event", "ORDER BY t.seq")),
)
WHOLE = (
    *EVENTS,
    ("", _delete("executions_steptarget", "")),
    ("", _delete("executions_step", "ORDER BY t.position")),
)
# A few for each execution, and then the execution.
LAST_OF_WHOLE = (
    ("", "DELETE FROM executions_approval WHERE execution_id = ANY (%(ids)s)"),
    ("", "DELETE FROM executions_pendingapproval WHERE execution_id = ANY (%(ids)s)"),
    ("", "DELETE FROM queueing_attempt WHERE execution_id = ANY (%(ids)s)"),
    ("", "DELETE FROM executions_executionplan WHERE execution_id = ANY (%(ids)s)"),
    ("", "DELETE FROM safety_idempotencykey WHERE execution_id = ANY (%(ids)s)"),
    *(
        (
            "",
            f"DELETE FROM guardian_{who}objectpermission WHERE object_pk = ANY (%(ids)s::bigint[]::text[])"
            " AND content_type_id = (SELECT id FROM django_content_type"
            " WHERE app_label = 'executions' AND model = 'execution')",
        )
        for who in ("user", "group")
    ),
    ("", "UPDATE executions_execution SET parent_id = NULL WHERE parent_id = ANY (%(ids)s)"),
    ("executions", "DELETE FROM executions_execution WHERE id = ANY (%(ids)s)"),
)


@dataclass(frozen=True, slots=True)
class Ageing:
    """Executions that grow old: which of them are due after `keep`, and what of theirs is removed then."""

    keep: timedelta
    page: str
    more: str
    parts: tuple[tuple[str, str], ...]
    last: tuple[tuple[str, str], ...] = ()

    def due(self, *, lock: bool) -> str:
        """The statement that finds a page; with `lock` it also locks those that are due."""
        return self.page + DUE.format(more=self.more, lock=LOCK if lock else "")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Rows of a table that are over by what stands in them: looked through by its key, page by page."""

    name: str
    table: str
    key: str
    first: Key
    over: str
    keep: timedelta | None = None

    def page(self) -> str:
        """The statement that finds the end of a page: the key of its last row."""
        names = self.key.split(", ")
        return (
            f"SELECT {self.key} FROM (SELECT {self.key} FROM {self.table}"
            f" WHERE ({self.key}) > ({_marks('after', names)}) ORDER BY {self.key} LIMIT %(rows)s) page"
            f" ORDER BY {' DESC, '.join(names)} DESC LIMIT 1"
        )

    def delete(self) -> str:
        """The statement that removes what is over up to the end of a page.

        Rows are locked before they go and one that is locked is left: a key that is just being used again stays, and
        nobody can wait for us while we wait for them.
        """
        names = self.key.split(", ")
        return (
            f"DELETE FROM {self.table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {self.table}"
            f" WHERE ({self.key}) > ({_marks('after', names)}) AND ({self.key}) <= ({_marks('last', names)})"
            f" AND {self.over} ORDER BY {self.key} FOR UPDATE SKIP LOCKED))"
        )


def _marks(prefix: str, names: list[str]) -> str:
    return ", ".join(f"%({prefix}_{number})s" for number, _ in enumerate(names))


def _events() -> Ageing | None:
    return Ageing(settings.EVENT_RETENTION, WITH_EVENTS, "", EVENTS) if settings.EVENT_RETENTION else None


def _whole() -> Ageing | None:
    keep = settings.EXECUTION_RETENTION
    return Ageing(keep, ANY, NO_LIVE_RETRY, WHOLE, LAST_OF_WHOLE) if keep else None


def _sweeps() -> Iterator[Sweep]:
    ended = "{} < statement_timestamp() - %(keep)s::interval"
    if settings.EXECUTION_RETENTION:
        # An open entry has no time of closing.
        over = ended.format("closed_at")
        yield Sweep("DLQ entries", "queueing_deadletter", "id", (0,), over, settings.EXECUTION_RETENTION)
        # Their items went with the entries; one that has an entry left is still its record.
        items = "SELECT FROM queueing_deadletterbatchitem WHERE batch_id = queueing_deadletterbatch.id"
        over = f"{ended.format('ended_at')} AND NOT EXISTS ({items})"
        yield Sweep("DLQ batches", "queueing_deadletterbatch", "id", (0,), over, settings.EXECUTION_RETENTION)
    yield Sweep("workers", "queueing_worker", "id", (0,), ended.format("stopped_at"), FLEET_KEEP)
    yield Sweep("clusters", "queueing_cluster", "name", ("",), ended.format("stopped_at"), FLEET_KEEP)
    yield Sweep("scaling decisions", "queueing_scalingdecision", "id", (0,), ended.format("at"), FLEET_KEEP)
    over = "blocks_until <= statement_timestamp()"
    yield Sweep("idempotency keys", "safety_idempotencykey", "tenant_id, key", (0, ""), over)
    yield Sweep("sessions", "safety_session", "session_key", ("",), "expire_date <= statement_timestamp()")


def prune(
    pace: Pace | None = None,
    *,
    tell: Callable[[Counts], object] = lambda removed: None,
    waiting: Callable[[], object] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> Counts:
    """Remove what is old; return how many rows of what.

    `tell` is given the counts so far after every batch; `waiting` is called once when another prune is at work, which
    is waited for; `stop` is asked between two batches. What was not done is done by the next run.
    """
    pace = pace or Pace()
    removed: Counts = Counter()
    with _turn(waiting, stop) as ours:
        if not ours:
            return removed
        began = time.monotonic()
        for counts in _batches(pace):
            removed += counts
            tell(removed)
            if stop():
                break
            time.sleep(max(pace.pause_seconds, time.monotonic() - began))
            began = time.monotonic()
    return removed


def prune_daily() -> str:
    """What django-q2 runs once a day: `prune`, to its end or for DAILY_SECONDS; ends early when its worker does."""
    latest = time.monotonic() + DAILY_SECONDS
    removed = prune(stop=lambda: bool(worker.stop_wanted.value) or time.monotonic() > latest)
    log.info("Retention removed %s.", in_words(removed))
    return in_words(removed)


def in_words(counts: Counts) -> str:
    """Return counts as "12 executions, 340 events"; "nothing" when there are none."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing"


def count_due() -> Counts:
    """Return how many rows of what `prune` would remove now. Changes nothing, and locks nothing."""
    found: Counts = Counter()
    events, whole = _events(), _whole()
    if whole:
        found += _count_of_executions(whole, None)
    if events:
        found += _count_of_executions(events, whole.keep if whole else None)
    with connection.cursor() as cursor:
        for sweep in _sweeps():
            given: dict[str, Any] = {"keep": sweep.keep}
            cursor.execute(f"SELECT count(*) FROM {sweep.table} WHERE {sweep.over}", given)
            found[sweep.name] += cursor.fetchone()[0]
    return found


def _count_of_executions(ageing: Ageing, whole: timedelta | None) -> Counts:
    found: Counts = Counter()
    after: int | None = 0
    while after is not None:
        with connection.cursor() as cursor:
            ids, after = _look(cursor, ageing, after, Pace().executions, whole=whole, lock=False)
            if ids:
                found["executions" if ageing.last else "executions that lose their events"] += len(ids)
                for name, table in (("pieces of output", "outputchunk"), ("events", "event")):
                    cursor.execute(f"SELECT count(*) FROM executions_{table} WHERE execution_id = ANY (%s)", [ids])
                    found[name] += cursor.fetchone()[0]
    return found


def _batches(pace: Pace) -> Iterator[Counts]:
    """Remove one batch after the other, each a transaction; yield what each removed.

    Whole executions first: then their events are not looked for twice.
    """
    for ageing in (_whole(), _events()):
        after: int | None = 0
        while ageing and after is not None:
            counts, after = _remove_of_executions(ageing, after, pace)
            yield counts
    for sweep in _sweeps():
        key: Key | None = sweep.first
        while key is not None:
            counts, key = _remove_swept(sweep, key, pace)
            yield counts


def _look(
    cursor: Any, ageing: Ageing, after: int, executions: int, *, whole: timedelta | None = None, lock: bool
) -> tuple[list[int], int | None]:
    """Return the executions that are due on the page after `after`, and where the next page begins; None: nowhere."""
    given = {"after": after, "executions": executions, "keep": ageing.keep, "whole": whole}
    cursor.execute(ageing.due(lock=lock), given)
    last, ids, young = cursor.fetchone()
    return ids or [], None if young else last


def _remove_of_executions(ageing: Ageing, after: int, pace: Pace) -> tuple[Counts, int | None]:
    """Remove one batch; return what, and where to go on: at the same page while it has more than a batch."""
    counts: Counts = Counter()
    with transaction.atomic(), connection.cursor() as cursor:
        ids, following = _look(cursor, ageing, after, pace.executions, lock=True)
        if not ids:
            return counts, following
        # With the first of its rows that goes, an execution says that they are gone: nobody is shown half of them.
        cursor.execute(MARK, {"ids": ids})
        left = pace.rows
        for name, statement in ageing.parts:
            cursor.execute(statement, {"ids": ids, "rows": left})
            left -= cursor.rowcount
            counts[name] += cursor.rowcount if name else 0
            if left <= 0:
                return counts, after
        for name, statement in ageing.last:
            cursor.execute(statement, {"ids": ids})
            counts[name] += cursor.rowcount if name else 0
    return counts, following


def _remove_swept(sweep: Sweep, after: Key, pace: Pace) -> tuple[Counts, Key | None]:
    given: dict[str, Any] = {"rows": pace.rows, "keep": sweep.keep}
    given |= {f"after_{number}": value for number, value in enumerate(after)}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sweep.page(), given)
        last = cursor.fetchone()
        if last is None:
            return Counter(), None
        given |= {f"last_{number}": value for number, value in enumerate(last)}
        cursor.execute(sweep.delete(), given)
        return Counter({sweep.name: cursor.rowcount}), last


@contextmanager
def _turn(waiting: Callable[[], object], stop: Callable[[], bool]) -> Iterator[bool]:
    """One prune at a time; gives False when it was told to stop while another was at work.

    The lock is the connection's: it is free as soon as its holder ends, however that is. Asked for again and again, not
    waited for: a statement that waits holds a snapshot, and would keep vacuum from what the other one removes.
    """
    name = "hashtextextended('opsconductor prune', 0)"
    told = False
    while not _ask(f"SELECT pg_try_advisory_lock({name})"):
        if not told:
            waiting()
            told = True
        if stop():
            yield False
            return
        time.sleep(LOCK_LOOK_SECONDS)
    try:
        yield True
    finally:
        _ask(f"SELECT pg_advisory_unlock({name})")


def _ask(statement: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return bool(cursor.fetchone()[0])
