"""One read of the database for all the sockets that want the same thing at the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, cast

from executions.live.feed import aread_page
from executions.live.viewers import Sight, Viewer, alook

READ_LIMIT = 5000  # items in one read
FRAME_BYTES = 256 * 1024  # of a batch; daphne, and many clients, refuse messages of more than 1 MiB


@dataclass(frozen=True, slots=True)
class Messages:
    """A page of the feed, ready to send: each item as JSON text, encoded once however many sockets get it."""

    texts: list[str]  # one item each
    batches: list[str]  # the same, as JSON lists of items
    last_seq: int
    more: bool


class SharedReads:
    """The newest result for each key, valid while its generation is (see Hub.generation): nothing older is given out.

    The generation is taken before the read begins, so a result is never older than the news its reader was woken by.
    Belongs to one event loop. Keys of executions nobody watches are dropped by `forget`.
    """

    def __init__(self) -> None:
        self._results: dict[tuple[int, Hashable], tuple[int, Hashable, asyncio.Future[Any]]] = {}

    async def messages(self, execution_id: int, after: int, generation: int) -> Messages:
        key = (execution_id, "feed")
        return cast(Messages, await self._get(key, after, generation, lambda: _messages(execution_id, after)))

    async def sight(self, execution_id: int, viewer: Viewer, generation: int) -> Sight | None:
        key = (execution_id, viewer)
        return cast("Sight | None", await self._get(key, None, generation, lambda: alook(viewer, execution_id)))

    def forget(self, execution_id: int, viewer: Viewer) -> None:
        """Drop what was kept for a viewer who left, and the newest page: the next who wants it reads again."""
        self._results.pop((execution_id, viewer), None)
        self._results.pop((execution_id, "feed"), None)

    async def _get(
        self, slot: tuple[int, Hashable], detail: Hashable, generation: int, read: Callable[[], Awaitable[Any]]
    ) -> Any:
        kept = self._results.get(slot)
        if kept is None or kept[:2] != (generation, detail) or _failed(kept[2]):
            kept = (generation, detail, asyncio.ensure_future(read()))
            self._results[slot] = kept
        # A socket that goes away must not cancel the read of the others.
        return await asyncio.shield(kept[2])


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


async def _messages(execution_id: int, after: int) -> Messages:
    page = await aread_page(execution_id, after, READ_LIMIT)
    texts = [json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in page.items]
    return Messages(texts, batched(texts), page.items[-1]["seq"] if page.items else after, page.more)


def batched(texts: list[str]) -> list[str]:
    """Return the JSON texts as few JSON lists of about FRAME_BYTES at most; an item that is larger is alone."""
    batches: list[str] = []
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode()) + 1
        if batch and size + length > FRAME_BYTES:
            batches.append(f"[{','.join(batch)}]")
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        batches.append(f"[{','.join(batch)}]")
    return batches
