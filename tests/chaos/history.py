"""Everything that is known after a run: rows and events, what the witness saw, what the steps wrote down."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.evidence import Evidence, Run, wall_time_at_boot
from tests.chaos.load import Wanted


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    at: float
    kind: str
    actor: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    id: int
    key: str
    status: str


@dataclass(frozen=True, slots=True)
class Target:
    id: int
    step: Step
    asset: str
    status: str
    exit_code: int | None
    error_code: str
    is_machine: bool  # reached over SSH


@dataclass(slots=True)
class Written:
    """An event or a chunk of output as the witness saw it: whose lease it was when it was written."""

    seq: int
    worker: str  # as events name it; empty when nobody had the execution
    token: int | None


@dataclass(slots=True)
class Story:
    """One execution of the load."""

    wanted: Wanted
    id: int
    status: str
    error_code: str
    last_seq: int
    steps: list[Step] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)  # their seq
    written: list[Written] = field(default_factory=list)
    open_dead_letters: list[str] = field(default_factory=list)  # their reasons
    runs: list[Run] = field(default_factory=list)


@dataclass(slots=True)
class History:
    wanted: list[Wanted]
    accepted: dict[int, int]  # number -> execution, as the submitter was told
    stories: dict[int, Story]  # by execution
    unwanted: list[int]  # executions that nobody was told of
    entries: list[tuple[Any, ...]]  # what is left in the queue
    locks: list[tuple[Any, ...]]
    leases: list[tuple[int, int | None, int | None]]  # execution, old and new token, as the witness saw them change
    lock_moves: list[tuple[int, int, bool, bool]]  # asset, execution, exclusive, granted
    evidence: Evidence
    boot: float  # what to add to a time of the evidence to get the database's

    def story(self, number: int) -> Story | None:
        return self.stories.get(self.accepted.get(number, 0))


def read_history(
    connection: psycopg.Connection[Any], wanted: list[Wanted], accepted: dict[int, int], marks: Path
) -> History:
    """Read it all. Nothing may be at work any more."""

    def rows(statement: str) -> list[tuple[Any, ...]]:
        return connection.execute(statement.encode()).fetchall()

    by_id = {execution_id: number for number, execution_id in accepted.items()}
    by_number = {one.number: one for one in wanted}
    stories: dict[int, Story] = {}
    unwanted: list[int] = []
    for row in rows("SELECT id, status, error_code, last_seq FROM executions_execution ORDER BY id"):
        if row[0] in by_id:
            stories[row[0]] = Story(by_number[by_id[row[0]]], *row)
        else:
            unwanted.append(row[0])
    steps: dict[int, Step] = {}
    for execution_id, *columns in rows("SELECT execution_id, id, key, status FROM executions_step ORDER BY id"):
        if execution_id in stories:
            step = Step(*columns)
            steps[step.id] = step
            stories[execution_id].steps.append(step)
    for execution_id, target_id, step_id, *columns in rows(
        "SELECT t.execution_id, t.id, t.step_id, t.name, t.status, t.exit_code, t.error_code,"
        " coalesce(a.connection = 'ssh', false)"
        " FROM executions_steptarget t LEFT JOIN executions_asset a ON a.id = t.asset_id ORDER BY t.id"
    ):
        if execution_id in stories:
            stories[execution_id].targets.append(Target(target_id, steps[step_id], *columns))
    for execution_id, seq, at, kind, actor, data in rows(
        "SELECT execution_id, seq, extract(epoch FROM at)::float8, kind, actor, data FROM executions_event"
        " ORDER BY execution_id, seq"
    ):
        if execution_id in stories:
            stories[execution_id].events.append(Event(seq, at, kind, actor, data or {}))
    for execution_id, seq in rows("SELECT execution_id, seq FROM executions_outputchunk"):
        if execution_id in stories:
            stories[execution_id].chunks.append(seq)
    for execution_id, *columns in rows(
        "SELECT n.execution_id, n.seq, coalesce('worker:' || w.host || '/' || w.pid, ''), n.token FROM chaos.written n"
        " LEFT JOIN queueing_worker w ON w.id = n.worker_id ORDER BY n.execution_id, n.seq"
    ):
        if execution_id in stories:
            stories[execution_id].written.append(Written(*columns))
    for execution_id, reason in rows("SELECT execution_id, reason FROM queueing_deadletter WHERE state = 'open'"):
        if execution_id in stories:
            stories[execution_id].open_dead_letters.append(reason)
    evidence = Evidence(marks)
    runs: dict[int, list[Run]] = defaultdict(list)
    for run in evidence.read():
        runs[run.number].append(run)
    for story in stories.values():
        story.runs = runs.get(story.wanted.number, [])
    return History(
        wanted,
        accepted,
        stories,
        unwanted,
        rows("SELECT execution_id, state FROM queueing_queueentry"),
        rows("SELECT execution_id, asset_id, state FROM queueing_assetlock"),
        [(row[0], row[1], row[2]) for row in rows("SELECT execution_id, old_token, new_token FROM chaos.lease")],
        [
            (row[0], row[1], row[2], row[3])
            for row in rows("SELECT asset_id, execution_id, exclusive, granted FROM chaos.lock ORDER BY id")
        ],
        evidence,
        wall_time_at_boot(),
    )
