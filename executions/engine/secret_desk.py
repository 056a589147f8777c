"""One desk in each worker asks for secrets, for all its executions: many wishes are one question to the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
from django.db import DatabaseError

from executions.engine.asking import ask_django
from executions.engine.service_credentials import ServiceCredentials, is_of_service
from safety.secrets import SecretUnavailable
from safety.secrets.releasing import Answers, Wanted, release

log = logging.getLogger(__name__)

READERS = 2  # one reads while the other's wishes gather, as the ledger does
MOST_AT_ONCE = 200


class SecretDesk:
    """One for each worker process. Event loop's thread only; what it asks, it asks in threads of its own."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(READERS, "secrets")
        self._of_service = ServiceCredentials()
        self._waiting: list[tuple[Wanted, asyncio.Future[Answers]]] = []
        self._readers: set[asyncio.Task[None]] = set()

    async def read(self, wanted: Wanted) -> Answers:
        """Return what was released, or why not, for each path. Wishes of many executions are one question."""
        future: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        if len(self._readers) < READERS:
            reader = asyncio.create_task(self._serve())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        return await future

    async def _serve(self) -> None:
        try:
            while batch := self._next_batch():
                await self._answer(batch)
        finally:
            # Not an await after the last look, so a wish that comes later finds this place free. When the callback
            # of this task runs is too late: whoever was answered last may ask again before it.
            self._readers -= {asyncio.current_task()}

    def _next_batch(self) -> list[tuple[Wanted, asyncio.Future[Answers]]]:
        waiting = [wish for wish in self._waiting if not wish[1].done()]  # who gave up has no use for it
        batch, self._waiting = waiting[:MOST_AT_ONCE], waiting[MOST_AT_ONCE:]
        return batch

    async def _answer(self, batch: Sequence[tuple[Wanted, asyncio.Future[Answers]]]) -> None:
        loop = asyncio.get_running_loop()
        wishes = [wanted for wanted, _ in batch]
        answers: Sequence[Answers | Exception]
        try:
            answers = await loop.run_in_executor(self._pool, _release, wishes)
        except Exception:
            # A bug, on one of them. Each for itself, then, so that it harms no other.
            answers = await loop.run_in_executor(self._pool, _release_each, wishes)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def credentials(self, wanted: Wanted) -> Answers:
        """The same for what machines are reached with: from the store, or from the asset service."""
        theirs = frozenset(filter(is_of_service, wanted.paths))
        if not theirs:
            return await self.read(wanted)
        ours, others = replace(wanted, paths=wanted.paths - theirs), replace(wanted, paths=theirs)
        reading = [self._of_service.read(others), *([self.read(ours)] if ours.paths else [])]
        return {path: answer for given in await asyncio.gather(*reading) for path, answer in given.items()}

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._of_service.close()


def _release(wanted: Sequence[Wanted]) -> list[Answers]:
    """In a thread: a database that cannot be asked is trouble that passes, for every one of them."""
    try:
        return ask_django(lambda: release(wanted))
    except (psycopg.Error, DatabaseError) as error:
        log.warning("Secrets could not be released: %s", type(error).__name__)
        return [
            {
                path: SecretUnavailable(
                    path,
                    f"The secret {path} cannot be released: the database does not answer.",
                    "Wait until it does; the step can then be retried.",
                    transient=True,
                )
                for path in one.paths
            }
            for one in wanted
        ]


def _release_each(wanted: Sequence[Wanted]) -> list[Answers | Exception]:
    answers: list[Answers | Exception] = []
    for one in wanted:
        try:
            answers += _release([one])
        except Exception as error:
            log.exception("The secrets of step %s of execution %s could not be released.", one.step, one.execution_id)
            answers.append(error)
    return answers
