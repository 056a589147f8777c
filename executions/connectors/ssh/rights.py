"""Tells the guards on the other machines until when this worker may act, each time that has moved on.

A worker that is frozen says nothing any more, so that its commands end there before its lease does. What is told is a
reading of the other machine's own clock: a line that was long on its way allows nothing that was not allowed when it
was sent. That clock was read before its hello arrived here, so counting from the arrival errs on the safe side.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from executions.connectors.ssh.far_side import Right
from executions.connectors.ssh.session import FarCommand

if TYPE_CHECKING:
    from executions.connectors.registry import Surroundings

MARGIN_SECONDS = 0.4  # for ending it there: what is told is so much earlier
_LOOK_SECONDS = 0.2
_SHARE = 0.25  # of the time that is left: by so much a new moment must be later to be worth a line


class Rights:
    """For all commands of one worker. Bound to the event loop on which it is used."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._told: set[FarCommand] = set()
        self._teller: asyncio.Task[None] | None = None

    @property
    def may_begin(self) -> bool:
        ends_at = self._surroundings.right_ends_at
        return ends_at is None or ends_at - time.monotonic() > MARGIN_SECONDS

    def at(self, command: FarCommand) -> Right | None:
        """The right as of now, for that machine; None while there is no limit."""
        ends_at = self._surroundings.right_ends_at
        if ends_at is None or command.clock is None:
            return None
        self._told.add(command)
        command.right_ends_at = ends_at
        return _right(command, ends_at)

    @contextlib.contextmanager
    def kept_up(self, command: FarCommand) -> Iterator[None]:
        """While this lasts, the guard hears of every extension."""
        if command in self._told and self._teller is None:
            self._teller = asyncio.ensure_future(self._tell())
        try:
            yield
        finally:
            self._told.discard(command)

    def close(self) -> None:
        if self._teller is not None:
            self._teller.cancel()
            self._teller = None
        self._told.clear()

    async def _tell(self) -> None:
        while self._told:
            await asyncio.sleep(_LOOK_SECONDS)
            ends_at = self._surroundings.right_ends_at
            now = time.monotonic()
            if ends_at is None:
                continue
            worth = max(0.05, _SHARE * (ends_at - now))
            for command in list(self._told):
                told = command.right_ends_at or 0.0
                # What is being stopped needs no more than its grace. Should nobody say that it ended, this is how long
                # its machine is not somebody else's.
                if ends_at - told >= worth and told - MARGIN_SECONDS < command.grace_ends_at:
                    command.right_ends_at = ends_at
                    command.renew(_right(command, ends_at))
        self._teller = None


def _right(command: FarCommand, ends_at: float) -> Right:
    assert command.clock is not None
    ends_at -= MARGIN_SECONDS
    clock = command.clock + int((ends_at - command.greeted_at) * 100)
    return Right(clock, max(0, int((ends_at - time.monotonic()) * 100)))
