"""Deciding on DLQ entries: requeue or discard, each at most once, however many decide at the same time.

Many entries are decided on in one transaction of a few statements. Its locks, in this order: the entries by id, the
rows of their executions by id; whoever else decides (resolve, cancel) takes them in the same order. An entry is closed,
its execution moved, its event written and its queue entry made in that one transaction, or none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from executions.models import Execution, Step
from executions.services.decisions import void_step_approvals
from executions.services.entries import entries_of
from executions.services.records import conclude_many, lock_in, move_many, run_again
from executions.services.refusals import Refused, audited
from executions.states import ExecutionStatus
from queueing import queue
from queueing.dead_letters import close_many
from queueing.models import BatchVerb, DeadLetter, DeadLetterState, DeadReason, ItemOutcome, RequeueFrom
from safety import audit, rbac
from safety.masking import mask_text
from safety.models import User

E = ExecutionStatus

AT_ONCE = 100  # entries of one transaction


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided, by whom and why. `data` goes into the event of each execution."""

    verb: BatchVerb
    by: User
    reason: str
    start_from: RequeueFrom = RequeueFrom.AS_IT_IS
    data: dict[str, Any] = field(default_factory=dict)


@audited("dead_letter.requeue", "dead_letter")
def requeue_dead_letters(
    entry_ids: Sequence[int], *, by: User, reason: str = "", start_from: str = RequeueFrom.AS_IT_IS
) -> dict[int, str]:
    """Put the executions of these DLQ entries back into the queue, each at most once.

    They go on where they stopped; with start_from="failed_step" the steps that failed, or whose outcome is unknown, are
    run again on the targets where they did not succeed, which may repeat an effect.
    Returns for each entry "requeued", or why not: "moved_on" (somebody had decided), "unknown_outcome" (as it is only:
    resolve its steps first), "forbidden". Raises Refused(invalid_input) without a reason where one is needed.
    """
    check_reason(start_from, reason)
    return _decide_all(entry_ids, Decision(BatchVerb.REQUEUE, by, reason, RequeueFrom(start_from)))


def check_reason(start_from: str, reason: str) -> None:
    """Refuse to run steps again without a reason: they may have taken effect."""
    if start_from == RequeueFrom.FAILED_STEP and not reason.strip():
        raise Refused(
            "invalid_input",
            "A reason is needed: steps are run again that may have taken effect.",
            "Say how you know that it does no harm.",
            status=422,
        )


@audited("dead_letter.discard", "dead_letter")
def discard_dead_letters(entry_ids: Sequence[int], *, by: User, reason: str) -> dict[int, str]:
    """Give these executions up: they end as failed. Returns for each entry "discarded", "moved_on" or "forbidden"."""
    return _decide_all(entry_ids, Decision(BatchVerb.DISCARD, by, reason))


def _decide_all(entry_ids: Sequence[int], decision: Decision) -> dict[int, str]:
    outcomes: dict[int, str] = {}
    for some in _portions(sorted(set(entry_ids))):
        with transaction.atomic():
            outcomes |= decide(some, decision)
    return outcomes


def _portions(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]


