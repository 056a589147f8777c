"""The ledger: the one writer of a worker process.

Runners hand over records (what moved, what was printed) and go on; the ledger gathers whatever has come in while its
last group was being committed, and commits it as the next group: one call, one transaction, one fsync for hundreds of
executions. A record is durable when its future is done; before a side effect a runner waits for that.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
from django.conf import settings

from executions.approval_points import Point
from executions.states import ExecutionStatus
from queueing.connections import connect
from queueing.fingerprint import fingerprint_of, pattern_of
from queueing.queue import Connection

log = logging.getLogger(__name__)

E = ExecutionStatus

MAX_GROUP = 1000  # records in a group: bounds the length of a transaction
MAX_BACKLOG_BYTES = 16 * 1024 * 1024  # output that waits to be written; beyond it commands are slowed down
WRONG_STATE = "OC001"  # raised by ledger_commit when a row was not in the state that was said
COMMITTED_ALREADY = "OC002"  # raised by ledger_commit when this group was committed and only the answer was lost


class LeaseLost(Exception):
    """Another worker may have this execution now: stop what runs for it, write nothing more."""


class WrongState(Exception):
    """What was to be written cannot be. It is a bug; the execution goes to the DLQ."""


class Moved(WrongState):
    """A row was not in the state that this worker left it in: somebody else has moved it."""


@dataclass(slots=True)
class Record:
    """What happened to one execution, in order. Shapes of the dicts: executions/sql/ledger.sql.

    `events` holds events and output chunks alike, in their order; a chunk is told by its key "stream".
    `rollbacks` are rows to be made: the ledger writes the "id" of each, and of its targets, into these same dicts.
    """

    execution_id: int
    token: int
    status: str | None = None
    from_statuses: list[str] | None = None
    reason: str | None = None
    error_code: str | None = None
    start: bool = False
    end: str | None = None
    delay: float = 0.0
    give_back: bool = False
    dead_reason: str | None = None
    ask: list[Point] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    outdated: bool = False  # the same worker has this execution under a newer lease by now
    done: asyncio.Future[None] | None = None


class Ledger:
    """Start it in the event loop's thread; `submit` and `commit` belong to that thread too."""

    def __init__(self, worker_id: int, on_lost: Callable[[int], None]) -> None:
        self._worker_id = worker_id
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._records: list[Record] = []
        self._condition = threading.Condition()
        self._backlog = 0
        self._room = asyncio.Event()
        self._room.set()
        self._group = 0
        self._closing = False
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    def submit(self, record: Record) -> None:
        """Hand over a record without waiting for it."""
        self._backlog += record.size
        if self._backlog > MAX_BACKLOG_BYTES:
            self._room.clear()
        with self._condition:
            self._records.append(record)
            self._condition.notify()

    async def commit(self, record: Record) -> None:
        """Hand over a record and wait until it is durable. Raises LeaseLost, WrongState (Moved)."""
        record.done = self._loop.create_future()
        self.submit(record)
        await record.done

    async def room(self) -> None:
        """Wait until the backlog of output is small enough to take more."""
        await self._room.wait()

    async def close(self) -> None:
        """Write what was handed over, then end."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join, 30)

    # -- the ledger's thread ----------------------------------------------------------------------------------------

    def _write(self) -> None:
        while True:
            with self._condition:
                while not self._records and not self._closing:
                    self._condition.wait()
                group, self._records = self._records[:MAX_GROUP], self._records[MAX_GROUP:]
            if not group:
                break
            try:
                answers = self._commit_group(group)
            except Exception as error:
                # A bug of ours. Were the thread to end, every execution of this worker would wait for ever.
                log.exception("The ledger failed to write a group of %d records.", len(group))
                answers = {record.execution_id: WrongState(f"{type(error).__name__}: {error}") for record in group}
            self._loop.call_soon_threadsafe(self._settle, group, answers)
        if self._connection is not None:
            self._connection.close()

    def _commit_group(self, group: list[Record]) -> dict[int, Exception]:
        """Commit; return what went wrong by execution."""
        merged = merge(group)
        for record in group:
            record.outdated = record.token != merged[record.execution_id].token
        try:
            lost = self._execute(merged)
        except WrongState:
            # One of them is wrong and took the others down with it. Each for itself, then.
            answers: dict[int, Exception] = {}
            for one in merged.values():
                try:
                    lost = self._execute({one.execution_id: one})
                except WrongState as error:
                    answers[one.execution_id] = error
                else:
                    answers.update({execution_id: LeaseLost(execution_id) for execution_id in lost})
            return answers
        return {execution_id: LeaseLost(execution_id) for execution_id in lost}

    def _execute(self, merged: dict[int, Record]) -> list[int]:
        """Run one group until it is known to be committed or refused; return whose lease is lost. Raises WrongState.

        When the connection breaks, the commit may or may not have happened, or be under way still: the group is sent
        again under its number, and the database writes each number once.
        """
        operations = None if _has_new_rows(merged) else encode(operations_of(merged))
        self._group += 1
        while True:
            try:
                if self._connection is None:
                    self._connection = connect("ledger")
                if operations is None:
                    _number(self._connection, merged)
                    operations = encode(operations_of(merged))
                return self._call(self._connection, operations, merged)
            except psycopg.Error as error:
                if error.sqlstate == WRONG_STATE:
                    raise Moved(str(error).splitlines()[0]) from None
                log.warning("The database cannot be reached to write: %s", str(error).strip() or type(error).__name__)
                if self._connection is not None and (self._connection.closed or self._connection.broken):
                    self._connection.close()
                    self._connection = None
                elif not _may_work_later(error):
                    raise WrongState(str(error).splitlines()[0]) from None
                time.sleep(0.2)

    def _call(self, connection: Connection, operations: str, merged: dict[int, Record]) -> list[int]:
        try:
            row = connection.execute(
                "SELECT ledger_commit(%s, %s, %s::jsonb, %s)",
                (self._worker_id, self._group, operations, settings.QUEUE_AGEING),
                prepare=True,
            ).fetchone()
        except psycopg.Error as error:
            if error.sqlstate != COMMITTED_ALREADY:
                raise
            return _without_lease(connection, merged)
        return list(row[0]) if row else []

    # -- the event loop ---------------------------------------------------------------------------------------------

    def _settle(self, group: list[Record], answers: dict[int, Exception]) -> None:
        for record in group:
            self._backlog -= record.size
            error = LeaseLost(record.execution_id) if record.outdated else answers.get(record.execution_id)
            if record.done is not None and not record.done.done():
                if error is None:
                    record.done.set_result(None)
                else:
                    record.done.set_exception(error)
        if self._backlog <= MAX_BACKLOG_BYTES // 2:
            self._room.set()
        for execution_id, error in answers.items():
            if isinstance(error, LeaseLost):
                self._on_lost(execution_id)


def _has_new_rows(merged: dict[int, Record]) -> bool:
    return any(record.rollbacks for record in merged.values())


def _number(connection: Connection, merged: dict[int, Record]) -> None:
    """Give the rows that are to be made their numbers, once, however often the group is sent."""
    steps = [step for record in merged.values() for step in record.rollbacks]
    rows = {"executions_step": steps, "executions_steptarget": [row for step in steps for row in step["targets"]]}
    for table, unnumbered in rows.items():
        numbers = connection.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)", (table, len(unnumbered))
        ).fetchall()
        for row, (number,) in zip(unnumbered, numbers, strict=True):
            row.setdefault("id", number)


def _may_work_later(error: psycopg.Error) -> bool:
    """Whether the server, not the statement, is the trouble: deadlock, time-out, shutdown, no room left."""
    return (error.sqlstate or "")[:2] in {"40", "53", "55", "57", "58", "08", ""}


def encode(operations: dict[str, list[dict[str, Any]]]) -> str:
    """Return operations as JSON that jsonb takes. Raises WrongState when there is no such JSON.

    Text from outside may hold what PostgreSQL's text cannot: NUL, and halves of surrogate pairs. Both become U+FFFD.
    It is rare, so it is looked for in what was encoded, not before.
    """
    try:
        try:
            encoded = orjson.dumps(operations)
            if b"\\u0000" not in encoded:
                return encoded.decode()
        except TypeError:
            pass
        return orjson.dumps(_storable(operations)).decode()
    except TypeError as error:
        raise WrongState(f"It cannot be written as JSON: {error}") from None


def _storable(value: Any) -> Any:
    """Return the value with every text in it as PostgreSQL can store it."""
    if isinstance(value, str):
        whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return whole.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value


def _without_lease(connection: Connection, merged: dict[int, Record]) -> list[int]:
    """Return those that hold no lease now. Stands in for a lost answer: what had no lease then has none now.

    Records that end an execution are left out: they give the lease up themselves, and nothing follows them.
    """
    going_on = {record.execution_id: record.token for record in merged.values() if record.end is None}
    rows = connection.execute(
        "SELECT execution_id, token FROM queueing_queueentry WHERE execution_id = ANY (%s::bigint[])"
        " AND state = 'leased' AND lease_expires_at > statement_timestamp()",
        (list(going_on),),
    ).fetchall()
    held = dict(rows)
    return [execution_id for execution_id, token in going_on.items() if held.get(execution_id) != token]


def merge(group: list[Record]) -> dict[int, Record]:
    """Fold a group so that each execution, step and target appears once: from its first state to its last.

    Of an execution under two leases the newer one counts: who holds the older one has lost it.
    """
    merged: dict[int, Record] = {}
    for record in group:
        earlier = merged.get(record.execution_id)
        if earlier is None or earlier.token < record.token:
            merged[record.execution_id] = _copy(record)
            continue
        if earlier.token > record.token:
            continue
        earlier.steps = _fold(earlier.steps, record.steps)
        earlier.targets = _fold(earlier.targets, record.targets)
        earlier.events += record.events
        earlier.rollbacks += record.rollbacks
        if record.status is not None:
            earlier.from_statuses = _sources(earlier, record)
            earlier.status = record.status
        earlier.reason = record.reason if record.reason is not None else earlier.reason
        earlier.error_code = record.error_code if record.error_code is not None else earlier.error_code
        earlier.start = earlier.start or record.start
        if record.end is not None:
            earlier.end, earlier.delay, earlier.give_back = record.end, record.delay, record.give_back
            earlier.dead_reason, earlier.ask = record.dead_reason, record.ask
    return merged


def _sources(earlier: Record, later: Record) -> list[str] | None:
    """Return from which statuses both moves, one after the other, are what was meant.

    The first leaves an execution that is being cancelled as it is (ledger.sql), so the second has to allow for that.
    """
    if earlier.status is None:
        return later.from_statuses
    if earlier.from_statuses is None or later.from_statuses is None:
        return earlier.from_statuses
    then = {
        status: status if (status, earlier.status) == (E.CANCELLING, E.RUNNING) else earlier.status
        for status in earlier.from_statuses
    }
    return [status for status in earlier.from_statuses if then[status] in later.from_statuses]


def _copy(record: Record) -> Record:
    return Record(
        record.execution_id,
        record.token,
        record.status,
        record.from_statuses,
        record.reason,
        record.error_code,
        record.start,
        record.end,
        record.delay,
        record.give_back,
        record.dead_reason,
        record.ask,
        record.steps,
        record.targets,
        list(record.events),
        list(record.rollbacks),
    )


def _fold(earlier: list[dict[str, Any]], later: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not later or not earlier:
        return earlier or later
    folded = {row["id"]: row for row in earlier}
    for row in later:
        known = folded.get(row["id"])
        if known is None:
            folded[row["id"]] = row
        else:
            folded[row["id"]] = {
                **known,
                **row,
                "from": known["from"],
                "ran": known.get("ran") or known["to"] == "running",
            }
    return list(folded.values())


def operations_of(merged: dict[int, Record]) -> dict[str, list[dict[str, Any]]]:
    """Return a merged group in the shape of ledger_commit's p_ops."""
    executions: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    chunks: list[dict[str, Any]] = []
    for record in merged.values():
        execution_id = record.execution_id
        row: dict[str, Any] = {"id": execution_id, "token": record.token, "n": len(record.events)}
        if record.status is not None:
            row["status"] = record.status
            row["from"] = record.from_statuses
        if record.reason is not None:
            row["reason"] = record.reason
        if record.error_code is not None:
            row["error_code"] = record.error_code
        if record.start:
            row["start"] = True
        if record.end is not None:
            row["end"] = record.end
            if record.end == "return":
                row["delay"], row["give_back"] = record.delay, record.give_back
            elif record.end == "ask":
                row["ask"] = [point.step for point in record.ask or ()]
                row["ask_waves"] = [point.wave for point in record.ask or ()]
            elif record.end == "dead":
                row["dead_reason"] = record.dead_reason
                row["pattern"] = pattern_of(record.reason or "")
                row["fingerprint"] = fingerprint_of(record.dead_reason or "", row["pattern"])
        executions.append(row)
        steps += record.steps
        targets += record.targets
        for number, event in enumerate(record.events, 1):
            event["execution_id"] = execution_id
            event["k"] = number
            (chunks if "stream" in event else events).append(event)
    operations = {"executions": executions, "steps": steps, "targets": targets, "events": events, "chunks": chunks}
    if rollbacks := [{"execution_id": r.execution_id, **step} for r in merged.values() for step in r.rollbacks]:
        operations["rollbacks"] = rollbacks  # plans that undo nothing pay nothing
    return operations
