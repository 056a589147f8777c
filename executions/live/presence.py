"""Looks every few seconds whether those who watch are still signed in: one question for all viewers of a process.

A socket looks for itself before each line it sends. One on which nothing happens has no occasion to, and would stay
open after its viewer signed out, was made inactive, got another password, or had the token revoked.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from channels.db import database_sync_to_async
from django.db import Error as DatabaseFault

from executions.live.hub import hub
from executions.live.viewers import Viewer
from safety.accounts import good_tokens
from safety.scopes import Scope
from safety.sessions import good_sessions

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


class Presence:
    """Who watches what in this process. Belongs to one event loop; looks only while somebody watches."""

    def __init__(self) -> None:
        self._watched: Counter[tuple[Viewer, int | None]] = Counter()
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watching(self, viewer: Viewer, execution_id: int | None) -> AsyncIterator[None]:
        """While the block lasts, the viewer's signing out wakes who watches the execution (None: any)."""
        key = (viewer, execution_id)
        self._watched[key] += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again_and_again())
        try:
            yield
        finally:
            self._watched[key] -= 1
            if not self._watched[key]:
                del self._watched[key]
            if not self._watched and self._looking is not None:
                self._looking.cancel()  # not waited for: whoever leaves has a last word to send
                self._looking = None

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                gone = await agone({viewer for viewer, _ in self._watched})
            except DatabaseFault as error:  # also a connection that broke (InterfaceError)
                logger.warning("Could not look who is still signed in: %s", error)
                continue
            for viewer, execution_id in list(self._watched):
                if viewer in gone:
                    hub.tell(None if execution_id is None else {execution_id})


def gone(viewers: Collection[Viewer]) -> set[Viewer]:
    """Return those of the viewers whose session or token is no good any more. Two queries, however many they are."""
    tokens = good_tokens({viewer.token for viewer in viewers if viewer.token is not None}, scope=Scope.READ)
    sessions = good_sessions({viewer.session_key for viewer in viewers if viewer.session_key is not None})
    return {
        viewer
        for viewer in viewers
        if (viewer.token not in tokens if viewer.token is not None else viewer.session_key not in sessions)
    }


agone = database_sync_to_async(gone, thread_sensitive=False)
presence = Presence()
