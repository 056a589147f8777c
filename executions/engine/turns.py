"""Taking turns: of a thousand coroutines that are ready at once, some go on in each turn of the event loop."""

from __future__ import annotations

import asyncio

AT_A_TURN = 25


class Turns:
    """A worker whose loop stands still takes itself for frozen and ends, so nothing that is done a thousand times at
    once may be done in one turn: between two turns leases are renewed, cancels are heard and neighbours go on."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = 0

    async def take(self) -> None:
        """Go on at once, or in the first turn of the loop that has room."""
        while self._taken >= AT_A_TURN:  # noqa: ASYNC110 - an event would wake all of them in one turn again
            await asyncio.sleep(0)
        if self._taken == 0:
            asyncio.get_running_loop().call_soon(self._next)  # runs in the next turn, before those who wait for it
        self._taken += 1

    def _next(self) -> None:
        self._taken = 0
