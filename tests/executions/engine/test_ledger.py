"""The ledger: everything once, in order, for the holder of the lease alone, whatever happens to its connection."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from django.conf import settings
from django.utils import timezone

from executions.engine import ledger as ledger_module
from executions.engine.ledger import MAX_BACKLOG_BYTES, LeaseLost, Ledger, Moved, Record, WrongState, merge
from executions.models import Event, Execution, OutputChunk, Step, StepTarget
from queueing import queue
from queueing.connections import connect
from queueing.models import AssetLock, DeadLetter, QueueEntry
from queueing.queue import Connection
from safety.models import IdempotencyKey
from tests.executions.engine.conftest import assert_nothing_left_behind, kinds, shell
from tests.installations import wait_until
from tests.queueing.lines import LEASE, expire_leases, new_worker

pytestmark = [pytest.mark.django_db(transaction=True)]

SOURCE = Path(ledger_module.__file__).parent.parent / "sql" / "ledger.sql"
Begin = Callable[..., int]
KILLS = 8


@dataclass
class Worker:
    """A worker as far as the ledger needs one: registered, with leases, and what it was told of losses."""

    connection: Connection
    id: int = field(default_factory=new_worker)
    lost: list[int] = field(default_factory=list)
    leases: dict[int, queue.Lease] = field(default_factory=dict)

    def claim(self) -> None:
        self.leases.update(
            {lease.execution_id: lease for lease in queue.claim(self.connection, self.id, 100, LEASE).leases}
        )

    def record(self, execution_id: int, **fields: Any) -> Record:
        return Record(execution_id, fields.pop("token", self.leases[execution_id].token), **fields)

    def note(self, execution_id: int, text: str, **fields: Any) -> Record:
        return self.record(execution_id, events=[event(text)], **fields)

    def start(self, execution_id: int) -> Record:
        return self.note(
            execution_id, "execution.running", status="running", from_statuses=["queued", "cancelling"], start=True
        )

    def ids(self, table: str, execution_id: int) -> list[int]:
        """Of its steps or targets; asked without Django, which refuses to be asked inside an event loop."""
        rows = self.connection.execute(f"SELECT id FROM {table} WHERE execution_id = %s", (execution_id,)).fetchall()
        return [row[0] for row in rows]

    def moved(self, execution_id: int, old: str, new: str, **target: Any) -> Record:
        """The one step, and its one target, move."""
        move = {"execution_id": execution_id, "from": old, "to": new}
        return self.note(
            execution_id,
            f"step.{new}",
            steps=[{"id": one, **move} for one in self.ids("executions_step", execution_id)],
            targets=[{"id": one, **move, **target} for one in self.ids("executions_steptarget", execution_id)],
        )

    def printed(self, execution_id: int, *texts: str) -> Record:
        (target,) = self.ids("executions_steptarget", execution_id)
        return self.record(
            execution_id, events=[{"step_target_id": target, "stream": "stdout", "text": text} for text in texts]
        )

    def finish(self, execution_id: int, status: str = "succeeded") -> Record:
        return self.note(
            execution_id, f"execution.{status}", status=status, from_statuses=["running", "cancelling"], end="finish"
        )

    def write(self, body: Callable[[Ledger], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            ledger = Ledger(self.id, self.lost.append)
            try:
                await asyncio.wait_for(body(ledger), 60)
            finally:
                await ledger.close()
                await asyncio.sleep(0)  # what the last group's answer has to say is said

        asyncio.run(run())


def event(kind: str, **data: Any) -> dict[str, Any]:
    return {"kind": kind, "actor": "worker:test", "reason": "", "data": data}


@contextmanager
def entry_is_locked(execution_id: int) -> Iterator[None]:
    """Hold what the ledger's next group has to wait for: whatever is handed over meanwhile is the group after it."""
    with connect("test") as connection, connection.transaction():
        connection.execute("SELECT FROM queueing_queueentry WHERE execution_id = %s FOR UPDATE", (execution_id,))
        yield


