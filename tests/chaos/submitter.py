"""The people of a chaos run: they hand in the load, insist on an answer, and cancel what is to be cancelled."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import DatabaseError, InterfaceError, connection

from executions.services import Accepted, Refused, Submission, cancel, submit_many
from safety.models import User
from tests.chaos.evidence import Evidence
from tests.chaos.load import Wanted

BATCH = 20
AWAY = (DatabaseError, InterfaceError)
UNFINISHED = "SELECT count(*) FROM executions_execution WHERE finished_at IS NULL AND status <> 'needs_attention'"


class Failed(Exception):
    """A request was refused that should have been taken in: the load is wrong, or the installation is."""


@dataclass(slots=True)
class Submitter:
    """Hands the load in, in batches, as fast as it is worked off. `run` is the body of a thread."""

    seed: int
    wanted: Sequence[Wanted]
    by: User
    unfinished_at_most: int
    stopping: threading.Event
    accepted: dict[int, int] = field(default_factory=dict)
    asked_again: int = 0
    failure: Exception | None = None

    def run(self) -> None:
        try:
            for first in range(0, len(self.wanted), BATCH):
                while not self.stopping.is_set() and self._unfinished() > self.unfinished_at_most - BATCH:
                    self.stopping.wait(0.2)
                if self.stopping.is_set():
                    return
                self._submit(self.wanted[first : first + BATCH])
        except Exception as error:
            self.failure = error
        finally:
            connection.close()

    @property
    def is_done(self) -> bool:
        return len(self.accepted) == len(self.wanted) or self.failure is not None

    def _submit(self, batch: Sequence[Wanted]) -> None:
        """Ask until there is an answer. The key makes sure that what was taken in unheard is not taken in twice."""
        submissions = [
            Submission(
                one.document, priority=one.priority, idempotency_key=f"chaos {self.seed} {one.number}", tags=[one.kind]
            )
            for one in batch
        ]
        while not self.stopping.is_set():
            try:
                answers = submit_many(submissions, by=self.by)
            except AWAY:
                connection.close()
                self.asked_again += 1
                self.stopping.wait(0.2)
                continue
            for one, answer in zip(batch, answers, strict=True):
                if not isinstance(answer, Accepted):
                    raise Failed(f"number {one.number} was refused: {answer.code}: {answer}")
                self.accepted[one.number] = answer.execution_id
            return

    def _unfinished(self) -> int:
        try:
            with connection.cursor() as cursor:
                cursor.execute(UNFINISHED)
                count: int = cursor.fetchone()[0]
        except AWAY:
            connection.close()
            return self.unfinished_at_most
        return count


@dataclass(slots=True)
class Canceller:
    """Cancels each execution of that kind some time after its first step began. `run` is the body of a thread."""

    submitter: Submitter
    evidence: Evidence
    by: User
    stopping: threading.Event
    answers: dict[int, str] = field(default_factory=dict)  # number -> status, or the code of the refusal

    def run(self) -> None:
        after = {one.number: one.cancel_after_seconds for one in self.submitter.wanted if one.cancel_after_seconds}
        due: dict[int, float] = {}
        dice = random.Random(self.submitter.seed)
        while not self.stopping.wait(0.1):
            for run in self.evidence.read():
                if run.number in after:
                    due.setdefault(run.number, time.monotonic() + after[run.number])
            ready = [number for number, at in due.items() if at <= time.monotonic() and number not in self.answers]
            dice.shuffle(ready)
            for number in ready:
                self._cancel(number)
        connection.close()

    def _cancel(self, number: int) -> None:
        execution_id = self.submitter.accepted.get(number)
        if execution_id is None:
            return  # it runs already, and its submitter has not heard yet that it was taken in
        try:
            self.answers[number] = str(cancel(execution_id, by=self.by, reason="chaos: wanted no more"))
        except Refused as refused:
            if refused.code != "busy":
                self.answers[number] = refused.code
        except AWAY:
            connection.close()