def decide(entry_ids: Sequence[int], decision: Decision, *, wait: bool = True) -> dict[int, str]:
    """Decide on these entries in the caller's transaction; return what became of each.

    Without `wait`, entries that somebody else has locked in this moment are not in the answer.
    """
    rows = DeadLetter.objects.filter(pk__in=entry_ids, tenant_id=decision.by.tenant_id, state=DeadLetterState.OPEN)
    # After a wait PostgreSQL looks at the row again: what was closed meanwhile is not among them.
    locked = list(rows.order_by("pk").select_for_update(no_key=True, skip_locked=not wait))
    busy = set() if wait else set(rows.values_list("pk", flat=True)) - {entry.pk for entry in locked}
    outcomes: dict[int, str] = {entry_id: ItemOutcome.MOVED_ON for entry_id in entry_ids if entry_id not in busy}

    ids = [entry.execution_id for entry in locked]
    may = rbac.cancellable_executions(decision.by)
    allowed = set(Execution.objects.filter(may, pk__in=ids).values_list("pk", flat=True))
    waiting = set(lock_in(sorted(allowed), E.NEEDS_ATTENTION))
    unknown: set[int] = set()
    if decision.verb == BatchVerb.REQUEUE and decision.start_from == RequeueFrom.AS_IT_IS:
        unknown = set(Step.objects.unanswered().filter(execution_id__in=waiting).values_list("execution_id", flat=True))
    chosen = []
    for entry in locked:
        if entry.execution_id not in allowed:
            outcomes[entry.pk] = ItemOutcome.FORBIDDEN
        elif entry.execution_id in unknown:
            outcomes[entry.pk] = ItemOutcome.UNKNOWN_OUTCOME
        elif entry.execution_id in waiting:
            chosen.append(entry)
    if chosen:
        outcome = ItemOutcome.REQUEUED if decision.verb == BatchVerb.REQUEUE else ItemOutcome.DISCARDED
        (_requeue if decision.verb == BatchVerb.REQUEUE else _discard)(chosen, decision)
        outcomes |= dict.fromkeys((entry.pk for entry in chosen), outcome)
    _record(locked, outcomes, decision)
    return outcomes


def _record(entries: Sequence[DeadLetter], outcomes: dict[int, str], decision: Decision) -> None:
    """Write into the audit what was decided on each entry, and what was refused, with one statement."""
    done = (ItemOutcome.REQUEUED, ItemOutcome.DISCARDED)
    audit.record_many(
        [
            audit.Entry(
                action=f"dead_letter.{decision.verb.value}", by=decision.by, object_type="execution",
                object_id=entry.execution_id, allowed=outcomes[entry.pk] in done,
                code="" if outcomes[entry.pk] in done else outcomes[entry.pk], reason=decision.reason,
                data={"entry": entry.pk, "start_from": decision.start_from.value, **decision.data},
            )
            for entry in entries
            if outcomes[entry.pk] in (*done, ItemOutcome.FORBIDDEN, ItemOutcome.UNKNOWN_OUTCOME)
        ]
    )  # fmt: skip


def _requeue(chosen: Sequence[DeadLetter], decision: Decision) -> None:
    actor, reason, data = decision.by.actor, decision.reason, dict(decision.data)
    ids = sorted(entry.execution_id for entry in chosen)
    if decision.start_from == RequeueFrom.FAILED_STEP:
        run_again(ids, actor=actor, reason=reason)
        void_step_approvals(ids, reason=reason)
        data["start_from"] = decision.start_from
    moved = move_many(
        ids, E.NEEDS_ATTENTION, E.QUEUED, actor=actor, reason=reason, status_reason="", data=data, restart=True
    )
    _all_of(ids, len(moved), close_many(ids, DeadLetterState.REQUEUED, by=actor, reason=mask_text(reason)))
    # Every attempt of these was lost with its worker: they may be what kills them, so they run apart from the start.
    suspects = [entry.execution_id for entry in chosen if entry.reason == DeadReason.ATTEMPTS_EXHAUSTED]
    queue.enqueue(entries_of(ids, at_once=True, apart=suspects))


def _discard(chosen: Sequence[DeadLetter], decision: Decision) -> None:
    actor, reason = decision.by.actor, decision.reason
    ids = sorted(entry.execution_id for entry in chosen)
    ended = conclude_many(ids, E.NEEDS_ATTENTION, E.FAILED, actor=actor, reason=reason, data=decision.data)
    _all_of(ids, len(ended), close_many(ids, DeadLetterState.DISCARDED, by=actor, reason=mask_text(reason)))


def _all_of(ids: Sequence[int], moved: int, closed: int) -> None:
    """Their rows are locked and were looked at, so all of them moved. If not, that is a bug, and nothing is written."""
    if not moved == closed == len(ids):
        raise RuntimeError(f"Of {len(ids)} executions {moved} moved and {closed} entries were closed: {ids[:10]}")
