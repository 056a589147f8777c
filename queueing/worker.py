"""A worker: one process that claims executions in batches and runs many at once in one event loop.

`work` is what a django-q2 process is told to call. It stays until it is told to stop, until its shift is over (so that
django-q2 can recycle the process), or until it may no longer act. What running an execution means, the setting
QUEUE_RUNNER says; this module knows leases only.

Threads, each with its own connection: the event loop (which never touches the database but to LISTEN), the claimer, the
heart (heart.py), and whatever the runner has.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import psycopg
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError
from django.utils.module_loading import import_string
from django_q.conf import Conf

from queueing import fleet, queue
from queueing.connections import connect, connect_async
from queueing.fleet import AT_WORK_VARIABLE, Registration
from queueing.heart import Heart
from queueing.queue import Connection, Figures, Lease, Renewal, Suspects, Wishes

log = logging.getLogger(__name__)

# Set by `manage.py worker` when it is told to stop; made before the cluster forks, so every process of it sees it.
# A byte of shared memory, not an Event: that has a lock, and a signal that comes while it is held would wait for ever.
stop_wanted = multiprocessing.get_context("fork").RawValue("b", 0)

MAX_CLAIM = 200
IDLE_LOOK_SECONDS = 1.0  # a safety net below LISTEN
SHORTEST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.001, 0.05  # after a look that found what could not be had just then
UPKEEP_SECONDS = 0.5  # between two rounds of promoting, reaping and burying
TICK_SECONDS = 0.1
END_IS_HEARD_SECONDS = 0.05
STEP_DOWN_SECONDS = 2.0  # a worker that is to go waits no longer for the database to take note of it

# A worker that runs suspects has so many at once: few enough that those beside a poison one are few, many enough that a
# hundred innocent ones are done soon. One on its last attempt runs alone.
ISOLATION_SLOTS = 8
ISOLATION_IDLE_SECONDS = 10.0  # then it ends; the broker starts another when there is need

EXIT_FENCED = 70


class Runner(Protocol):
    """What QUEUE_RUNNER names a class of; it is made with (registration, lose) in the event loop's thread.

    `lose(execution_id)` is for the runner to say that an execution's lease was found lost.
    """

    @staticmethod
    def capabilities() -> Sequence[str]:
        """What it can reach, in words for the fleet page."""

    def prepare(self, leases: Sequence[Lease]) -> list[Coroutine[Any, Any, bool]]:
        """Load what the leases are for; one coroutine each, ending when nothing is left to write.

        It returns False for an execution that ended without success. Claimer's thread.
        """

    def upkeep(self) -> None:
        """Do what is to be done now and then by some worker, or by several at once. Claimer's thread."""

    def stop(self, execution_id: int, reason: str, detail: str) -> None:
        """Stop one execution: reason user, lease_lost or shutdown. Event loop's thread."""

    def shut_down(self) -> None:
        """Begin no step any more; hand back what is between steps. Event loop's thread."""

    def extend(self, until: float) -> None:
        """The right to act now lasts until this moment of the monotonic clock. Any thread."""

    def fence(self) -> None:
        """Kill everything that runs, at once. Any thread."""

    async def close(self) -> None:
        """Write what is left to write and end."""


Begun = tuple[Lease, Coroutine[Any, Any, bool]]


@dataclass(slots=True)
class Running:
    lease: Lease
    task: asyncio.Task[bool]


