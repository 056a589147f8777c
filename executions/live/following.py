"""Following one execution from a plain program: read its feed as it grows until it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from django.db import InterfaceError, OperationalError, connection

from executions.live import feed
from executions.live.hub import CHANNEL
from executions.models import Execution
from executions.states import FINAL_EXECUTION, ExecutionStatus
from executions.waiting import waiting_sentence
from queueing import connections, control

POLL_SECONDS = 0.5  # news comes by LISTEN; this is for news that got lost, or where there is no LISTEN
WAITING_AFTER_SECONDS = 3.0  # a queued execution normally starts within milliseconds
WAITING_AGAIN_SECONDS = 30.0

# Nothing more happens by itself: it has ended, or it waits for a person.
SETTLED = FINAL_EXECUTION | {ExecutionStatus.PENDING_APPROVAL, ExecutionStatus.NEEDS_ATTENTION}

ShowItems = Callable[[list[feed.FeedItem]], None]
ShowRemark = Callable[[str], None]


def follow(
    execution_id: int,
    *,
    timeout_seconds: float | None,
    remark: ShowRemark,
    show: ShowItems | None = None,
) -> str:
    """Return the status of an execution once it is settled, or the one it has after `timeout_seconds`.

    `show` is given its events and output in order, each once; `remark` sentences about what it waits for and about a
    database that cannot be reached, which is waited for. Raises Execution.DoesNotExist.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    feeder = _Feeder(execution_id, show)
    waiting = _WaitingRemarks(execution_id, remark)
    reachable = True
    status = ""
    with _News(execution_id) as news:
        while True:
            try:
                status = _status(execution_id)
                feeder.read()
                waiting.look(status)
                reachable = True
            except (OperationalError, InterfaceError):
                connection.close()
                if reachable:
                    remark("The database cannot be reached; trying again until it can.")
                reachable = False
            if reachable and status in SETTLED:
                return status
            left = POLL_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return status
            news.wait(min(left, POLL_SECONDS))


def _status(execution_id: int) -> str:
    return Execution.objects.values_list("status", flat=True).get(pk=execution_id)


class _Feeder:
    """Hands on what the feed has to say since the last time."""

    def __init__(self, execution_id: int, show: ShowItems | None) -> None:
        self.execution_id = execution_id
        self.show = show
        self.seq = 0

    def read(self) -> None:
        more = self.show is not None
        while more and self.show is not None:
            page = feed.read_page(self.execution_id, self.seq)
            if page.items:
                self.seq = page.items[-1]["seq"]
                self.show(page.items)
            more = page.more


class _WaitingRemarks:
    """Says what a queued execution waits for, when that takes longer than a start should."""

    def __init__(self, execution_id: int, remark: ShowRemark) -> None:
        self.execution_id = execution_id
        self.remark = remark
        self.next_at = time.monotonic() + WAITING_AFTER_SECONDS

    def look(self, status: str) -> None:
        if status != ExecutionStatus.QUEUED or time.monotonic() < self.next_at:
            return
        if control.waiting(self.execution_id) is None:  # just being claimed
            return
        self.remark(waiting_sentence(Execution.objects.get(pk=self.execution_id)))
        self.next_at = time.monotonic() + WAITING_AGAIN_SECONDS


class _News:
    """Wakes when the database says that the execution moved. A lost connection costs speed, never a result."""

    def __init__(self, execution_id: int) -> None:
        self.execution_id = str(execution_id)
        self.connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> _News:
        self._connect()
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def wait(self, seconds: float) -> None:
        """Return at news of the execution, at the latest after `seconds`."""
        if self.connection is None:
            time.sleep(seconds)
            self._connect()
            return
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                if self._is_ours(self.connection.notifies(timeout=left, stop_after=1)):
                    return
        except psycopg.Error:
            self._close()

    def _is_ours(self, notifications: Iterable[psycopg.Notify]) -> bool:
        named = {name for notification in notifications for name in notification.payload.split(",")}
        return not named.isdisjoint({self.execution_id, "*"})

    def _connect(self) -> None:
        try:
            self.connection = connections.connect("follow")
            self.connection.execute(f"LISTEN {CHANNEL}")
        except psycopg.Error:
            self._close()

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
