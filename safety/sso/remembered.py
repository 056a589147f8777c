"""What was asked of the provider, kept in this process: answers for an hour, failures for half a minute.

Anybody may begin a sign-in. So nobody queues up behind a provider that does not answer: of all threads one asks, the
others go on with what it said before, or wait a moment and are refused; and after a failure nobody asks for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from safety.sso.faults import SsoFault

logger = logging.getLogger(__name__)

KEPT_SECONDS = 3600.0
FAILURE_KEPT_SECONDS = 30.0
WAIT_SECONDS = 2.0  # for another thread that is asking: a provider that is well has answered by then

T = TypeVar("T")


class Remembered(Generic[T]):
    """One thing of the provider. Safe for many threads.

    ask         asks for it, with a time limit of its own. Raises SsoFault when it cannot be had
    while_away  whether an answer that is older than an hour is good for as long as there is no newer one
    """

    def __init__(self, what: str, ask: Callable[[], T], *, while_away: bool) -> None:
        self._what = what
        self._ask = ask
        self._while_away = while_away
        self._changed = threading.Condition()  # over all that follows; never held while asking
        self._asking = False
        self._value: T | None = None
        self._good_until = 0.0
        self._failure: SsoFault | None = None
        self._failed_until = 0.0

    def get(self, *, anew: bool = False) -> T:
        """Return it; `anew`: as the provider says it now. Raises SsoFault."""
        with self._changed:
            if self._asking:
                return self._of_the_one_that_asks(anew)
            if time.monotonic() < self._failed_until:
                return self._before(anew)
            if self._value is not None and time.monotonic() < self._good_until and not anew:
                return self._value
            self._asking = True
        return self._asked(anew)

    def _of_the_one_that_asks(self, anew: bool) -> T:
        """Within the lock. Whoever has something to go on with does not wait."""
        if self._value is not None and not anew and (self._while_away or time.monotonic() < self._good_until):
            return self._value
        if not self._changed.wait_for(lambda: not self._asking, timeout=WAIT_SECONDS):
            raise SsoFault("sso_unreachable", f"Another sign-in is still waiting for {self._what}.")
        if time.monotonic() < self._failed_until:
            return self._before(anew)
        assert self._value is not None  # it was asked for, and that did not fail
        return self._value

    def _before(self, anew: bool) -> T:
        """Within the lock, after a failure."""
        good = self._while_away or time.monotonic() < self._good_until
        if self._value is not None and good and not anew:
            return self._value
        assert self._failure is not None
        raise SsoFault(self._failure.code, self._failure.detail)

    def _asked(self, anew: bool) -> T:
        fault, found = SsoFault("sso_unreachable", f"Asking for {self._what} was broken off."), None
        try:
            found = self._ask()
        except SsoFault as told:
            fault = told
        finally:  # also when it was something else: or nobody would ever ask again
            with self._changed:
                self._asking = False
                if found is None:
                    self._failure, self._failed_until = fault, time.monotonic() + FAILURE_KEPT_SECONDS
                else:
                    self._value, self._good_until = found, time.monotonic() + KEPT_SECONDS
                    self._failed_until = 0.0
                self._changed.notify_all()
        if found is not None:
            return found
        logger.warning("Asking the provider for %s failed: %s", self._what, fault.detail)
        with self._changed:
            return self._before(anew)
