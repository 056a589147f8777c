"""One decision on many DLQ entries, as rows: a batch and an item for each entry. It goes on whoever dies.

A batch is carried out in slices. A slice is one transaction that holds the batch's row: it takes the next entries
that wait, decides on them, and writes what became of each. So of any number of processes that work at a batch (the
command or request that began it, every worker) one at a time has it, and an entry is done once or, when its process
dies in the middle, not at all and by the next. That no two batches decide on one entry is for `decide` to see.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from executions.dead_letter_queries import Selection
from executions.services.dead_letters import AT_ONCE, Decision, check_reason, decide
from executions.services.refusals import Refused, audited, forbidden
from queueing.models import (
    BatchState,
    BatchVerb,
    DeadLetterBatch,
    DeadLetterBatchItem,
    ItemOutcome,
    RequeueFrom,
)
from safety import audit, rbac
from safety.masking import mask_text
from safety.models import User

log = logging.getLogger(__name__)

# Up to so many entries are decided on at once, by the caller itself, when no pace is asked for.
SMALL = 200
# 10,000 entries in some three minutes: slow enough for workers to go on with what else there is.
DEFAULT_PACE = 50
FASTEST = 1000
# An idle worker looks every second; what it could have done since then is not lost to the pace, and no more than that.
CATCH_UP_SECONDS = 2
LOOK_SECONDS = 0.02


@audited("dead_letter_batch.start", "dead_letter_batch")
def start_batch(
    selection: Selection,
    *,
    verb: str,
    by: User,
    reason: str,
    start_from: str = RequeueFrom.AS_IT_IS,
    per_second: int | None = None,
) -> DeadLetterBatch | None:
    """Write down a decision on all entries that a filter selects now; return its batch, None when there is no entry.

    Nothing is decided yet: `carry_out` does it, or whoever else comes first. Without `per_second` (1 to 1,000) up to
    SMALL entries go at once, more at DEFAULT_PACE.
    Raises Refused: invalid_input (422), forbidden (more than SMALL are for operators).
    """
    _check(verb, reason, start_from, per_second)
    with transaction.atomic():
        batch = DeadLetterBatch.objects.create(
            tenant_id=by.tenant_id, actor_id=by.pk, by=by.actor, verb=verb, start_from=start_from,
            reason=mask_text(reason), filter=selection.given(), per_second=per_second, matched=0,
        )  # fmt: skip
        matched = _take_in(batch, selection, by)
        if matched > SMALL and not rbac.can_operate(by):
            transaction.set_rollback(True)
            raise forbidden(
                f"You may not decide on {matched:,} entries at once.",
                f"Ask an operator, or select at most {SMALL} of your own.",
            )
        if not matched:
            transaction.set_rollback(True)
            return None
        pace = per_second if per_second is not None or matched <= SMALL else DEFAULT_PACE
        DeadLetterBatch.objects.filter(pk=batch.pk).update(matched=matched, per_second=pace)
        audit.record(
            "dead_letter_batch.start", by=by, object_type="dead_letter_batch", object_id=batch.pk, reason=reason,
            data={"verb": verb, "start_from": start_from, "entries": matched, "filter": selection.given()},
        )  # fmt: skip
    batch.refresh_from_db()
    return batch


def _check(verb: str, reason: str, start_from: str, per_second: int | None) -> None:
    if verb == BatchVerb.DISCARD and start_from != RequeueFrom.AS_IT_IS:
        raise Refused("invalid_input", "What is discarded begins nowhere.", "Leave `from` out.", status=422)
    check_reason(start_from, reason)
    if per_second is not None and not 1 <= per_second <= FASTEST:
        raise Refused(
            "invalid_input", f"{per_second} entries a second is not a pace.", f"Give 1 to {FASTEST}.", status=422
        )


def _take_in(batch: DeadLetterBatch, selection: Selection, by: User) -> int:
    """Make an item for each entry that is selected now, in one statement; return how many."""
    sql, parameters = (
        selection.open_entries(by).order_by("pk").values_list("pk", "execution_id").query.sql_with_params()
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO queueing_deadletterbatchitem (batch_id, entry_id, execution_id)"
            f" SELECT %s, chosen.* FROM ({sql}) chosen",
            [batch.pk, *parameters],
        )
        return int(cursor.rowcount)


# The batch whose turn it is and that nobody has in hand, with how many entries its pace allows now. Its row stays
# locked to the end of the slice.
NEXT = """
SELECT id, least(%(most)s, CASE WHEN per_second IS NULL THEN %(most)s ELSE
           floor(extract(epoch FROM statement_timestamp() - paced_until) * per_second) END)::int
  FROM queueing_deadletterbatch
 WHERE state = 'running' AND (id = %(batch)s OR %(batch)s IS NULL)
   AND (per_second IS NULL OR paced_until <= statement_timestamp() - make_interval(secs => 1.0 / per_second))
 ORDER BY paced_until LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""

WRITE_ITEMS = """
UPDATE queueing_deadletterbatchitem i SET outcome = o.outcome, done_at = statement_timestamp()
  FROM unnest(%(entries)s::bigint[], %(outcomes)s::text[]) AS o(entry_id, outcome)
 WHERE i.batch_id = %(batch)s AND i.entry_id = o.entry_id AND i.outcome = 'waiting'
"""

