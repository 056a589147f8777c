"""Guards taken out of the SQL functions, one at a time: each turns the checker red, in the situation it is there for.

The same situation with the guard in place is green: so it is the guard that was missed, not the situation that is odd.
A mutation replaces text of the file that the migrations load, and asserts that the text was there exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import executions
import queueing
from executions.engine.ledger import Ledger, Record, WrongState
from queueing.connections import connect
from tests.chaos.actors import Actor, Stage
from tests.chaos.checker import check
from tests.chaos.evidence import needs_proc

pytestmark = [pytest.mark.django_db(transaction=True), needs_proc]

LEDGER = Path(executions.__path__[0]) / "sql" / "ledger.sql"
QUEUE = Path(queueing.__path__[0]) / "sql" / "queue.sql"
PAUSE = "PERFORM chaos.pause();\n"


@dataclass(frozen=True, slots=True)
class Mutation:
    """`old` becomes `new`. Where the situation needs somebody to wait in the middle, `pause_before` is where; that is
    put in with the guard as well as without it."""

    name: str
    source: Path
    old: str
    new: str
    situation: Callable[[Stage], None]
    broken: str  # the promise that is broken without the guard
    pause_before: str = ""


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{text.count(old)} times instead of once: {old!r}"
    return text.replace(old, new)


@contextmanager
def changed(mutation: Mutation, *, guarded: bool) -> Iterator[None]:
    """Load the changed functions; afterwards the ones of the file again."""
    source = mutation.source.read_text(encoding="utf-8")
    text = source
    if mutation.pause_before:
        text = replaced(text, mutation.pause_before, PAUSE + mutation.pause_before)
    if not guarded:
        text = replaced(text, mutation.old, mutation.new)
    with connect("mutation") as connection:
        connection.execute(text.encode())
        try:
            yield
        finally:
            connection.execute(source.encode())


# -- situations -----------------------------------------------------------------------------------------------------


def a_worker_ends_its_step_after_its_lease_was_given_away(stage: Stage) -> None:
    gate, wait = stage.gate()
    execution_id = stage.submit(stage.command("one", wait))
    slow, quick = Actor.registered(), Actor.registered()
    going_on = stage.start(slow.run, slow.claim())
    stage.began("one")
    stage.take_lease_away(execution_id)
    leases = quick.claim()
    assert len(leases) == 1
    gate.touch()
    going_on.result(30)
    quick.run(leases)


def a_lease_runs_out_while_its_worker_writes(stage: Stage) -> None:
    gate, wait = stage.gate()
    execution_id = stage.submit(stage.command("one", wait))
    slow, quick = Actor.registered(), Actor.registered()
    going_on = stage.start(slow.run, slow.claim())
    stage.began("one")
    with stage.pause_closed():
        stage.ask(
            "UPDATE queueing_queueentry SET lease_expires_at = statement_timestamp() + interval '4 s'"
            f" WHERE execution_id = {execution_id}"
        )
        gate.touch()
        stage.wait_at_pause(going_on)
        stage.ask("SELECT pg_sleep_until(max(lease_expires_at)) FROM queueing_queueentry")
        stage.reap()
        leases = quick.claim()
    going_on.result(30)
    quick.run(leases)


def a_worker_knows_wrongly_where_its_step_is(stage: Stage) -> None:
    execution_id = stage.submit(stage.command("one"))
    (lease,) = (actor := Actor.registered()).claim()
    step_id = stage.ask(f"SELECT id FROM executions_step WHERE execution_id = {execution_id}")
    move = {"id": step_id, "execution_id": execution_id, "from": "running", "to": "succeeded"}
    told = {"step": "s0", "step_id": step_id, "from": "running", "to": "succeeded"}
    record = Record(execution_id, lease.token, steps=[move], events=[event(actor, "step.succeeded", told)])
    write(actor, record)
    stage.take_lease_away(execution_id)


def a_worker_knows_wrongly_where_its_target_is(stage: Stage) -> None:
    execution_id = stage.submit(stage.command("one"))
    (lease,) = (actor := Actor.registered()).claim()
    target_id = stage.ask(f"SELECT id FROM executions_steptarget WHERE execution_id = {execution_id}")
    move = {"id": target_id, "execution_id": execution_id, "from": "running", "to": "pending", "attempt": 1}
    told = {"step": "s0", "step_target": target_id, "from": "running", "to": "pending"}
    record = Record(execution_id, lease.token, targets=[move], events=[event(actor, "target.pending", told)])
    write(actor, record)
    stage.take_lease_away(execution_id)


def a_worker_ends_an_execution_that_it_has_not_begun(stage: Stage) -> None:
    execution_id = stage.submit(stage.command("one"))
    (lease,) = (actor := Actor.registered()).claim()
    record = Record(
        execution_id, lease.token, status="succeeded", from_statuses=["running"], end="finish",
        events=[event(actor, "execution.succeeded", {"from": "running", "to": "succeeded"})],
    )  # fmt: skip
    write(actor, record)
    stage.take_lease_away(execution_id)


def two_workers_claim_the_same_entry(stage: Stage) -> None:
    stage.submit({"tool": "noop"})
    one, other = Actor.registered(), Actor.registered()
    with stage.pause_closed():
        claims = [stage.start(one.claim), stage.start(other.claim)]
        stage.wait_at_pause(*claims)
    for actor, claim in zip((one, other), claims, strict=True):
        if leases := claim.result(30):
            actor.run(leases)


def an_urgent_reader_comes_while_a_writer_is_let_in(stage: Stage) -> None:
    stage.submit(stage.command("one", "work 4"))
    writing, reading = Actor.registered(), Actor.registered()
    with stage.pause_closed():
        claims = [stage.start(writing.claim)]
        stage.wait_at_pause(*claims)
        stage.submit({"tool": "noop", "targets": ["one"]}, kind="read", priority=1)
        claims.append(stage.start(reading.claim))
        stage.wait_at_pause(*claims)
    for actor, claim in zip((writing, reading), claims, strict=True):
        if leases := claim.result(30):
            actor.run(leases)


def a_waiter_is_parked_while_the_one_before_it_goes(stage: Stage) -> None:
    stage.submit(stage.command("one"))
    first, second = Actor.registered(), Actor.registered()
    leases = first.claim()
    stage.submit(stage.command("one"))
    with stage.pause_closed():
        parking = stage.start(second.claim)
        stage.wait_at_pause(parking)
        going = stage.start(first.run, leases)
        stage.wait_for_locks(2, going)
    going.result(30)
    if late := parking.result(30):
        second.run(late)


def event(actor: Actor, kind: str, data: dict[str, object]) -> dict[str, object]:
    return {"kind": kind, "actor": actor.registration.actor, "reason": "", "data": data}


def write(actor: Actor, record: Record) -> None:
    """Commit a record through a real ledger. With the guard in place, it is refused as a whole."""

    async def commit() -> None:
        ledger = Ledger(actor.registration.worker_id, lambda execution_id: None)
        try:
            await ledger.commit(record)
        except WrongState:
            pass
        finally:
            await ledger.close()

    asyncio.run(commit())


# -- mutations ------------------------------------------------------------------------------------------------------

WRONG_ROWS = "    IF v_count <> jsonb_array_length(v_ops -> '{}') THEN"
LOSERS, NAMES, KEPT, ALONE = (
    "losers write nothing", "every change has a name", "accepted means kept", "never two at once"
)  # fmt: skip

MUTATIONS = [
    Mutation(
        "no token in the ledger",
        LEDGER,
        " AND q.token = o.token\n",
        "\n",
        a_worker_ends_its_step_after_its_lease_was_given_away,
        LOSERS,
    ),
    Mutation(
        "no row lock in the ledger",
        LEDGER,
        "      ORDER BY execution_id FOR NO KEY UPDATE;\n",
        "      ORDER BY execution_id;\n",
        a_lease_runs_out_while_its_worker_writes,
        LOSERS,
        pause_before="    -- A group whose answer was lost is sent again",
    ),
    Mutation(
        "no count of the steps",
        LEDGER,
        WRONG_ROWS.format("steps"),
        "    IF false THEN",
        a_worker_knows_wrongly_where_its_step_is,
        NAMES,
    ),
    Mutation(
        "no count of the targets",
        LEDGER,
        WRONG_ROWS.format("targets"),
        "    IF false THEN",
        a_worker_knows_wrongly_where_its_target_is,
        NAMES,
    ),
    Mutation(
        "no count of the executions",
        LEDGER,
        WRONG_ROWS.format("executions"),
        "    IF false THEN",
        a_worker_ends_an_execution_that_it_has_not_begun,
        KEPT,
    ),
    Mutation(
        "no row lock on the entries of a claim",
        QUEUE,
        "LIMIT least(v_head.share, v_left) FOR UPDATE SKIP LOCKED",
        "LIMIT least(v_head.share, v_left)",
        two_workers_claim_the_same_entry,
        LOSERS,
        pause_before="    -- A draining queue, worker or pool hands out nothing.",
    ),
    Mutation(
        "no row lock on the lines of a claim, a reader",
        QUEUE,
        "ORDER BY asset_id FOR NO KEY UPDATE SKIP LOCKED",
        "ORDER BY asset_id",
        an_urgent_reader_comes_while_a_writer_is_let_in,
        ALONE,
        pause_before="    IF v_parked IS NOT NULL THEN",
    ),
    Mutation(
        "no row lock on the lines of a claim, a waiter",
        QUEUE,
        "ORDER BY asset_id FOR NO KEY UPDATE SKIP LOCKED",
        "ORDER BY asset_id",
        a_waiter_is_parked_while_the_one_before_it_goes,
        KEPT,
        pause_before="    IF v_parked IS NOT NULL THEN",
    ),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_the_checker_misses_a_guard_that_was_taken_out(stage: Stage, mutation: Mutation) -> None:
    with changed(mutation, guarded=False):
        mutation.situation(stage)
        history = stage.settle()
    violations = check(history)
    assert mutation.broken in {violation.promise for violation in violations}, violations


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_the_same_situation_with_the_guard_is_green(stage: Stage, mutation: Mutation) -> None:
    with changed(mutation, guarded=True):
        mutation.situation(stage)
        history = stage.settle()
    assert check(history) == []
