"""What the admin pages of the DLQ share: words and colours, and the filter of an address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.http import QueryDict
from django.utils import timezone

from executions.dead_letter_queries import Selection
from executions.pages.durations import span
from queueing.models import AttemptEnd, BatchState, DeadLetter, DeadReason, ItemOutcome

STATE_LOOKS = {"open": "needs_attention", "requeued": "queued", "resolved": "succeeded", "discarded": "cancelled"}
REASON_LOOKS = {
    DeadReason.OUTCOME_UNKNOWN: ("unknown", "Outcome unknown"),
    DeadReason.ROLLBACK_FAILED: ("failed", "Rollback failed"),
    DeadReason.ATTEMPTS_EXHAUSTED: ("failed", "Attempts exhausted"),
    DeadReason.ENGINE_ERROR: ("partial", "Engine error"),
}
OUTCOME_LOOKS = {
    ItemOutcome.REQUEUED: ("succeeded", "Requeued"),
    ItemOutcome.DISCARDED: ("cancelled", "Discarded"),
    ItemOutcome.MOVED_ON: ("skipped", "Had moved on"),
    ItemOutcome.UNKNOWN_OUTCOME: ("unknown", "Outcome unknown"),
    ItemOutcome.FORBIDDEN: ("rejected", "Not allowed"),
    ItemOutcome.FAILED: ("failed", "Failed: see the log"),
    ItemOutcome.WAITING: ("queued", "Waiting"),
}
ATTEMPT_LOOKS = {
    AttemptEnd.HANDED_BACK: ("queued", "Handed back by a worker that shut down"),
    AttemptEnd.LEASE_EXPIRED: ("timed_out", "Its worker fell silent, or was cut off"),
    AttemptEnd.WORKER_DIED: ("failed", "Its worker process died"),
    AttemptEnd.DEAD: ("needs_attention", "It put the execution into the DLQ"),
}
BATCH_LOOKS = {
    BatchState.RUNNING: ("running", "Running"),
    BatchState.DONE: ("succeeded", "Done"),
    BatchState.CANCELLED: ("cancelled", "Cancelled"),
}


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter to click on, with how many it selects."""

    status: str
    word: str
    count: str
    address: str
    chosen: bool


def selection_of(parameters: QueryDict) -> Selection:
    """Return the filter of a list's address. A number in the search is that of an execution."""
    words = parameters.get("q", "").strip()
    number = words.removeprefix("#")
    is_number = number.isdecimal() and len(number) < 19
    today = parameters.get("which") == "today"
    return Selection(
        reason=parameters.get("reason") or None,
        fingerprint=parameters.get("fingerprint") or None,
        execution_ids=(int(number),) if is_number else None,
        q=words if words and not is_number else None,
        created_after=timezone.now() - timedelta(hours=24) if today else None,
    )


def in_words(selection: Selection) -> str:
    """What a filter selects, as a sentence goes on after "open entries"."""
    parts = []
    if selection.reason in DeadReason.values:
        parts.append(f"parked for “{REASON_LOOKS[DeadReason(selection.reason)][1].lower()}”")
    if selection.fingerprint:
        newest = DeadLetter.objects.filter(fingerprint=selection.fingerprint).order_by("-pk").first()
        parts.append(f"with the error “{newest.pattern if newest else selection.fingerprint}”")
    if selection.execution_ids:
        parts.append(f"of execution #{selection.execution_ids[0]}")
    if selection.q:
        parts.append(f"whose error contains “{selection.q}”")
    if selection.created_after:
        parts.append("of the last 24 hours")
    return ", ".join(parts)


class Styled:
    """The look of these pages."""

    class Media:
        css = {"all": ("css/dead_letters.css",)}


def age_of(at: datetime | None) -> str:
    return span(timezone.now() - at) if at else "–"
