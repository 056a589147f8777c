"""What the calls on queue, workers and locks answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from executions.api.shapes import Page, Shape
from queueing.models import Autoscale, EntryState, WorkerState


class WorkerShape(Shape):
    """A worker process.

    draining: it claims nothing and stays. isolation: it runs only what a worker has died of before. failed: of
    `finished`, those that did not succeed. health: a sentence each on its beats, its event loop, its renewals of
    leases; empty, with `healthy` null, for one that has ended. silent: it has missed two beats.
    """

    id: int
    cluster: str
    host: str
    pid: int
    state: WorkerState
    draining: bool
    isolation: bool
    version: str
    pools: list[str]
    regions: list[str]
    capabilities: list[str]
    slots: int
    running: int
    finished: int
    failed: int
    loop_lag_ms: int
    renewal_ms: int
    rss_bytes: int
    started_at: datetime
    last_beat_at: datetime
    stopped_at: datetime | None
    silent: bool
    healthy: bool | None
    health: list[str]
    note: str


class ClusterShape(Shape):
    """One `manage.py worker` on a host.

    processes: how many worker processes it is to have; alive: how many it has; max_processes: its room. draining: how
    many of them drain; drained: its host was drained as a whole, so those that it starts drain as well.
    """

    cluster: str
    host: str
    pid: int
    version: str
    pools: list[str]
    regions: list[str]
    processes: int
    max_processes: int
    alive: int
    stopping: int
    draining: int
    drained: bool
    running: int
    slots: int
    started_at: datetime
    last_beat_at: datetime
    silent: bool


class Sizing(Shape):
    """How many worker processes there are to be: `processes` of all clusters together, or, with autoscaling, between
    `min` and `max` for each cluster; null: each cluster has its own number."""

    autoscale: Autoscale
    min: int
    max: int
    processes: int | None
    clusters: list[ClusterShape]


class Workers(Shape):
    """`depth`: entries that wait; `waiting_seconds`: the longest wait among those that could start."""

    depth: int
    waiting_seconds: float
    sizing: Sizing
    results: list[WorkerShape]


class Scaled(Shape):
    """Worker processes of all clusters together, before and after, over so many clusters."""

    before: int
    after: int
    clusters: int
    dry_run: bool


class Decision(Shape):
    """One change of a cluster's number of processes, or with `applied` false one that a dry run would have made."""

    id: int
    at: datetime
    cluster: str
    host: str
    before: int
    after: int
    reason: str
    by: str
    applied: bool
    depth: int
    waiting_seconds: float
    running: int
    slots: int


class DecisionPage(Page):
    results: list[Decision]


class Drained(Shape):
    """`changed`: how many workers drain, or claim again, that did not before; `running`: executions they still have."""

    changed: int
    running: int
    results: list[WorkerShape]


class LineShape(Shape):
    """What waits for workers with one pair of labels; `region` is empty for any, `seconds` is the longest wait."""

    pool: str
    region: str
    waiting: int
    seconds: float
    served: bool
    paused: bool


class QueueState(Shape):
    """`depth`: entries that wait; `waiting_seconds`: the longest wait among those that could start.

    sentences: what stands still, and why; empty when everything is served.
    """

    depth: int
    waiting_seconds: float
    by_state: dict[str, int]
    oldest: dict[str, Any] | None
    dead_letters: int
    draining: bool
    changed_at: datetime | None
    changed_by: str
    reason: str
    lines: list[LineShape]
    sentences: list[str]
    workers: list[WorkerShape]


class WaitingEntry(Shape):
    """An execution that waits in the queue, and why.

    kind: not_before, backoff, draining, paused, lock, line, no_worker, not_served, apart or worker. position: its place
    in line, from 1, at the asset or among those that wait for the same workers; null where there is no line, and with
    `beyond` it is further back than that.
    """

    execution: int
    state: EntryState
    priority: int
    pool: str
    region: str
    available_at: datetime
    attempt: int
    kind: str
    position: int | None
    beyond: bool
    reason: str
    links: dict[str, str]


class QueuedPage(Page):
    results: list[WaitingEntry]


class PoolShape(Shape):
    """A pool. known: a worker names it, or something of it is in the queue; false hints at a misspelt name."""

    pool: str
    paused: bool
    changed: bool
    changed_by: str
    reason: str
    running: int
    known: bool


class LockWaiter(Shape):
    execution: int
    mode: str


class LockShape(Shape):
    """A lock that is held.

    mode: exclusive or shared. fence: the fencing number. waiting: how many executions wait at the asset, of which
    `waiters` are the first. freeing: somebody has asked for it back, its holder is being stopped.
    """

    asset: int
    asset_name: str
    execution: int
    title: str
    mode: str
    fence: int
    since: datetime
    freeing: bool
    waiting: int
    waiters: list[LockWaiter]
    links: dict[str, str]


class LockPage(Page):
    results: list[LockShape]


class FreedHolder(Shape):
    """An execution that held the lock; `revoked`: its worker had it, and its lease is to end."""

    execution: int
    status: str
    revoked: bool


class Freed(Shape):
    """The lock is free as soon as the worker has let go, at the latest after so many seconds."""

    asset: int
    holders: list[FreedHolder]
    free_within_seconds: float
