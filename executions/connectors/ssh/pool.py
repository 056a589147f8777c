"""Connections that are shared: by the steps of an execution, and by all that reach a host in the same way."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import asyncssh

from executions.connectors.ssh.signing_in import CONNECT_SECONDS, sign_in
from executions.connectors.ssh.way import Way

MOST_SESSIONS = 8  # on one connection; OpenSSH allows 10 as it comes
IDLE_SECONDS = 60.0
HANDSHAKES = 25  # at once in a worker: more would only wait for its processor, and time out together


@dataclass(slots=True, eq=False)
class Shared:
    """One connection and how many use it."""

    way: Way
    connection: asyncssh.SSHClientConnection
    before: Shared | None = None
    most: int = MOST_SESSIONS
    users: int = 0
    is_usable: bool = True
    timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self.is_usable and not self.connection.is_closed()


@dataclass(slots=True, eq=False)
class _Place:
    """All connections by one way, and the one that is being made."""

    shared: list[Shared] = field(default_factory=list)
    coming: asyncio.Task[Shared] | None = None
    waiting: int = 0


class Pool:
    """Lends connections. Bound to the event loop on which it is used."""

    def __init__(self, *, known_hosts: str = "", idle_seconds: float = IDLE_SECONDS) -> None:
        self._known_hosts = known_hosts
        self._idle_seconds = idle_seconds
        self._places: dict[str, _Place] = {}
        self._handshakes = asyncio.Semaphore(HANDSHAKES)

    @property
    def size(self) -> int:
        """How many connections there are, jump hosts' included."""
        return sum(len(place.shared) for place in self._places.values())

    async def borrow(self, way: Way, *, is_jump: bool = False, seconds: float = CONNECT_SECONDS) -> Shared:
        """Return a connection, an open one if there is room on it. To be given back. Raises NoWay.

        Who comes while one is being made waits for that one, and hears the same refusal.
        """
        while True:
            place = self._places.setdefault(way.key, _Place())
            for shared in place.shared:
                if shared.is_open and (is_jump or shared.users < shared.most):
                    return self._lend(shared)
            if place.coming is None:
                place.coming = asyncio.ensure_future(self._make(way, seconds))
                place.coming.add_done_callback(_heard)
            coming = place.coming
            place.waiting += 1
            try:
                # Others may wait for it as well: who gives up waiting does not end it, unless it was the last.
                await asyncio.shield(coming)
            finally:
                place.waiting -= 1
                if not place.waiting and not coming.done():
                    coming.cancel()
                    if place.coming is coming:
                        place.coming = None

    def give_back(self, shared: Shared) -> None:
        shared.users -= 1
        if not shared.is_open:
            self.discard(shared)
        elif not shared.users:
            loop = asyncio.get_running_loop()
            shared.timer = loop.call_later(self._idle_seconds, self.discard, shared)

    def has_fewer_sessions(self, shared: Shared) -> bool:
        """The host opened no further session on it. Remember how many it does; False when it opens none at all."""
        shared.most = max(1, shared.users - 1)
        return shared.users > 1

    def discard(self, shared: Shared) -> None:
        """Lend it to nobody any more, and close it once nobody uses it."""
        shared.is_usable = False
        place = self._places.get(shared.way.key)
        if place is not None and shared in place.shared:
            place.shared.remove(shared)
            if not place.shared and place.coming is None:
                del self._places[shared.way.key]
        if shared.users <= 0:
            if shared.timer is not None:
                shared.timer.cancel()
            shared.connection.close()
            if shared.before is not None:
                before, shared.before = shared.before, None
                self.give_back(before)

    async def close(self) -> None:
        every = [shared for place in self._places.values() for shared in place.shared]
        for place in self._places.values():
            if place.coming is not None:
                place.coming.cancel()
        self._places.clear()
        for shared in every:
            if shared.timer is not None:
                shared.timer.cancel()
            shared.connection.abort()
        for shared in every:
            with contextlib.suppress(Exception):
                await shared.connection.wait_closed()

    def _lend(self, shared: Shared) -> Shared:
        shared.users += 1
        if shared.timer is not None:
            shared.timer.cancel()
            shared.timer = None
        return shared

    async def _make(self, way: Way, seconds: float) -> Shared:
        before: Shared | None = None
        try:
            if way.before is not None:
                before = await self.borrow(way.before, is_jump=True, seconds=seconds)
            async with self._handshakes:
                connection = await sign_in(
                    way, before.connection if before else None, known_hosts=self._known_hosts, seconds=seconds
                )
            shared = Shared(way, connection, before)
            before = None
            self._places.setdefault(way.key, _Place()).shared.append(shared)
            shared.timer = asyncio.get_running_loop().call_later(self._idle_seconds, self.discard, shared)
            return shared
        finally:
            place = self._places.get(way.key)
            if place is not None and place.coming is asyncio.current_task():
                place.coming = None
            if before is not None:
                self.give_back(before)


def _heard(task: asyncio.Task[Shared]) -> None:
    """Who waits for it hears of its failure; if nobody does any more, it is not worth a warning."""
    if not task.cancelled():
        task.exception()
