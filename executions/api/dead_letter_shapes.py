"""What the calls of the DLQ answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from executions.api.shapes import Page, Shape
from queueing.models import AttemptEnd, BatchState, BatchVerb, DeadLetterState, DeadReason, ItemOutcome, RequeueFrom


class DeadLetterEntry(Shape):
    """An execution that waits for a person. `pattern` is what its error has in common with others of `fingerprint`."""

    id: int
    execution: int
    reason: DeadReason
    advice: str
    error: str
    pattern: str
    fingerprint: str
    attempts: int
    state: DeadLetterState
    created_at: datetime
    closed_at: datetime | None
    closed_by: str
    close_reason: str
    links: dict[str, str]


class DeadLetterPage(Page):
    results: list[DeadLetterEntry]


class AttemptShape(Shape):
    """An attempt that did not end the execution. Numbers begin anew with every requeue.

    `output` is the end of what its steps printed; `output_cut` says that there was more before.
    """

    number: int
    worker: str
    worker_id: int
    leased_at: datetime
    ended_at: datetime
    end: AttemptEnd
    error: str
    output: str
    output_cut: bool


class UnknownStep(Shape):
    """A step of which a person has to say with `resolve` what became of it, or of undoing it (`kind` rollback)."""

    step: str
    kind: str
    targets: list[str]


class DeadLetterDetail(DeadLetterEntry):
    """An entry with every attempt, oldest first, and the steps whose outcome is unknown."""

    each_attempt: list[AttemptShape]
    unknown_steps: list[UnknownStep]


class DeadLetterGroup(Shape):
    """Open entries of one error; `example` is the newest of them."""

    fingerprint: str
    reason: DeadReason
    pattern: str
    count: int
    newest_at: datetime | None
    example: dict[str, Any]


class DeadLetterSummary(Shape):
    """What is open. `new_today`: in the last 24 hours. `capped`: there are more, the figures are at least that."""

    total: int
    capped: bool
    new_today: int
    oldest_at: datetime | None
    by_reason: dict[DeadReason, int]
    groups: list[DeadLetterGroup]


class DeadLetterOutcome(Shape):
    """requeued, discarded, moved_on (somebody had decided), unknown_outcome (resolve it first), forbidden, failed (a
    fault of ours), waiting (not done yet); matched in a dry run."""

    id: int
    outcome: str


class DeadLetterOutcomes(Shape):
    """What became of the entries that the filter selected.

    `more`: `results` does not have them all (yet): read the batch. In a dry run `preview` says what would be met.
    """

    matched: int
    counts: dict[str, int]
    results: list[DeadLetterOutcome]
    more: bool
    dry_run: bool
    batch: int | None
    state: BatchState | None
    links: dict[str, str]


class DeadLetterBatchShape(Shape):
    """One decision on many entries. `counts`: outcome -> entries; `done` of `matched` have theirs."""

    id: int
    verb: BatchVerb
    start_from: RequeueFrom
    by: str
    reason: str
    filter: dict[str, Any]
    per_second: int | None
    state: BatchState
    matched: int
    done: int
    counts: dict[str, int]
    created_at: datetime
    ended_at: datetime | None
    ended_by: str
    links: dict[str, str]


class DeadLetterBatchPage(Page):
    results: list[DeadLetterBatchShape]


class DeadLetterResult(Shape):
    """What became of one entry of a batch."""

    id: int
    execution: int
    outcome: ItemOutcome
    done_at: datetime | None


class DeadLetterResultPage(Page):
    results: list[DeadLetterResult]
