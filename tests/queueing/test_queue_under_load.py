"""The queue with everything at once: claimers, cancellers, deaths, returns, live submits, over few assets."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import orjson
import psycopg
from django.conf import settings
from django.db import connection as django_connection

from queueing import queue
from queueing.connections import connect
from queueing.models import AssetLock, QueueEntry
from queueing.queue import Connection
from tests.queueing.lines import LEASE, entry, finish, give_back, new_worker, several, states

ENTRIES = 500
ASSETS = 8
CLAIMERS = 3
DRAINED_WITHIN_SECONDS = 60

# What a claim granted out of line: a conflicting request stood before it, and had been there before the claim began.
# Asked inside the claim's transaction, while it has the lines.
OUT_OF_LINE = """
SELECT mine.execution_id, mine.asset_id, before.execution_id
  FROM queueing_assetlock mine JOIN queueing_assetlock before USING (asset_id)
 WHERE mine.execution_id = ANY (%s) AND before.state = 'queued' AND (mine.exclusive OR before.exclusive)
   AND (before.place, before.execution_id) < (mine.place, mine.execution_id)
   AND pg_visible_in_snapshot(before.xmin::text::xid8, %s::pg_snapshot)
"""
HELD_TWICE = """
SELECT a.asset_id, a.execution_id, b.execution_id FROM queueing_assetlock a JOIN queueing_assetlock b USING (asset_id)
 WHERE a.state = 'held' AND b.state = 'held' AND a.execution_id < b.execution_id AND (a.exclusive OR b.exclusive)
"""


@dataclass
class Load:
    """What runs, and what was seen of it."""

    seed: int
    wanted: dict[int, dict[int, bool]] = field(default_factory=dict)  # execution -> asset -> exclusive
    holders: dict[int, set[int]] = field(default_factory=dict)  # asset -> executions, by what the claimers know
    fences: dict[int, int] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    cancelled: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def thread(self, name: str, body: Callable[[Connection, random.Random], None]) -> threading.Thread:
        def run() -> None:
            try:
                with connect("test") as connection:
                    body(connection, random.Random(f"{self.seed} {name}"))
            except psycopg.Error as error:
                self.faults.append(f"{name}: {type(error).__name__}: {error}")
            finally:
                django_connection.close()

        return threading.Thread(target=run, name=name, daemon=True)

    def took(self, lease: queue.Lease) -> None:
        with self.mutex:
            for asset, exclusive in self.wanted[lease.execution_id].items():
                for other in self.holders.setdefault(asset, set()):
                    if exclusive or self.wanted[other][asset]:
                        self.faults.append(f"asset {asset} is held by {other} and {lease.execution_id}")
                self.holders[asset].add(lease.execution_id)
                if exclusive and lease.token <= self.fences.get(asset, 0):
                    self.faults.append(f"asset {asset}: fence {lease.token} after {self.fences[asset]}")
                self.fences[asset] = max(self.fences.get(asset, 0), lease.token)

    def let_go(self, execution_id: int) -> None:
        with self.mutex:
            for asset in self.wanted[execution_id]:
                self.holders[asset].discard(execution_id)

    # -- the threads ------------------------------------------------------------------------------------------------

    def submit(self, connection: Connection, chance: random.Random) -> None:
        """Live: urgent entries come while others wait."""
        for execution_id in range(1, ENTRIES + 1):
            assets = chance.sample(range(1, ASSETS + 1), chance.randint(1, 3))
            locks = {asset: chance.random() < 0.6 for asset in assets}
            with self.mutex:
                self.wanted[execution_id] = locks
            one = entry(
                execution_id,
                *(a for a, exclusive in locks.items() if exclusive),
                shared=[a for a, exclusive in locks.items() if not exclusive],
                priority=chance.randint(1, 10),
            )
            connection.execute(
                "SELECT queue_enqueue(%s::jsonb, %s)", (orjson.dumps([one]).decode(), settings.QUEUE_AGEING)
            )

    def claim(self, connection: Connection, chance: random.Random, worker: int) -> None:
        held: list[int] = []
        while not self.over.is_set():
            with connection.transaction():
                row = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
                assert row is not None
                leases = queue.claim(connection, worker, chance.randint(1, 6), LEASE).leases
                ids = [lease.execution_id for lease in leases]
                if ids:
                    self.faults += [
                        f"{mine} was granted {asset} before {other}"
                        for mine, asset, other in connection.execute(OUT_OF_LINE, (ids, row[0])).fetchall()
                    ]
                    self.faults += [f"held twice: {row}" for row in connection.execute(HELD_TWICE).fetchall()]
            for lease in leases:
                self.took(lease)
                held.append(lease.execution_id)
            while held and (len(held) > 2 or not leases):  # the others are held on, beside the next claim
                self.end_one(connection, chance, held.pop(chance.randrange(len(held))))
            if not leases:
                time.sleep(0.001)

    def end_one(self, connection: Connection, chance: random.Random, execution_id: int) -> None:
        self.let_go(execution_id)  # before the database is told: who gets it next must not find it here
        way = chance.random()
        if way < 0.75:
            finish(connection, execution_id)
            self.finished.add(execution_id)
        elif way < 0.88:
            give_back(connection, execution_id)
        else:  # it dies: its lease runs out
            connection.execute(
                "UPDATE queueing_queueentry SET lease_expires_at = statement_timestamp() WHERE execution_id = %s",
                (execution_id,),
            )

    def cancel(self, connection: Connection, chance: random.Random) -> None:
        while not self.over.is_set():
            ids = chance.sample(range(1, ENTRIES + 1), chance.randint(1, 3))
            row = connection.execute("SELECT queue_remove(%s::bigint[])", (ids,)).fetchone()
            assert row is not None
            self.cancelled.update(row[0])
            time.sleep(0.02)

    def look_after(self, connection: Connection, chance: random.Random) -> None:
        """Reap and promote as workers do; backoff is cut short."""
        while not self.over.is_set():
            queue.reap(connection, limit=chance.randint(1, 10))
            connection.execute(
                "UPDATE queueing_queueentry SET available_at = statement_timestamp() WHERE execution_id IN (SELECT"
                " execution_id FROM queueing_queueentry WHERE state = 'delayed' ORDER BY 1 FOR UPDATE SKIP LOCKED)"
            )
            queue.promote(connection)
            time.sleep(0.002)


@several
def test_no_lock_is_held_twice_nobody_jumps_the_line_and_everything_ends() -> None:
    load = Load(seed=random.SystemRandom().randrange(10**9))
    submitter = load.thread("submitter", load.submit)
    threads = [submitter, load.thread("canceller", load.cancel), load.thread("upkeep", load.look_after)]
    for number in range(CLAIMERS):
        claim = partial(load.claim, worker=new_worker())
        threads.append(load.thread(f"claimer {number}", claim))
    for thread in threads:
        thread.start()
    submitter.join()
    deadline = time.monotonic() + DRAINED_WITHIN_SECONDS
    while QueueEntry.objects.exists() and not load.faults and time.monotonic() < deadline:
        time.sleep(0.05)
    left = states()
    load.over.set()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive(), (load.seed, thread.name)

    assert load.faults == [], load.seed
    assert left == {}, (load.seed, "these are still in the queue")
    assert AssetLock.objects.count() == 0, load.seed
    assert load.finished | load.cancelled == set(range(1, ENTRIES + 1)), load.seed
    assert load.finished & load.cancelled == set(), load.seed
    assert len(load.finished) > ENTRIES / 4, "else there was little to see"