async def ledger_waits() -> None:
    """Return when a call of ledger_commit waits for a lock."""
    with connect("test") as connection:
        for _ in range(1000):
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'opsconductor ledger'"
                " AND datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            if row and row[0]:
                return
            await asyncio.sleep(0.01)
    raise AssertionError("the ledger never waited")


@pytest.fixture
def worker(transactional_db: None) -> Iterator[Worker]:
    connection = connect("test")
    yield Worker(connection)
    connection.close()


def changed_function(name: str, *changes: tuple[str, str]) -> str:
    """Return the source of ledger_commit under another name, with some of it replaced."""
    source = SOURCE.read_text().split("-- What the engine needs", 1)[0]
    for old, new in (("FUNCTION ledger_commit", f"FUNCTION {name}"), *changes):
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


# --- grouping ---------------------------------------------------------------------------------------------------------


def test_a_group_folds_what_an_execution_did_and_keeps_its_order(worker: Worker, begin: Begin) -> None:
    blocker, one = begin(shell("a", "echo 1")), begin(shell("a", "echo 2"))
    AssetLock.objects.all().delete()
    worker.claim()

    async def body(ledger: Ledger) -> None:
        with entry_is_locked(blocker):
            ledger.submit(worker.start(blocker))
            await ledger_waits()
            for record in (
                worker.start(one),
                worker.moved(one, "pending", "running", attempt=1),
                worker.printed(one, "first\n", "second\n"),
                worker.moved(one, "running", "succeeded", exit_code=0, stdout_bytes=13),
            ):
                ledger.submit(record)
            last = asyncio.ensure_future(ledger.commit(worker.finish(one)))
            await asyncio.sleep(0)
        await last

    worker.write(body)
    execution = Execution.objects.get(pk=one)
    assert execution.status == "succeeded"
    assert execution.started_at is not None
    assert execution.finished_at is not None
    assert execution.deadline_at is not None
    assert kinds(one) == [
        "execution.submitted",
        "execution.running",
        "step.running",
        "step.succeeded",
        "execution.succeeded",
    ]
    assert list(Event.objects.filter(execution_id=one).order_by("seq").values_list("seq", flat=True)) == [1, 2, 3, 6, 7]
    assert list(OutputChunk.objects.filter(execution_id=one).order_by("seq").values_list("seq", "text")) == [
        (4, "first\n"), (5, "second\n"),
    ]  # fmt: skip
    target = StepTarget.objects.get(execution_id=one)
    assert (target.status, target.exit_code, target.attempt, target.stdout_bytes) == ("succeeded", 0, 1, 13)
    assert target.started_at is not None, "it ran, though its running was never a row of its own"
    assert target.finished_at is not None
    assert not QueueEntry.objects.filter(pk=one).exists()
    assert worker.lost == []


def test_a_record_that_does_not_fit_harms_its_own_execution_only(worker: Worker, begin: Begin) -> None:
    ids = [begin(shell("a", f"echo {number}")) for number in range(4)]
    AssetLock.objects.all().delete()
    worker.claim()
    wrong = ids[2]
    answers: list[BaseException | None] = []

    async def body(ledger: Ledger) -> None:
        with entry_is_locked(ids[0]):
            ledger.submit(worker.start(ids[0]))
            await ledger_waits()
            going = [asyncio.ensure_future(ledger.commit(worker.start(number))) for number in ids[1:]]
            ledger.submit(worker.moved(wrong, "running", "succeeded"))  # it is pending
            await asyncio.sleep(0)
        answers.extend(await asyncio.gather(*going, return_exceptions=True))
        await ledger.commit(worker.note(ids[1], "later"))

    worker.write(body)
    assert [type(answer) for answer in answers] == [type(None), Moved, type(None)]
    assert worker.lost == []
    statuses = dict(Execution.objects.values_list("pk", "status"))
    assert [statuses[one] for one in ids] == ["running", "running", "queued", "running"]
    assert kinds(wrong) == ["execution.submitted"], "nothing of it was written"
    assert kinds(ids[1])[-1] == "later"


