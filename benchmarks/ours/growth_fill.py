"""Program: fill an installation with the history and the queue of a long time, set by set, in SQL.

A plan is submitted through the front door; its rows are then copied, with what differs put in its place. So the copies
look like what the engine writes, whatever columns there are.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

import django

from benchmarks.peers.report import report

# Of one tenth of the full size.
READY, WAITING, FINISHED, DEAD = 100_000, 10_000, 45_000, 10_000
EVENTS_OF_FINISHED = 20
# Numbers far apart for each kind: what is finished is the oldest, what is ready the newest.
FINISHED_FROM, DEAD_FROM, WAITING_FROM, READY_FROM = 1_000_000, 3_000_000, 5_000_000, 7_000_000
BUSY_ASSET = 1_000_000_000


class Copies:
    """Copies of the rows that one execution has, for others."""

    def __init__(self, cursor: Any, template: int) -> None:
        self._cursor = cursor
        self._template = template

    def make(self, table: str, key: str, first: int, number: int, different: Mapping[str, str]) -> None:
        """Copy the template's row of a table to executions first, first + 1, ..; n is that number in `different`."""
        self._cursor.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_name = %s AND table_schema = current_schema()",
            [table],
        )
        columns = [name for (name,) in self._cursor.fetchall()]
        values = [different.get(name, f"t.{name}") for name in columns]
        self._cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)}"
            f" FROM {table} t, generate_series({first}, {first + number - 1}) n"
            f" WHERE t.{key} = {self._template} ORDER BY n"
        )
        if self._cursor.rowcount != number:
            raise SystemExit(
                f"{self._cursor.rowcount} of {number} rows were made in {table}: the template has none there"
            )

    def executions(self, first: int, number: int, age: str, **different: str) -> None:
        """Executions with their plan, their step, its target and the first event. `age`: days, in terms of n."""
        at = f"now() - ({age}) * interval '1 day'"
        self.make("executions_execution", "id", first, number, {"id": "n", "created_at": at, **different})
        self.make("executions_executionplan", "execution_id", first, number, {"execution_id": "n"})
        self.make("executions_step", "execution_id", first, number, {"id": "n", "execution_id": "n"})
        target = {"id": "n", "step_id": "n", "execution_id": "n"}
        self.make("executions_steptarget", "execution_id", first, number, target)
        self.make("executions_event", "execution_id", first, number, {"execution_id": "n", "at": at})

    def entries(self, first: int, number: int, asset: str, state: str) -> None:
        """Queue entries in a row, each with the exclusive lock of an asset asked for."""
        place = "now() - interval '1 hour' + n * interval '1 ms'"
        given = {
            "execution_id": "n",
            "place": place,
            "available_at": "now() - interval '1 hour'",
            "state": f"'{state}'",
        }
        self.make("queueing_queueentry", "execution_id", first, number, given)
        self._cursor.execute(
            "INSERT INTO queueing_assetline (asset_id)"
            f" SELECT DISTINCT {asset} FROM generate_series({first}, {first + number - 1}) n ON CONFLICT DO NOTHING"
        )
        self._cursor.execute(
            "INSERT INTO queueing_assetlock (execution_id, asset_id, place, exclusive, state)"
            f" SELECT n, {asset}, {place}, true, 'queued' FROM generate_series({first}, {first + number - 1}) n"
        )


def fill(cursor: Any, template: int, scale: int) -> dict[str, int]:
    """Make everything, `scale` tenths of the full size; what there is then."""
    copies = Copies(cursor, template)
    finished = FINISHED * scale
    # 100 days of history: the oldest a little older than retention allows.
    age = f"100 - 99.0 * (n - {FINISHED_FROM}) / {finished}"
    ended = f"now() - ({age}) * interval '1 day' + interval '30 s'"
    copies.executions(
        FINISHED_FROM, finished, age, status="'succeeded'", started_at=ended, finished_at=ended,
        last_seq=str(EVENTS_OF_FINISHED),
    )  # fmt: skip
    cursor.execute(
        "INSERT INTO executions_event (execution_id, seq, at, kind, actor, reason, data)"
        " SELECT n, k, now(), 'step.succeeded', 'worker:host/1', '', '{\"step\": \"only\", \"from\": \"running\"}'"
        f" FROM generate_series({FINISHED_FROM}, {FINISHED_FROM + finished - 1}) n,"
        f" generate_series(2, {EVENTS_OF_FINISHED}) k"
    )
    dead = DEAD * scale
    copies.executions(DEAD_FROM, dead, "0.5", status="'needs_attention'", status_reason="'a worker was lost'")
    cursor.execute(
        "INSERT INTO queueing_deadletter (execution_id, tenant_id, reason, error, attempts)"
        " SELECT id, tenant_id, 'attempts_exhausted', 'connection to host ' || id % 97 || ' refused', 3"
        f" FROM executions_execution WHERE id >= {DEAD_FROM} ORDER BY id"
    )
    copies.executions(WAITING_FROM, WAITING, "0.1")
    copies.entries(WAITING_FROM, WAITING, str(BUSY_ASSET), "blocked")
    ready = READY * scale
    copies.executions(READY_FROM, ready, "0.04")
    copies.entries(READY_FROM, ready, f"{BUSY_ASSET} + n", "ready")
    # The first in line at the busy asset has it, for longer than the measurement takes.
    cursor.execute(
        "UPDATE queueing_queueentry SET state = 'leased', token = nextval('queueing_token_seq'), worker_id = 0,"
        " leased_at = now(), lease_expires_at = now() + interval '1 day' WHERE execution_id = %s",
        [WAITING_FROM],
    )
    cursor.execute(
        "UPDATE queueing_assetlock SET state = 'held', fence = currval('queueing_token_seq'), held_at = now()"
        " WHERE execution_id = %s",
        [WAITING_FROM],
    )
    for table in ("executions_execution", "executions_step", "executions_steptarget"):
        cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
    events = finished * EVENTS_OF_FINISHED + dead + WAITING + ready
    return {"ready": ready, "waiting": WAITING, "finished": finished, "dead": dead, "events": events}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, required=True, help="tenths of the full size")
    args = parser.parse_args()
    django.setup()
    from django.db import connection

    from benchmarks.ours.submit_plans import plan
    from executions.services import Submission, submit
    from safety.accounts import FIRST_ADMIN, ensure_first_admin
    from safety.models import User

    ensure_first_admin()
    by = User.objects.select_related("tenant").get(username=FIRST_ADMIN)
    template = submit(Submission(plan(0)), by=by).execution_id
    began = time.monotonic()
    with connection.cursor() as cursor:
        made = fill(cursor, template, args.scale)
        print(f"filled after {time.monotonic() - began:.0f} s: {made}", file=sys.stderr, flush=True)
        cursor.execute("VACUUM (ANALYZE)")  # as autovacuum would have by the time that there is so much
        cursor.execute("CHECKPOINT")
    report(**made, fill_seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
