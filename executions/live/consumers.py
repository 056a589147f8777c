"""The sockets: everything an execution says from a cursor on, and which executions changed.

    /ws/executions/ID/?after=SEQ   every item of the feed as one JSON message, in order, without gap or repeat;
                                   {"kind": "caught_up", "seq": n} once, after what was there already;
                                   {"kind": "removed", "seq": n, "notice": sentence} instead of what retention removed;
                                   {"kind": "end", "seq": n} after the last item of a finished execution, then 1000.
                                   With batch=1 a message is a JSON list of such items (an empty one: still here).
    /ws/executions/                {"changed": [ids]}: look again; the ids are the newest of those that moved.

Close codes: 4400 the cursor is no number, 4401 not signed in or a token without the scope read, 4403 another site's
page, 4404 there is nothing that you may see, also when that became so later; 1011 the server could not read, 1013 too
slow: come back with your cursor.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any
from urllib.parse import parse_qs

from django.db import DatabaseError

from executions.live.hub import hub
from executions.live.presence import presence
from executions.live.refusals import record_socket_refusal
from executions.live.shared_reads import SharedReads
from executions.live.viewers import Viewer, avisible_of, identify, same_origin
from executions.models import removal_notice

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

BAD_CURSOR, NOT_SIGNED_IN, FOREIGN_PAGE, NOT_FOUND = 4400, 4401, 4403, 4404
SERVER_ERROR, TRY_AGAIN_LATER, NORMAL = 1011, 1013, 1000

# What goes into the audit. Who gives no credentials leaves nothing there, as with pages.
REFUSALS = {
    FOREIGN_PAGE: ("foreign_page", "The page that opened it belongs to another site."),
    NOT_FOUND: ("not_found", "There is nothing that they may see."),
}

PAUSE_SECONDS = 0.05  # between two reads of one socket: a burst of commits is one read
STILL_HERE_SECONDS = 15.0
LIST_PAUSE_SECONDS = 1.0
LIST_MOST_IDS = 200
MOST_UNSENT_BYTES = 4 * 1024 * 1024  # waiting in the server for one slow viewer; then we read no further for it
SLOW_VIEWER_SECONDS = 60.0

reads = SharedReads()


class Closed(Exception):
    """The conversation is over, for this reason."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def execution_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve /ws/executions/ID/."""
    execution_id = int(scope["url_route"]["kwargs"]["execution_id"])

    async def talk(viewer: Viewer) -> None:
        try:
            async with presence.watching(viewer, execution_id):
                await _Follower(scope, send, viewer, execution_id).follow()
        finally:
            reads.forget(execution_id, viewer)

    await _converse(scope, receive, send, talk)


async def list_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve /ws/executions/."""

    async def talk(viewer: Viewer) -> None:
        if await avisible_of(viewer, None, limit=1) is None:
            raise Closed(NOT_SIGNED_IN)
        async with (
            presence.watching(viewer, None),
            aclosing(hub.moved(gather_seconds=LIST_PAUSE_SECONDS)) as news,
        ):
            async for moved in news:
                changed = await avisible_of(viewer, moved, limit=LIST_MOST_IDS)
                if changed is None:
                    raise Closed(NOT_SIGNED_IN)
                if changed:
                    await send({"type": "websocket.send", "text": json.dumps({"changed": changed})})

    await _converse(scope, receive, send, talk)


class _Follower:
    """One socket on one execution, at its cursor."""

    def __init__(self, scope: Scope, send: Send, viewer: Viewer, execution_id: int) -> None:
        self.send = send
        self.unsent_bytes: Callable[[], int] = scope.get("unsent_bytes", lambda: 0)
        self.viewer = viewer
        self.execution_id = execution_id
        query = parse_qs(scope["query_string"].decode("latin1"))
        self.batch = query.get("batch", ["0"])[0] == "1"
        self.caught_up = False
        try:
            self.cursor = int(query.get("after", ["0"])[0])
        except ValueError:
            raise Closed(BAD_CURSOR) from None

    async def follow(self) -> None:
        async with aclosing(hub.changes(self.execution_id, refresh_seconds=STILL_HERE_SECONDS)) as changes:
            async for generation in changes:
                at_cursor = self.cursor
                await self._read_on(generation)
                if self.batch and self.cursor == at_cursor:
                    await self.send({"type": "websocket.send", "text": "[]"})
                await asyncio.sleep(PAUSE_SECONDS)

    async def _read_on(self, generation: int) -> None:
        """Send what there is after the cursor, looking before each read whether it may still be seen."""
        while True:
            sight = await reads.sight(self.execution_id, self.viewer, generation)
            if sight is None:
                raise Closed(NOT_FOUND)
            more = False
            if sight.pruned_at is not None and self.cursor < sight.last_seq:
                self.cursor = sight.last_seq
                await self._emit([self._mark("removed", notice=removal_notice(sight.pruned_at))])
            elif self.cursor < sight.last_seq:
                page = await reads.messages(self.execution_id, self.cursor, generation)
                await self._emit(page.batches if self.batch else page.texts)
                self.cursor, more = page.last_seq, page.more
            if more:
                generation = hub.generation(self.execution_id)
                continue
            if not self.caught_up:
                self.caught_up = True
                await self._emit([self._mark("caught_up")])
            if sight.final and self.cursor >= sight.last_seq:
                await self._emit([self._mark("end")])
                raise Closed(NORMAL)
            return

    async def _emit(self, texts: list[str]) -> None:
        for text in texts:
            await self._send_text(text)

    async def _send_text(self, text: str) -> None:
        """Send one message when the viewer has taken most of the earlier ones."""
        waited = 0.0
        while self.unsent_bytes() > MOST_UNSENT_BYTES:
            if waited >= SLOW_VIEWER_SECONDS:
                raise Closed(TRY_AGAIN_LATER)
            await asyncio.sleep(PAUSE_SECONDS)
            waited += PAUSE_SECONDS
        await self.send({"type": "websocket.send", "text": text})

    def _mark(self, kind: str, **more: str) -> str:
        mark = {"kind": kind, "seq": self.cursor, **more}
        return json.dumps([mark] if self.batch else mark)


async def _converse(
    scope: Scope, receive: Receive, send: Send, talk: Callable[[Viewer], Coroutine[Any, Any, None]]
) -> None:
    """Accept the socket, find out who it is, talk until either side ends it.

    It is accepted before it is refused: a browser shows its page a close code, but no status of a handshake.
    """
    await receive()
    await send({"type": "websocket.accept"})
    talking = asyncio.ensure_future(_talk(scope, send, talk))
    leaving = asyncio.ensure_future(_until_left(receive))
    try:
        await asyncio.wait({talking, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (talking, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _talk(scope: Scope, send: Send, talk: Callable[[Viewer], Coroutine[Any, Any, None]]) -> None:
    viewer: Viewer | None = None
    try:
        if not same_origin(scope):
            raise Closed(FOREIGN_PAGE)
        viewer = await identify(scope)
        if viewer is None:
            raise Closed(NOT_SIGNED_IN)
        await talk(viewer)
    except Closed as closed:
        code = closed.code
        if code in REFUSALS:
            await record_socket_refusal(scope, viewer.user_id if viewer else None, *REFUSALS[code])
    except DatabaseError as error:
        # The viewer comes back with its cursor, and misses nothing.
        logger.warning("Closed a socket because the database could not be read: %s", error)
        code = TRY_AGAIN_LATER
    except Exception:
        logger.exception("A socket failed.")
        code = SERVER_ERROR
    else:
        code = NORMAL
    await send({"type": "websocket.close", "code": code})


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass
