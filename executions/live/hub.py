"""Who waits for news of which execution: one LISTEN connection a process, handed on to everybody who watches.

The news says only that something was committed; whoever gets it reads on by `seq` (feed.py). So a notification that is
lost, doubled or merged with others never makes a gap. It is a thread and not a coroutine because those who wait are of
both kinds: sockets and streams on the event loop, and `Prefer: wait` in the threads of ordinary views.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from django.db import connections

logger = logging.getLogger(__name__)

CHANNEL = "opsconductor_events"
REFRESH_SECONDS = 30.0  # look again without news: a promise of the pages, and the net under a lost notification
BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)

T = TypeVar("T")
Wake = Callable[[set[int] | None], None]  # gets the executions that moved; None: perhaps all of them


class Hub:
    """The news of one process. Starts to listen with the first watcher and goes on to the end of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: dict[int | None, set[Wake]] = {}
        self._generations: dict[int, int] = {}
        self._thread: threading.Thread | None = None
        self._pid = 0

    @contextmanager
    def watching(self, execution_id: int | None, wake: Wake) -> Iterator[None]:
        """Call `wake` from another thread at each news of the execution (None: of any), while the block lasts.

        It must return at once and not raise. News between the commit and the begin of the block is not delivered: look
        after entering it.
        """
        with self._lock:
            self._watchers.setdefault(execution_id, set()).add(wake)
            self._ensure_listening()
        try:
            yield
        finally:
            with self._lock:
                watchers = self._watchers.get(execution_id, set())
                watchers.discard(wake)
                if not watchers:
                    self._watchers.pop(execution_id, None)
                    if execution_id is not None:
                        self._generations.pop(execution_id, None)

    def generation(self, execution_id: int) -> int:
        """Return a number that is another one after each news of a watched execution.

        What was read from the database after this number was taken is as fresh as the news that made it.
        """
        return self._generations.get(execution_id, 0)

    def wait_for(self, execution_id: int, look: Callable[[], T | None], timeout_seconds: float) -> T | None:
        """Return the first result of `look()` that is not None, or None after `timeout_seconds`. For plain threads.

        `look` is called at once, after each news, and every few seconds in any case. The thread's database connection
        is given back while it waits, so that those who wait cannot use up the pool.
        """
        event = threading.Event()
        deadline = time.monotonic() + timeout_seconds
        with self.watching(execution_id, lambda _moved: event.set()):
            while True:
                event.clear()
                found = look()
                left = deadline - time.monotonic()
                if found is not None or left <= 0:
                    return found
                if not connections["default"].in_atomic_block:
                    connections["default"].close()
                event.wait(min(left, 5.0))

    async def changes(
        self, execution_id: int, *, refresh_seconds: float = REFRESH_SECONDS
    ) -> AsyncGenerator[int, None]:
        """Yield the generation at once, after each news (several may be one), and every `refresh_seconds`.

        Read after each yield until nothing is left. Close it (contextlib.aclosing) when done.
        """
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def wake(_moved: set[int] | None) -> None:
            _call_in(loop, event.set)

        with self.watching(execution_id, wake):
            while True:
                event.clear()
                yield self.generation(execution_id)
                try:
                    await asyncio.wait_for(event.wait(), refresh_seconds)
                except TimeoutError:
                    # Nobody said anything: what others read before must not pass for fresh.
                    self._advance({execution_id})

    async def moved(self, *, gather_seconds: float) -> AsyncGenerator[set[int] | None, None]:
        """Yield the executions that moved since the last time, of all tenants; None: perhaps all of them.

        Waits `gather_seconds` after the first news, so that a burst is one answer.
        """
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        ids: set[int] = set()
        everything = False

        def note(moved: set[int] | None) -> None:
            nonlocal everything
            ids.update(moved or ())
            everything = everything or moved is None
            event.set()

        with self.watching(None, lambda moved: _call_in(loop, note, moved)):
            while True:
                await event.wait()
                await asyncio.sleep(gather_seconds)
                event.clear()
                answer, all_of_them = set(ids), everything
                ids.clear()
                everything = False
                yield None if all_of_them else answer

    def tell(self, moved: set[int] | None) -> None:
        """Wake those who watch one of these executions (None: everybody). Safe from any thread."""
        self._advance(moved)
        with self._lock:
            if moved is None:
                wakes = {wake for watchers in self._watchers.values() for wake in watchers}
            else:
                keys = moved & self._watchers.keys() if len(moved) > len(self._watchers) else moved
                wakes = {wake for key in (*keys, None) for wake in self._watchers.get(key, ())}
        for wake in wakes:
            wake(moved)

    def _advance(self, moved: set[int] | None) -> None:
        with self._lock:
            for key in self._watchers if moved is None else moved & self._watchers.keys():
                if key is not None:
                    self._generations[key] = self._generations.get(key, 0) + 1

    def _ensure_listening(self) -> None:
        if self._thread is None or not self._thread.is_alive() or self._pid != os.getpid():
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._listen, name="live-hub", daemon=True)
            self._thread.start()

    def _listen(self) -> None:
        failures = 0
        while True:
            try:
                with _connect() as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    if failures:
                        logger.info("Listening for events again.")
                    failures = 0
                    self.tell(None)  # what was said while nobody listened is lost: everybody looks
                    for notification in connection.notifies():
                        self.tell(_parse(notification.payload))
            except psycopg.Error as error:
                if not failures:
                    logger.warning("Lost the connection that listens for events, trying again: %s", error)
            time.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1


def _connect() -> psycopg.Connection[Any]:
    """Open a connection of its own: a listener cannot share one, nor come from the pool."""
    database = connections["default"].settings_dict
    named = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    parameters: dict[str, Any] = {
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "connect_timeout": 10,
        "application_name": "opsconductor live",
        **{key: value for key, value in database["OPTIONS"].items() if key != "pool"},
        **{key: database[name] for key, name in named.items() if database[name]},
    }
    return psycopg.connect(**parameters, autocommit=True)


def _parse(payload: str) -> set[int] | None:
    try:
        return {int(number) for number in payload.split(",")}
    except ValueError:
        return None  # "*", or something of a later version: better to look too often than not


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop has ended, and with it whoever waited there
        loop.call_soon_threadsafe(call, *arguments)


hub = Hub()
