"""django-q2's broker, which also keeps the standing `work` calls of this cluster handed out.

django-q2 supervises the processes and runs its own tasks and schedules, one message each. Executions do not travel as
messages: a process that gets a `work` call claims them itself, many at a time, and stays at it for a shift
(docs/decisions/0002). So what this broker adds is small: whenever fewer workers stand than should, hand out a call;
when more do, tell the newest to end; and beat for the cluster.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from queueing import fleet
from queueing.connections import connect
from queueing.queue import Connection
from queueing.scaling import Scaling

log = logging.getLogger(__name__)

WORK = "queueing.worker.work"

# Between two looks at the fleet, and how long a call may take from being handed out to its worker being registered.
LOOK_EVERY_SECONDS = 0.5
UNDER_WAY_SECONDS = 5.0

# So many calls in a row, which nobody took up, show that django-q2's processes cannot hear any more: a process
# that is killed while it waits for its next task takes the lock of their common queue with it.
FRUITLESS_CALLS = 3
OUTAGE_PAUSE_SECONDS = 1.0


class ExecutionBroker(ORM):
    """The ORM broker of django-q2, plus the standing `work` calls. Used by the cluster's pusher process."""

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key)
        self._begin()

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self._begin()

    def _begin(self) -> None:
        self._fleet: Connection | None = None
        self._looked_at = 0.0
        self._handed_out: list[float] = []
        self._isolation_at = 0.0
        self._fruitless = 0
        self._taken = 0
        self._scaling = Scaling()

    def dequeue(self) -> list[tuple[Any, str]]:
        """Return django-q2's next message, or a `work` call when a worker is missing, or nothing after a short wait."""
        calls = self._missing_calls() if fleet.cluster_name() else []
        if calls:
            return calls
        try:
            # Who does not share the key must not take them: what cannot be read is thrown away by django-q2.
            if settings.SHARES_SECRET_KEY and OrmQ.objects.using(Conf.ORM).filter(key=self.list_key).exists():
                return super().dequeue() or []
        except (DatabaseError, InterfaceError, psycopg.Error) as error:
            # Raised on, it would end this process, and keep calls from being handed out for ten seconds.
            log.warning("The database cannot be reached for tasks: %s", str(error).strip() or type(error).__name__)
            connections[Conf.ORM].close()
            time.sleep(OUTAGE_PAUSE_SECONDS)
            return []
        time.sleep(Conf.POLL)
        return []

    def acknowledge(self, task_id: Any) -> Any:
        """A `work` call was never stored, so there is nothing to delete for it."""
        return None if task_id == WORK else super().acknowledge(task_id)

    def fail(self, task_id: Any) -> Any:
        return None if task_id == WORK else super().fail(task_id)

    def _missing_calls(self) -> list[tuple[Any, str]]:
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_SECONDS:
            return []
        self._looked_at = now
        try:
            if self._fleet is None:
                self._fleet = connect("broker")
            wanted = fleet.beat(self._fleet)
            standing = fleet.standing(self._fleet)
            self._count_fruitless(now)
            if standing.workers > wanted:
                fleet.stop_surplus(self._fleet, standing.workers - wanted)
            self._scaling.look(self._fleet)
        except psycopg.Error as error:
            log.warning("The fleet cannot be looked after: %s", str(error).strip() or type(error).__name__)
            if self._fleet is not None:
                self._fleet.close()
            self._fleet = None
            return []
        # A call that is under way is not missing. Should its process die before it registers, it is forgotten in time;
        # should one be handed out too many, its worker finds the cluster complete and ends (fleet.register).
        self._handed_out = [at for at in self._handed_out if now - at < UNDER_WAY_SECONDS]
        if standing.workers >= wanted:
            self._handed_out.clear()
        # No more calls than there are processes for them, one being left for django-q2's own tasks. Workers on their
        # way out keep theirs until their last step has ended: a call that nobody can take shows nothing.
        room = settings.WORKER_MAX_PROCESSES + 1 - standing.present - len(self._handed_out)
        missing = max(0, min(wanted - standing.workers - len(self._handed_out), room))
        self._handed_out += [now] * missing
        calls = [(WORK, _package(number)) for number in range(missing)]
        wants_isolation = standing.suspects and not standing.isolation and room > missing
        if wants_isolation and now - self._isolation_at >= UNDER_WAY_SECONDS:
            self._isolation_at = now
            calls.append((WORK, _package(missing, isolation=True)))
        return calls

    def _count_fruitless(self, now: float) -> None:
        """Start the cluster anew when its processes do not take up the calls: see FRUITLESS_CALLS.

        A call that was taken up shows that they can hear, whatever kept its process from registering.
        """
        if fleet.calls_taken.value != self._taken:
            self._taken, self._fruitless = fleet.calls_taken.value, 0
            return
        if any(now - at >= UNDER_WAY_SECONDS for at in self._handed_out):
            self._fruitless += 1
        if self._fruitless >= FRUITLESS_CALLS and multiprocessing.parent_process() is not None:
            log.critical("The processes of this cluster do not take up any work; it is started anew.")
            # The sentinel could not stop them in order either. Its children end with it (manage.py worker).
            os.kill(os.getppid(), signal.SIGKILL)
            self._fruitless = 0


def _package(number: int, *, isolation: bool = False) -> str:
    package: str = SignedPackage.dumps(
        {
            "id": f"work-{time.time_ns()}-{number}",
            "name": "work",
            "func": WORK,
            "args": (isolation,),
            "kwargs": {},
            "started": timezone.now(),
            "save": False,
            "cached": False,
            "sync": False,
            "group": "work",
            "timeout": -1,
            "ack_failure": True,
        }
    )
    return package
