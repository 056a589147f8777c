"""What an execution is told while it runs: to stop, to begin nothing more."""

from __future__ import annotations

import asyncio
import contextlib

from django.conf import settings

from executions.connectors.base import Stop

OVER_LIMIT = "The time limit of the execution was reached."


class Control:
    """One for each run of an execution; shared by all that runs for it. Event loop's thread only.

    stop_reason    user, approval_withdrawn, timeout, lease_lost or shutdown; None while nobody asked
    shutting_down  the worker is told to stop: what runs may end
    halted         no step, target or attempt begins any more, for whichever reason
    cut_short      something was stopped, or not begun, that would have run otherwise
    """

    __slots__ = ("_news", "_stops", "_told", "cut_short", "halted", "shutting_down", "stop_reason")

    def __init__(self) -> None:
        self.stop_reason: str | None = None
        self.shutting_down = False
        self.halted = False
        self.cut_short = False
        self._stops: set[Stop] = set()
        self._news: asyncio.Event | None = None
        self._told: asyncio.Event | None = None

    @property
    def over_limit(self) -> str:
        """What is said of that which a timeout stopped."""
        return OVER_LIMIT

    @property
    def lease_lost(self) -> bool:
        """Nothing may be written any more."""
        return self.stop_reason == "lease_lost"

    @property
    def somebody_goes_on(self) -> bool:
        """Whether what is left undone is to be done later, by this worker or another; nobody said that it shall not."""
        return self.stop_reason is None or self.stop_reason == "shutdown"

    def stop(self, reason: str) -> None:
        """Stop what runs, begin nothing more. The first reason stays, but a shutdown gives way, a lost lease wins."""
        if self.stop_reason in (None, "shutdown") or reason == "lease_lost":
            self.stop_reason = reason
        if self._told is not None and not self.somebody_goes_on:
            self._told.set()
        for stop in self._stops:
            stop.request(reason)
        self.halt()

    def shut_down(self) -> None:
        """Begin nothing more; what runs may end."""
        self.shutting_down = True
        self.halt()

    def halt(self) -> None:
        """Begin nothing more."""
        self.halted = True
        if self._news is not None:
            self._news.set()

    def begin(self) -> Stop:
        """Return what an attempt listens to, asked already if all is being stopped. Give it to `end` later."""
        stop = Stop()
        if self.stop_reason is not None:
            stop.request(self.stop_reason)
        self._stops.add(stop)
        return stop

    def end(self, stop: Stop) -> None:
        self._stops.discard(stop)

    async def is_told(self, seconds: float) -> bool:
        """Wait until somebody has said that what is left shall not be done; return whether that came in this time."""
        if self.somebody_goes_on:
            self._told = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), seconds)
        return not self.somebody_goes_on

    async def pause(self, seconds: float) -> bool:
        """Wait before the next attempt; return False when nothing may begin any more."""
        if self.halted:
            return False
        if self._news is None:
            self._news = asyncio.Event()
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            pass
        return not self.halted


class CleanupControl(Control):
    """The same while an execution undoes what it did. A cancel does not stop that: it limits its time."""

    __slots__ = ("_end_of_time",)

    def __init__(self) -> None:
        super().__init__()
        self._end_of_time: asyncio.TimerHandle | None = None

    def stop(self, reason: str) -> None:
        if reason in ("user", "approval_withdrawn"):
            self.hurry()
        else:
            super().stop(reason)

    @property
    def over_limit(self) -> str:
        return f"The {settings.CLEANUP.total_seconds():g} s that cleanup has were over."

    def hurry(self, spent: float = 0.0) -> None:
        """Have it end within the time of a cleanup, counted from when this was said first. `spent`: how many seconds of
        it earlier attempts have had."""
        if self._end_of_time is None:
            left = settings.CLEANUP.total_seconds() - spent
            if left <= 0:
                return super().stop("timeout")
            self._end_of_time = asyncio.get_running_loop().call_later(left, super().stop, "timeout")

    def close(self) -> None:
        if self._end_of_time is not None:
            self._end_of_time.cancel()