@dataclass(slots=True)
class Worker:
    """One worker's event loop side. Made and run by `work`."""

    registration: Registration
    concurrency: int
    lease: timedelta
    running: dict[int, Running] = field(default_factory=dict)
    finished: int = 0
    failed: int = 0
    stopping: bool = False
    draining: bool = False
    _hurry: bool = False

    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _turned_at: float = field(default_factory=time.monotonic)
    _loop_lag: float = 0.0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _claims: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "claimer"))
    _claim_connection: Connection | None = None
    _upkept_at: float = 0.0
    _retry_seconds: float = SHORTEST_RETRY_SECONDS
    _idle_since: float = field(default_factory=time.monotonic)
    _heart: Heart = field(init=False)
    _runner: Runner = field(init=False)
    _stepping_down: asyncio.Future[None] | None = None

    # -- the heart's body: any thread -------------------------------------------------------------------------------

    def leases(self) -> Sequence[int]:
        return list(self.running)

    def figures(self) -> Figures:
        lag, self._loop_lag = self._loop_lag, 0.0
        return {
            "running": len(self.running),
            "finished": self.finished,
            "failed": self.failed,
            "rss_bytes": rss_bytes(),
            "loop_lag_ms": round(lag * 1000),
            "renewal_ms": 0,  # the heart's to say
        }

    def loop_turned_at(self) -> float:
        return self._turned_at

    def extend(self, until: float) -> None:
        self._runner.extend(until)

    def renewed(self, asked_for: Sequence[int], renewal: Renewal) -> None:
        lost = [execution_id for execution_id in asked_for if execution_id not in renewal.held]
        self._loop.call_soon_threadsafe(self._take_renewal, lost, renewal)

    def wished(self, wishes: Wishes) -> None:
        self._loop.call_soon_threadsafe(self._take_wishes, wishes)

    def fence(self, why: str, *, blameless: bool = False) -> None:
        """The end of this process: it may not act any more, and cannot be sure that its loop would obey.

        blameless: nothing that it ran can be the cause.
        """
        log.critical("This worker ends at once and stops what it runs: %s", why)
        self._runner.fence()
        if blameless:
            fleet.leave_last_words(why)
        os._exit(EXIT_FENCED)

    # -- the event loop ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claim and run until told to stop or the shift is over, then let go of everything in order."""
        runner_class: Callable[..., Runner] = import_string(settings.QUEUE_RUNNER)
        self._runner = runner_class(self.registration, self.lose)
        self._heart = Heart(self.registration.worker_id, self.lease, self)
        self._turned_at = time.monotonic()
        self._heart.start()
        began = time.monotonic()
        helpers = [asyncio.create_task(self._listen()), asyncio.create_task(self._tick())]
        try:
            while not self.stopping and not self._shift_is_over(began):
                await (self._isolation_round() if self.registration.isolation else self._round())
            self.stopping = True
            await self._let_go()
        finally:
            for helper in helpers:
                helper.cancel()
            await self._runner.close()
            self._heart.stop()
            self._claims.shutdown()

    def stop(self, *, hurry: bool) -> None:
        """Ask the worker to end in order.

        hurry: steps that run may go on for the grace period only. Without it they may come to their end, however long
        that takes: a worker that goes because there are too many, or to make room for a new process, can wait for them.
        """
        self.stopping = True
        self._hurry = self._hurry or hurry
        self._wake.set()

    def lose(self, execution_id: int) -> None:
        """The runner found, when it wrote, that this lease is lost."""
        running = self.running.get(execution_id)
        if running is not None:
            self._lose(running.lease)

    def _lose(self, lease: Lease) -> None:
        running = self.running.get(lease.execution_id)
        if running is not None and running.lease.token == lease.token:
            log.warning("The lease of execution %s is lost; its commands are stopped.", lease.execution_id)
            self._runner.stop(lease.execution_id, "lease_lost", "")

    def _shift_is_over(self, began: float) -> bool:
        return time.monotonic() - began > settings.WORKER_SHIFT.total_seconds() or rss_bytes() > settings.WORKER_MAX_RSS

    async def _round(self) -> None:
        """Claim once if there is room for it, or wait for something to happen."""
        if self.draining:
            self._wake.clear()
            await self._wait(UPKEEP_SECONDS)
            await self._claim(0)
            return
        free = self.concurrency - len(self.running)
        # Claim in batches: refilling one slot at a time would cost a transaction for each.
        if free <= 0:
            self._wake.clear()  # notices of new entries come here, too: without this it would never wait
            await self._wait(UPKEEP_SECONDS)
            if len(self.running) >= self.concurrency:
                await self._claim(0)  # a worker that is full keeps up what must be kept up, or perhaps nobody does
            return
        if self.running and free < min(self.concurrency // 5, MAX_CLAIM // 2):
            await self._wait(0.005)
        self._wake.clear()
        looked, started = await self._claim(min(self.concurrency - len(self.running), MAX_CLAIM))
        if looked == 0:
            await self._wait(IDLE_LOOK_SECONDS)
        elif started == 0:
            # Parked, or being looked at by another worker this very moment; or for longer, by whoever holds a lock.
            await asyncio.sleep(self._retry_seconds)
            self._retry_seconds = min(2 * self._retry_seconds, LONGEST_RETRY_SECONDS)
        else:
            self._retry_seconds = SHORTEST_RETRY_SECONDS

    async def _isolation_round(self) -> None:
        """Run what a worker has died of before: a few at a time, and whatever is on its last attempt alone.

        So a poison execution takes ever fewer others with it, and in the end none.
        """
        self._wake.clear()
        alone = any(running.lease.attempts_left <= 0 for running in self.running.values())
        if alone or self.draining or len(self.running) >= ISOLATION_SLOTS:
            await self._wait(UPKEEP_SECONDS)
            return
        if self.running:
            _, started = await self._claim(ISOLATION_SLOTS - len(self.running), Suspects.SPARE)
        else:
            _, started = await self._claim(1, Suspects.ANY)
        if started:
            self._idle_since = time.monotonic()
        else:
            await self._wait(IDLE_LOOK_SECONDS)
            if not self.running and time.monotonic() - self._idle_since > ISOLATION_IDLE_SECONDS:
                self.stop(hurry=False)

    async def _claim(self, limit: int, suspects: Suspects = Suspects.NONE) -> tuple[int, int]:
        """Return how many entries were looked at, and how many were begun."""
        try:
            looked, begun, as_of = await self._loop.run_in_executor(self._claims, self._claim_and_load, limit, suspects)
        except (psycopg.Error, DatabaseError) as error:
            log.warning("The database cannot be reached to claim: %s", str(error).strip() or error)
            await asyncio.sleep(IDLE_LOOK_SECONDS)
            return 0, 0
        except Exception:
            # A bug. What was claimed is nobody's and runs out; what runs here is not harmed by it.
            log.exception("Claiming failed.")
            await asyncio.sleep(IDLE_LOOK_SECONDS)
            return 0, 0
        if time.monotonic() - as_of > self._heart.margin:
            # This process stood still since. The heart may have lengthened its right to act meanwhile, but not these.
            self._leave_to_run_out(begun)
            return looked, 0
        for lease, coroutine in begun:
            self._begin(lease, coroutine)
        return looked, len(begun)

    def _begin(self, lease: Lease, coroutine: Coroutine[Any, Any, bool]) -> None:
        before = self.running.get(lease.execution_id)
        if before is not None:
            coroutine = _after(before.task, coroutine)
        task = self._loop.create_task(coroutine)
        self.running[lease.execution_id] = Running(lease, task)
        task.add_done_callback(lambda done: self._ended(lease, done))

    def _claim_and_load(self, limit: int, suspects: Suspects) -> tuple[int, list[Begun], float]:
        """In the claimer's thread: upkeep now and then, claim, and let the runner load what was claimed.

        Returns how many were looked at, what was begun, and when, on the monotonic clock, its leases were asked for.
        """
        try:
            if self._claim_connection is None:
                self._claim_connection = connect("claimer")
            connection = self._claim_connection
            _do_its_duty(partial(queue.promote, connection))
            if time.monotonic() - self._upkept_at > UPKEEP_SECONDS:
                self._upkept_at = time.monotonic()
                for duty in (
                    partial(queue.reap, connection),
                    partial(fleet.bury_silent, connection),
                    self._runner.upkeep,
                ):
                    _do_its_duty(duty)
            if connection.broken or connection.closed:
                raise psycopg.OperationalError("The connection broke while the queue was kept up.")
            asked_at = time.monotonic()
            if limit <= 0:
                return 0, [], asked_at
            claim = queue.claim(connection, self.registration.worker_id, limit, self.lease, suspects)
            if not claim.leases:
                return claim.looked, [], asked_at
            begun = list(zip(claim.leases, self._runner.prepare(claim.leases), strict=True))
            if time.monotonic() - asked_at > self._heart.margin:
                asked_at = time.monotonic()
                begun = self._still_held(connection, begun)
            return claim.looked, begun, asked_at
        except (psycopg.Error, DatabaseError):
            # If the answer to a claim was lost, its leases are nobody's: not renewed, they run out and are reaped.
            if self._claim_connection is not None:
                self._claim_connection.close()
                self._claim_connection = None
            raise

    def _still_held(self, connection: Connection, begun: list[Begun]) -> list[Begun]:
        """Return those of a slow claim whose lease could be renewed.

        The heart has not known of them: it may have said meanwhile that this worker may act for longer than they last.
        """
        asked_at = time.monotonic()
        ids = [lease.execution_id for lease, _ in begun]
        renewal = queue.renew(connection, self.registration.worker_id, ids, self.lease, self.figures())
        is_in_time = time.monotonic() - asked_at <= self._heart.margin
        held = renewal.held if is_in_time else frozenset()
        self._leave_to_run_out([one for one in begun if one[0].execution_id not in held])
        return [(lease, coroutine) for lease, coroutine in begun if lease.execution_id in held]

    @staticmethod
    def _leave_to_run_out(claimed: Sequence[Begun]) -> None:
        for lease, coroutine in claimed:
            log.warning("Execution %s was claimed too slowly; its lease is left to run out.", lease.execution_id)
            coroutine.close()

    def _ended(self, lease: Lease, task: asyncio.Task[bool]) -> None:
        running = self.running.get(lease.execution_id)
        if running is not None and running.lease.token == lease.token:
            del self.running[lease.execution_id]
        self.finished += 1
        if not task.cancelled() and (error := task.exception()):
            # Nothing more is written for it: its lease runs out, and the next attempt goes on where this one stopped.
            log.error("Execution %s: the engine failed.", lease.execution_id, exc_info=error)
            self.failed += 1
        elif task.cancelled() or not task.result():
            self.failed += 1
        if len(self.running) < self.concurrency:
            self._wake.set()

    async def _step_down(self) -> bool:
        """Say that this worker claims no more, so that another takes its place; return whether that is written."""
        if self._stepping_down is None:
            self._stepping_down = self._loop.run_in_executor(self._claims, self._write_that_it_stops)
        await asyncio.wait({self._stepping_down}, timeout=STEP_DOWN_SECONDS)
        if not self._stepping_down.done():
            return False  # it is under way, behind a claim that waits for the database
        error, self._stepping_down = self._stepping_down.exception(), None
        if error is not None and not isinstance(error, psycopg.Error):
            raise error
        return error is None

    def _write_that_it_stops(self) -> None:
        try:
            if self._claim_connection is None:
                self._claim_connection = connect("claimer")
            fleet.step_down(self._claim_connection, self.registration.worker_id)
        except psycopg.Error:
            if self._claim_connection is not None:
                self._claim_connection.close()
                self._claim_connection = None
            raise

    async def _let_go(self) -> None:
        """Let steps end, then stop what is still running should there be a hurry; everything is handed back."""
        self._runner.shut_down()
        stepped_down = await self._step_down()
        while self.running and not self._hurry:
            if not stepped_down:
                stepped_down = await self._step_down()
            await self._wait(IDLE_LOOK_SECONDS)
            self._wake.clear()
        if not await self._empty_within(settings.SHUTDOWN_GRACE.total_seconds()):
            for execution_id in list(self.running):
                self._runner.stop(execution_id, "shutdown", "The worker was shut down.")
            if not await self._empty_within(15):
                log.error("%d executions did not let go; their leases will run out.", len(self.running))

    async def _empty_within(self, seconds: float) -> bool:
        tasks = [running.task for running in self.running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        return not self.running

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _tick(self) -> None:
        """Show the heart that the loop turns, and see whether the cluster is told to stop or has lost its parent."""
        parent = os.getppid()
        while True:
            now = time.monotonic()
            self._loop_lag = max(self._loop_lag, now - self._turned_at - TICK_SECONDS)
            self._turned_at = now
            if self._turned_at >= self._heart.right_until:
                # A heart that hangs does so in a call of the database.
                self.fence("Its right to act has ended, and its heart did not say so.", blameless=True)
            if not self._hurry and (stop_wanted.value or os.getppid() != parent):
                self.stop(hurry=True)
            await asyncio.sleep(TICK_SECONDS)

    async def _listen(self) -> None:
        """Turn notices into wakes. Missing one costs a second: every wait ends by itself."""
        while True:
            try:
                async with await connect_async("listener") as connection:
                    await connection.execute("LISTEN opsconductor_queue")
                    await connection.execute("LISTEN opsconductor_control")
                    self._wake.set()
                    self._heart.look()
                    async for notice in connection.notifies():
                        if notice.channel == "opsconductor_queue":
                            self._wake.set()
                        else:
                            self._heart.look()
            except (psycopg.Error, OSError):
                await asyncio.sleep(1)

    def _take_renewal(self, lost: Sequence[int], renewal: Renewal) -> None:
        for execution_id in lost:
            if running := self.running.get(execution_id):
                # One that ended during the renewal is not among those held either: its end is about to be heard here.
                self._loop.call_later(END_IS_HEARD_SECONDS, self._lose, running.lease)
        self._take_wishes(renewal)

    def _take_wishes(self, wishes: Wishes) -> None:
        for execution_id, detail in wishes.cancel.items():
            if execution_id in self.running:
                self._runner.stop(execution_id, "user", detail)
        if wishes.state is None and not self._hurry:
            log.warning("This worker was struck off the register; it ends.")
            self.stop(hurry=True)
        elif wishes.state == "stopping":
            self.stop(hurry=False)
        elif self.draining != (wishes.state == "draining"):
            self.draining = not self.draining
            self._wake.set()


def _do_its_duty(duty: Callable[[], object]) -> None:
    """Do one of the things that keep the queue up.

    A fault in it must not keep this worker from claiming, or all of them would stop at the same row. Should the
    database be away, the claim that follows says so.
    """
    try:
        duty()
    except (psycopg.OperationalError, OperationalError, InterfaceError) as error:
        log.warning("The queue could not be kept up: %s", str(error).strip() or type(error).__name__)
    except Exception:
        log.exception("The queue could not be kept up.")


async def _after(earlier: asyncio.Task[bool], coroutine: Coroutine[Any, Any, bool]) -> bool:
    """Run what a new lease is for when what the lost one was for has ended: its commands may be about to be killed."""
    try:
        await asyncio.wait({earlier})
    except BaseException:
        coroutine.close()
        raise
    return await coroutine


def rss_bytes() -> int:
    """Return the resident memory of this process; 0 where /proc is not there to tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def work(isolation: bool = False) -> str:
    """Run one worker in this process until its shift is over; return why it ended, for django-q2's log.

    isolation: run only what a worker has died of before, apart from everything else.
    Called by django-q2 in one of its worker processes, in the main thread.
    """
    fleet.calls_taken.value += 1
    with _shown_at_work():
        if stop_wanted.value:
            return "The cluster is stopping."
        runner: type[Runner] = import_string(settings.QUEUE_RUNNER)
        slots = ISOLATION_SLOTS if isolation else settings.WORKER_CONCURRENCY
        with contextlib.closing(connect("register")) as connection:
            registration = fleet.register(connection, slots, runner.capabilities(), isolation=isolation)
        if registration is None:
            return "The cluster is complete."
        _let_be_recycled()
        _allow_many_files()
        try:
            asyncio.run(_run(registration))
        except BaseException as error:
            _sign_off(registration, f"It failed: {type(error).__name__}: {error}")
            raise
        _sign_off(registration)
    return "Stopped." if stop_wanted.value else "Its shift was over."


@contextlib.contextmanager
def _shown_at_work() -> Iterator[None]:
    path = os.environ.get(AT_WORK_VARIABLE)
    with contextlib.ExitStack() as stack:
        # Somebody may have tidied the folder up: without the file, work can be done as well.
        with contextlib.suppress(FileNotFoundError):
            if path:
                fcntl.flock(stack.enter_context(open(path, "rb")), fcntl.LOCK_SH)
        yield


def _sign_off(registration: Registration, failure: str = "") -> None:
    """Leave the register. Should that not be possible, the broker sees that the process is gone."""
    with contextlib.suppress(psycopg.Error), contextlib.closing(connect("register")) as connection:
        if failure:
            fleet.strike_off(connection, registration.worker_id, failure, blamed=True)
        else:
            fleet.end(connection, registration.worker_id, "stopped")


def _let_be_recycled() -> None:
    """Have django-q2 put a new process in the place of this one after this task, whatever its count of tasks.

    It does so when a process has grown beyond MAX_RSS (KiB); this sets it for this process alone. What leaked in a
    shift would otherwise stay, and a process that has grown too much would end each next shift at once.
    """
    Conf.MAX_RSS = 1


def _collect_garbage_rarely() -> None:
    """Keep the collector away from what was imported, and let it look less often.

    A worker makes a few hundred objects an execution, most of which go without it; walking all of Django's modules
    again and again is what costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _allow_many_files() -> None:
    """Raise this process's limit of open files as far as it may go: each running command needs four."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(registration: Registration) -> None:
    worker = Worker(registration, registration.slots, settings.LEASE)
    _collect_garbage_rarely()
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        loop.add_signal_handler(signal.SIGTERM, partial(worker.stop, hurry=True))
    await worker.run()