def test_a_step_a_target_and_a_status_have_each_to_be_as_they_were_said_to_be(worker: Worker, begin: Begin) -> None:
    ids = [begin(shell("a", f"echo {number}")) for number in range(4)]
    AssetLock.objects.all().delete()
    worker.claim()
    step_only, target_only, strange = (worker.moved(one, "running", "succeeded") for one in ids[:3])
    step_only.targets, target_only.steps = [], []
    strange.targets = []
    strange.steps = [{**worker.moved(ids[3], "pending", "running").steps[0], "execution_id": ids[2]}]
    records = [step_only, target_only, strange, worker.finish(ids[3])]
    answers: list[BaseException | None] = []

    async def body(ledger: Ledger) -> None:
        answers.extend(await asyncio.gather(*(ledger.commit(one) for one in records), return_exceptions=True))

    worker.write(body)
    assert [type(answer) for answer in answers] == [Moved] * 4
    assert set(Step.objects.values_list("status", flat=True)) == {"pending"}
    assert set(Execution.objects.values_list("status", flat=True)) == {"queued"}
    assert Event.objects.count() == 4


def test_a_hand_back_does_not_undo_a_cancel_that_came_before_the_start_was_written(
    worker: Worker, begin: Begin
) -> None:
    """Both in one group: the folded move must be refused just as the two would have been, one after the other."""
    blocker, one = begin(shell("a", "echo 1")), begin(shell("a", "echo 2"))
    AssetLock.objects.all().delete()
    worker.claim()
    Execution.objects.filter(pk=one).update(status="cancelling")
    back = worker.note(
        one, "execution.returned", status="queued", from_statuses=["running"], end="return", give_back=True
    )
    refused: list[BaseException | None] = []

    async def body(ledger: Ledger) -> None:
        with entry_is_locked(blocker):
            ledger.submit(worker.start(blocker))
            await ledger_waits()
            ledger.submit(worker.start(one))
            going = asyncio.ensure_future(ledger.commit(back))
            await asyncio.sleep(0)
        refused.extend(await asyncio.gather(going, return_exceptions=True))

    worker.write(body)
    assert isinstance(refused[0], Moved)
    assert Execution.objects.get(pk=one).status == "cancelling"
    assert QueueEntry.objects.get(pk=one).state == "leased"


def test_of_two_leases_of_one_execution_in_a_group_the_newer_counts() -> None:
    old, new = Record(1, 10, events=[event("old")]), Record(1, 11, events=[event("new")])
    for order in itertools.permutations([old, new, Record(1, 10, status="failed", end="finish")]):
        (merged,) = merge(list(order)).values()
        assert (merged.token, merged.status, [one["kind"] for one in merged.events]) == (11, None, ["new"])


# --- ways out ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "free_again"), [("succeeded", False), ("failed", True), ("timed_out", True)])
def test_the_end_is_one_fact_status_entry_locks_and_key(
    worker: Worker, begin: Begin, status: str, free_again: bool
) -> None:
    one, behind = begin(shell("a", "echo 1")), begin(shell("a", "echo 2"))
    worker.claim()

    async def body(ledger: Ledger) -> None:
        await ledger.commit(worker.start(one))
        await ledger.commit(worker.finish(one, status))

    worker.write(body)
    assert Execution.objects.get(pk=one).status == status
    assert list(QueueEntry.objects.values_list("pk", "state")) == [(behind, "ready")], (
        "who waited for its lock is woken"
    )
    assert (IdempotencyKey.objects.get(execution_id=one).blocks_until <= timezone.now()) is free_again


