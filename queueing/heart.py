"""The worker's heart: a thread with a connection of its own that renews leases, and stops everything when it cannot.

The rule that makes leases safe: what a worker runs has ended before its lease can be given to somebody else. So after
each renewal, `right_until` is the moment (on this machine's monotonic clock, counted from before the renewal was asked
for) until which the worker may act; the runner's warden gets it too, and kills the commands when it passes, even when
this whole process is frozen. A worker that passes it is finished: it ends, and a new process takes its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

import psycopg

from queueing import queue
from queueing.connections import connect
from queueing.queue import Connection, Figures, Renewal, Wishes

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
STANDSTILL_SECONDS = 2.0


class Body(Protocol):
    """What the heart keeps alive. Every method may be called from the heart's thread."""

    def leases(self) -> Sequence[int]: ...
    def figures(self) -> Figures: ...
    def loop_turned_at(self) -> float: ...
    def extend(self, until: float) -> None: ...
    def renewed(self, asked_for: Sequence[int], renewal: Renewal) -> None: ...
    def wished(self, wishes: Wishes) -> None: ...
    def fence(self, why: str, *, blameless: bool = False) -> None: ...


class Heart:
    """Beats from `start` to `stop`."""

    def __init__(
        self, worker_id: int, lease: timedelta, body: Body, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._worker_id = worker_id
        self._lease = lease
        self._body = body
        self._clock = clock
        seconds = lease.total_seconds()
        self._every = seconds / 3
        # What is left of a lease when the worker gives up: time for the commands to be killed.
        self.margin = min(3.0, seconds / 5)
        self._right_until = clock() + seconds - self.margin
        self._look = threading.Event()
        self._stopping = False
        self._connection: Connection | None = None
        # Whether it was the database that could not be reached, when the last renewal failed: nothing that runs here is
        # to blame for that.
        self._cut_off = False
        self._renewal_ms = 0
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def start(self) -> None:
        self._body.extend(self._right_until)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._look.set()
        self._thread.join(timeout=5)
        if self._connection is not None:
            self._connection.close()

    @property
    def right_until(self) -> float:
        """Until when, on the monotonic clock, this worker may act. Any thread: also one that sees the heart stuck."""
        return self._right_until

    def look(self) -> None:
        """Ask now what is wished of this worker. Any thread."""
        self._look.set()

    def _beat(self) -> None:
        next_renewal = 0.0
        turned_at = self._clock()
        while not self._stopping:
            now = self._clock()
            # The heart itself stood still: the process was frozen, or a call of the database did not come back. Nothing
            # that runs here is to blame for that.
            stood_still = now - turned_at > STANDSTILL_SECONDS
            turned_at = now
            if now >= self._right_until:
                self._body.fence("The lease could not be renewed in time.", blameless=self._cut_off or stood_still)
                return
            if now - self._body.loop_turned_at() > self._lease.total_seconds() * 2 / 3:
                self._body.fence("The event loop did not turn for two thirds of a lease.")
                return
            try:
                if now >= next_renewal:
                    self._cut_off = not self._renew(now)
                    next_renewal = now + self._every
                else:
                    self._body.wished(queue.wishes(self._connected(), self._worker_id))
            except psycopg.Error as error:
                self._cut_off = True
                log.warning("The database cannot be reached to renew leases: %s", str(error).strip() or error)
                self._forget_connection()
            except Exception as error:
                # The warden is gone, or it is a bug. A worker whose heart has stopped may not go on.
                log.exception("The heart failed.")
                self._body.fence(f"The heart failed: {type(error).__name__}.")
                return
            self._look.wait(min(POLL_SECONDS, max(0.05, self._right_until - self._clock())))
            self._look.clear()

    def _renew(self, asked_at: float) -> bool:
        """Renew, and return whether the answer came in time."""
        figures = self._body.figures()
        figures["renewal_ms"] = self._renewal_ms
        asked_for = self._body.leases()
        renewal = queue.renew(self._connected(), self._worker_id, asked_for, self._lease, figures)
        self._renewal_ms = round((self._clock() - asked_at) * 1000)
        right_until = asked_at + self._lease.total_seconds() - self.margin
        if self._clock() >= self._right_until:
            return False  # the next round of `_beat` ends this worker
        self._right_until = right_until
        self._body.extend(right_until)
        self._body.renewed(asked_for, renewal)
        return True

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = connect("heart")
        return self._connection

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