# What was allowed and not used is given up but for the last moments: a pace has no bursts.
WRITE_BATCH = """
UPDATE queueing_deadletterbatch
   SET counts = %(counts)s::jsonb,
       paced_until = CASE WHEN per_second IS NULL THEN statement_timestamp()
                          ELSE greatest(paced_until, statement_timestamp() - make_interval(secs => %(catch_up)s))
                               + make_interval(secs => %(done)s::float / per_second) END,
       state = CASE WHEN %(over)s THEN 'done' ELSE state END,
       ended_at = CASE WHEN %(over)s THEN statement_timestamp() END
 WHERE id = %(batch)s AND state = 'running'
"""


def work_at_batches(batch_id: int | None = None) -> int | None:
    """Do one slice of a batch, this one or any whose turn it is; return how many entries were decided on.

    None: no batch is running, or its pace does not allow more yet, or somebody else has it in hand. A few dozen
    milliseconds at most. Called by workers now and then.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(NEXT, {"batch": batch_id, "most": AT_ONCE})
        row = cursor.fetchone()
        return _slice(DeadLetterBatch.objects.get(pk=row[0]), row[1]) if row else None


def _slice(batch: DeadLetterBatch, most: int) -> int:
    items = DeadLetterBatchItem.objects.filter(batch=batch, outcome=ItemOutcome.WAITING)
    entries = list(items.order_by("pk").values_list("entry_id", flat=True)[:most])
    outcomes = _outcomes(batch, entries)
    with connection.cursor() as cursor:
        cursor.execute(
            WRITE_ITEMS, {"batch": batch.pk, "entries": list(outcomes), "outcomes": [str(o) for o in outcomes.values()]}
        )
        written = cursor.rowcount
        counts = Counter(batch.counts) + Counter(map(str, outcomes.values()))
        over = not items.exists()
        cursor.execute(
            WRITE_BATCH,
            {
                "batch": batch.pk, "counts": json.dumps(counts), "done": len(outcomes), "over": over,
                "catch_up": CATCH_UP_SECONDS,
            },
        )  # fmt: skip
        if written != len(outcomes) or cursor.rowcount != 1:
            # The batch's row is locked, so this cannot be; if it is, nothing of the slice is written.
            raise RuntimeError(f"Batch {batch.pk}: {written} of {len(outcomes)} items were written.")
    return len(outcomes)


def _outcomes(batch: DeadLetterBatch, entries: list[int]) -> dict[int, str]:
    """Decide on these entries; those that somebody has locked in this moment are left for later.

    With the rights that the one who decided has now. An entry that cannot be decided on, because of a fault of ours,
    keeps no other from it.
    """
    by = User.objects.select_related("tenant").filter(pk=batch.actor_id).first()
    if by is None:
        return dict.fromkeys(entries, ItemOutcome.FORBIDDEN)
    decision = Decision(BatchVerb(batch.verb), by, batch.reason, RequeueFrom(batch.start_from), {"batch": batch.pk})
    try:
        with transaction.atomic():
            return decide(entries, decision, wait=False)
    except (OperationalError, InterfaceError):
        raise  # the database's trouble, not the entries': the slice is tried again as a whole
    except Exception:
        if len(entries) > 1:
            return {entry: outcome for one in entries for entry, outcome in _outcomes(batch, [one]).items()}
        log.exception("DLQ entry %s of batch %s could not be decided on.", entries[0], batch.pk)
        return {entries[0]: ItemOutcome.FAILED}


def carry_out(batch: DeadLetterBatch, *, seconds: float, told: Callable[[DeadLetterBatch], None] | None = None) -> bool:
    """Work at a batch until it has ended, or for so many seconds; return whether it has ended.

    `batch` is read again as it goes, and `told` called with it then.
    """
    deadline = time.monotonic() + seconds
    while True:
        worked = work_at_batches(batch.pk)
        batch.refresh_from_db()
        if told is not None:
            told(batch)
        if batch.state != BatchState.RUNNING:
            return True
        if time.monotonic() >= deadline:
            return False
        if not worked:  # somebody else has it in hand, or its pace does not allow more
            time.sleep(min(LOOK_SECONDS if batch.per_second is None else LOOK_SECONDS * 10, seconds))


@audited("dead_letter_batch.cancel", "dead_letter_batch")
def cancel_batch(batch_id: int, *, by: User) -> DeadLetterBatch:
    """Have a running batch stop where it is: what waits stays as it is, in the DLQ. Return it.

    A slice that is going on in this moment is waited for. Raises Refused: not_found, forbidden, batch_ended (409).
    """
    batch = visible_batches(by).filter(pk=batch_id).first()
    if batch is None:
        raise Refused("not_found", f"There is no DLQ batch {batch_id}.", "Look its number up in the list.", status=404)
    if batch.actor_id != by.pk and not rbac.can_operate(by):
        raise forbidden("You may not cancel this batch.", "Ask the one who began it, or an operator.")
    running = DeadLetterBatch.objects.filter(pk=batch_id, state=BatchState.RUNNING)
    with transaction.atomic():
        if running.update(state=BatchState.CANCELLED, ended_at=Now(), ended_by=by.actor) != 1:
            raise Refused(
                "batch_ended", f"Batch {batch_id} has ended.", "Look at what became of its entries.", status=409
            )
        audit.record("dead_letter_batch.cancel", by=by, object_type="dead_letter_batch", object_id=batch_id)
    batch.refresh_from_db()
    return batch


def visible_batches(user: User) -> QuerySet[DeadLetterBatch]:
    """The batches that the user may see: with a role all of the tenant, otherwise those that it began."""
    rows = DeadLetterBatch.objects.filter(tenant_id=user.tenant_id)
    return rows if rbac.roles_of(user) else rows.filter(actor_id=user.pk)