def test_what_cannot_go_on_is_in_the_dlq_and_out_of_the_queue(worker: Worker, begin: Begin) -> None:
    one = begin(shell("a", "echo 1"))
    worker.claim()
    dead = worker.note(
        one, "execution.needs_attention", status="needs_attention", from_statuses=["queued", "running"],
        reason="look", error_code="engine_error", end="dead", dead_reason="engine_error",
    )  # fmt: skip

    async def body(ledger: Ledger) -> None:
        await ledger.commit(dead)

    worker.write(body)
    execution = Execution.objects.get(pk=one)
    assert (execution.status, execution.status_reason, execution.finished_at) == ("needs_attention", "look", None)
    letter = DeadLetter.objects.get()
    assert (letter.execution_id, letter.reason, letter.error, letter.attempts) == (one, "engine_error", "look", 1)
    assert letter.tenant_id == execution.tenant_id
    assert IdempotencyKey.objects.get(execution_id=one).blocks_until > timezone.now(), "it is not over"
    assert_nothing_left_behind()


# --- leases -----------------------------------------------------------------------------------------------------------


def test_who_has_no_lease_writes_nothing_and_is_told(worker: Worker, begin: Begin) -> None:
    ids = [begin(shell("a", f"echo {number}")) for number in range(4)]
    AssetLock.objects.all().delete()
    worker.claim()
    kept, expired, stolen, gone = ids
    expire_leases(expired)
    QueueEntry.objects.filter(pk=stolen).update(token=worker.leases[stolen].token + 1000)
    QueueEntry.objects.filter(pk=gone).delete()
    answers: list[BaseException | None] = []

    async def body(ledger: Ledger) -> None:
        with entry_is_locked(kept):
            ledger.submit(worker.note(kept, "first"))
            await ledger_waits()
            going = [asyncio.ensure_future(ledger.commit(worker.moved(one, "pending", "running"))) for one in ids]
            await asyncio.sleep(0)
        answers.extend(await asyncio.gather(*going, return_exceptions=True))

    worker.write(body)
    assert [type(answer) for answer in answers] == [type(None), LeaseLost, LeaseLost, LeaseLost]
    assert sorted(worker.lost) == sorted([expired, stolen, gone])
    statuses = dict(Step.objects.values_list("execution_id", "status"))
    assert [statuses[one] for one in ids] == ["running", "pending", "pending", "pending"]
    assert [len(kinds(one)) for one in ids] == [3, 1, 1, 1]


MARK = """
WITH moved AS (UPDATE executions_execution SET last_seq = last_seq + 1 WHERE id = %s RETURNING id, last_seq)
INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
SELECT id, last_seq, 'granted', 'test', '', jsonb_build_object('token', %s::bigint) FROM moved
"""
STALE = """
SELECT count(*) FROM executions_event written JOIN executions_event granted USING (execution_id)
 WHERE written.kind = 'written' AND granted.kind = 'granted' AND granted.seq < written.seq
   AND (granted.data ->> 'token')::bigint > (written.data ->> 'token')::bigint
"""
PAUSE = ("    IF v_lost IS NOT NULL THEN\n", "    PERFORM pg_sleep(0.002);\n    IF v_lost IS NOT NULL THEN\n")
UNLOCKED = ("      ORDER BY execution_id FOR NO KEY UPDATE;", ";")
ENOUGH_WRITES = 20


def stale_writes(function: str, ids: Sequence[int], seconds: float) -> tuple[int, int]:
    """Let three holders write while two thieves take their leases away; return how many writes, and how many stale."""
    tokens: dict[int, int] = {}
    over = threading.Event()
    faults: list[BaseException] = []
    written: list[int] = []
    groups: dict[int, int] = {}

    def steal(connection: Connection, own: int) -> None:
        one = random.choice(ids)
        with connection.transaction():
            connection.execute(
                "UPDATE queueing_queueentry SET lease_expires_at = '2000-01-01'"
                " WHERE execution_id = %s AND state = 'leased'",
                (one,),
            )
            queue.reap(connection)
            connection.execute(
                "UPDATE queueing_queueentry SET available_at = '2000-01-01' WHERE execution_id IN (SELECT execution_id"
                " FROM queueing_queueentry WHERE state = 'delayed' FOR UPDATE SKIP LOCKED)"
            )
            queue.promote(connection)
            leases = queue.claim(connection, own, 10, timedelta(hours=1)).leases
            for lease in leases:
                connection.execute(MARK, (lease.execution_id, lease.token))
        tokens.update({lease.execution_id: lease.token for lease in leases})
        time.sleep(0.002)

    def write(connection: Connection, own: int) -> None:
        groups[own] = groups.get(own, 0) + 1
        if not tokens:
            return
        one, token = random.choice(list(tokens.items()))
        operations = {
            "executions": [{"id": one, "token": token, "n": 1}], "steps": [], "targets": [], "chunks": [],
            "events": [{"execution_id": one, "k": 1, "kind": "written", "actor": "test", "data": {"token": token}}],
        }  # fmt: skip
        row = connection.execute(
            f"SELECT {function}(%s, %s, %s::jsonb, %s)",
            (own, groups[own], orjson.dumps(operations).decode(), settings.QUEUE_AGEING),
        ).fetchone()
        if row == ([],):
            written.append(one)

    def loop(act: Callable[[Connection, int], None], own: int) -> None:
        with connect("test") as connection:
            while not over.is_set():
                try:
                    act(connection, own)
                except psycopg.Error as error:
                    faults.append(error)
                    return

    acts = [write, write, write, steal, steal]
    threads = [threading.Thread(target=loop, args=(act, new_worker())) for act in acts]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    wait_until(lambda: len(written) > ENOUGH_WRITES or faults, seconds=60, what="enough writes")
    over.set()
    for thread in threads:
        thread.join(timeout=30)
    assert faults == []
    with connect("test") as connection:
        row = connection.execute(STALE).fetchone()
    assert row is not None
    return len(written), row[0]


def test_a_lease_that_is_taken_away_in_the_middle_of_a_write_leaves_nothing_stale(begin: Begin) -> None:
    ids = [begin(shell("a", f"echo {number}")) for number in range(3)]
    AssetLock.objects.all().delete()
    with connect("test") as connection:
        connection.execute(changed_function("ledger_commit_slow", PAUSE))
        connection.execute(changed_function("ledger_commit_unlocked", PAUSE, UNLOCKED))
    try:
        for function in ("ledger_commit", "ledger_commit_slow"):
            written, stale = stale_writes(function, ids, 1.2)
            assert written > ENOUGH_WRITES
            assert stale == 0, function
        _, stale = stale_writes("ledger_commit_unlocked", ids, 1.2)
        assert stale > 0, "the control, without the lock on the entries, has to show what the lock prevents"
    finally:
        with connect("test") as connection:
            connection.execute("DROP FUNCTION ledger_commit_slow, ledger_commit_unlocked")


# --- the connection ---------------------------------------------------------------------------------------------------


def break_connection(ledger: Ledger) -> None:
    """End the ledger's connection at its own side: its server process notices when it answers, not before."""
    assert ledger._connection is not None
    copy = socket.socket(fileno=os.dup(ledger._connection.fileno()))
    copy.shutdown(socket.SHUT_RDWR)
    copy.close()


def test_a_group_whose_answer_is_lost_is_written_once_and_its_losers_are_told(worker: Worker, begin: Begin) -> None:
    """The first call goes on for a connection that is gone, and commits after the ledger has sent the group again."""
    kept, stolen = begin(shell("a", "echo 1")), begin(shell("a", "echo 2"))
    AssetLock.objects.all().delete()
    worker.claim()
    answers: list[BaseException | None] = []

    async def body(ledger: Ledger) -> None:
        await ledger.commit(worker.start(kept))
        with entry_is_locked(stolen):
            with entry_is_locked(kept):
                ledger.submit(worker.note(kept, "blocks"))
                await ledger_waits()
                going = [
                    asyncio.ensure_future(ledger.commit(worker.moved(kept, "pending", "running"))),
                    asyncio.ensure_future(ledger.commit(worker.note(kept, "printed"))),
                    asyncio.ensure_future(ledger.commit(worker.note(stolen, "stale", token=1))),
                ]
                await asyncio.sleep(0)
            await asyncio.sleep(0.3)  # the group that was blocked is written
            await ledger_waits()
            break_connection(ledger)
            await asyncio.sleep(0.6)  # by now it has connected anew and sent the group again
        answers.extend(await asyncio.gather(*going, return_exceptions=True))
        await ledger.commit(worker.note(kept, "later"))

    worker.write(body)
    assert [type(answer) for answer in answers] == [type(None), type(None), LeaseLost]
    assert kinds(kept) == ["execution.submitted", "execution.running", "blocks", "step.running", "printed", "later"]
    assert kinds(stolen) == ["execution.submitted"]
    assert worker.lost == [stolen]


def test_every_record_is_written_once_while_its_connections_are_killed(worker: Worker, begin: Begin) -> None:
    ids = [begin(shell("a", f"echo {number}")) for number in range(8)]
    AssetLock.objects.all().delete()
    worker.claim()
    over = threading.Event()
    killed = 0
    counts = dict.fromkeys(ids, 0)

    def kill() -> None:
        nonlocal killed
        with connect("test") as connection:
            while killed < KILLS and not over.is_set():
                time.sleep(random.uniform(0.0, 0.02))
                killed += connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'opsconductor ledger' AND datname = current_database()"
                ).rowcount

    async def run_one(ledger: Ledger, execution_id: int) -> None:
        await ledger.commit(worker.start(execution_id))
        for number in itertools.count():
            if killed >= KILLS:
                break
            counts[execution_id] += 1
            record = worker.record(execution_id, events=[event("note", number=number)])
            await ledger.commit(record) if number % 2 == 0 else ledger.submit(record)
        await ledger.commit(worker.finish(execution_id))

    async def body(ledger: Ledger) -> None:
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            await asyncio.gather(*(run_one(ledger, one) for one in ids))
        finally:
            over.set()
            killer.join()

    worker.write(body)
    assert worker.lost == []
    for one in ids:
        notes = Event.objects.filter(execution_id=one, kind="note").order_by("seq").values_list("data", flat=True)
        assert [data["number"] for data in notes if data] == list(range(counts[one]))
    assert set(Execution.objects.values_list("status", flat=True)) == {"succeeded"}
    assert_nothing_left_behind()


# --- output -----------------------------------------------------------------------------------------------------------


def test_output_that_waits_to_be_written_slows_its_source_down(worker: Worker, begin: Begin) -> None:
    one = begin(shell("a", "echo 1"))
    worker.claim()
    seen: list[bool] = []
    text = "x" * 1_000_000

    async def has_room(ledger: Ledger) -> bool:
        try:
            await asyncio.wait_for(ledger.room(), 0.05)
        except TimeoutError:
            return False
        return True

    async def body(ledger: Ledger) -> None:
        pieces = MAX_BACKLOG_BYTES // len(text) + 1
        with entry_is_locked(one):
            for _ in range(pieces - 1):
                ledger.submit(worker.record(one, events=[], size=len(text)))
            seen.append(await has_room(ledger))
            last = worker.printed(one, text)
            last.size = len(text)
            ledger.submit(last)
            seen.append(await has_room(ledger))
        await asyncio.wait_for(ledger.room(), 20)
        seen.append(await has_room(ledger))

    worker.write(body)
    assert seen == [True, False, True]
    assert OutputChunk.objects.get(execution_id=one).text == text


def test_text_that_the_database_cannot_hold_is_written_with_marks_and_harms_nobody(
    worker: Worker, begin: Begin
) -> None:
    odd, other, worse = (begin(shell("a", f"echo {number}")) for number in range(3))
    AssetLock.objects.all().delete()
    worker.claim()
    text = "a\0b\ud800c\udc80 \ud83d\ude00 \\u0000"
    records = [
        worker.start(odd),
        worker.printed(odd, text),
        worker.moved(odd, "pending", "running"),
        worker.moved(odd, "running", "failed", error=text, data={text: [text, 1, None]}, error_code="exit_code"),
        worker.note(odd, "remark", reason=text),
        worker.start(other),
    ]
    unwritable = worker.record(worse, events=[event("bad", value={1, 2})])
    answers: list[BaseException | None] = []

    async def body(ledger: Ledger) -> None:
        with entry_is_locked(odd):
            ledger.submit(worker.note(odd, "blocks"))
            await ledger_waits()
            for record in records:
                ledger.submit(record)
            going = [asyncio.ensure_future(ledger.commit(one)) for one in (unwritable, worker.note(other, "last"))]
            await asyncio.sleep(0)
        answers.extend(await asyncio.gather(*going, return_exceptions=True))
        await ledger.commit(worker.printed(odd, "only\0NUL"))
        await ledger.commit(worker.note(odd, "later"))

    worker.write(body)
    marked = "a\ufffdb\ufffdc\ufffd \U0001f600 \\u0000"
    printed = OutputChunk.objects.filter(execution_id=odd).order_by("seq")
    assert list(printed.values_list("text", flat=True)) == [marked, "only\ufffdNUL"]
    target = StepTarget.objects.get(execution_id=odd)
    assert (target.status, target.error, target.data) == ("failed", marked, {marked: [marked, 1, None]})
    assert Execution.objects.get(pk=odd).status_reason == marked
    assert kinds(odd)[-1] == "later"
    assert kinds(other) == ["execution.submitted", "execution.running", "last"]
    assert [type(answer) for answer in answers] == [WrongState, type(None)]
    assert kinds(worse) == ["execution.submitted"]
    assert worker.lost == []


def test_rows_of_a_rollback_are_made_once_and_not_for_who_has_no_lease(worker: Worker, begin: Begin) -> None:
    """In one group with another execution; each row gets its number into the record that asked for it."""
    kept, stolen = (begin(shell("a", f"echo {number}")) for number in range(2))
    AssetLock.objects.all().delete()
    worker.claim()
    QueueEntry.objects.filter(pk=stolen).update(token=worker.leases[stolen].token + 1000)
    answers: list[BaseException | None] = []

    def undoing(execution_id: int) -> Record:
        target = {"position": 1, "asset_id": None, "name": "localhost"}
        row = {"position": 2, "key": "a", "tool": "shell", "description": "", "targets": [target]}
        return worker.note(execution_id, "rollback.started", rollbacks=[row])

    records = [undoing(kept), undoing(stolen)]

    async def body(ledger: Ledger) -> None:
        with entry_is_locked(kept):
            ledger.submit(worker.note(kept, "first"))
            await ledger_waits()
            going = [asyncio.ensure_future(ledger.commit(record)) for record in records]
            await asyncio.sleep(0)
        answers.extend(await asyncio.gather(*going, return_exceptions=True))
        answers.extend(await asyncio.gather(ledger.commit(undoing(kept)), return_exceptions=True))

    worker.write(body)
    # A position is taken once.
    assert [type(answer) for answer in answers] == [type(None), LeaseLost, WrongState]
    made = Step.objects.get(kind="rollback")
    assert (made.execution_id, made.pk, made.status) == (kept, records[0].rollbacks[0]["id"], "pending")
    assert [target.pk for target in made.targets.all()] == [records[0].rollbacks[0]["targets"][0]["id"]]
