"""Reading the DLQ: which entries a filter selects, what they have in common, what a decision on them would meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Right

from executions.models import NOT_WELL, ROLLBACK, Event, Execution, OutputChunk, Step, StepTarget
from executions.states import NOT_UNDONE, StepStatus
from queueing.models import AssetLock, Attempt, DeadLetter, DeadLetterState, DeadReason, LockState
from safety import rbac
from safety.models import User

COUNTED = 100_000  # entries of one reason that a summary counts; what lies beyond makes it "100,000 or more"
GROUPS = 20  # groups of one error that a summary shows, the biggest first
LOOKED_AT = 10_000  # entries that a preview looks into
SHOWN_ATTEMPTS = 50  # of one execution, the newest
SHOWN_OUTPUT = 2_000  # characters: the end of what an attempt printed
SHOWN_LINES = 40  # pieces of output that it is put together from


def visible_entries(user: User) -> QuerySet[DeadLetter]:
    """The entries that the user may see: those of the executions that it may see."""
    rows = DeadLetter.objects.filter(tenant_id=user.tenant_id)
    if rbac.roles_of(user):
        return rows  # everything of the tenant, without a look at each execution
    return rows.filter(Exists(Execution.objects.visible_to(user).filter(pk=OuterRef("execution_id"))))


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter: which open entries. All conditions hold together; none means all of them.

    q: a part of the last error. created_after: at or after, created_before: before.
    up_to: no entries that came after this one, so that a decision touches only what its preview counted.
    """

    ids: tuple[int, ...] | None = None
    execution_ids: tuple[int, ...] | None = None
    reason: str | None = None
    fingerprint: str | None = None
    q: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    up_to: int | None = None

    def condition(self) -> Q:
        """Return the filter as a condition on DeadLetter, without the state."""
        given = {
            "pk__in": self.ids,
            "execution_id__in": self.execution_ids,
            "reason": self.reason,
            "fingerprint": self.fingerprint,
            "error__icontains": self.q,
            "created_at__gte": self.created_after,
            "created_at__lt": self.created_before,
            "pk__lte": self.up_to,
        }
        return Q(**{name: value for name, value in given.items() if value is not None})

    def open_entries(self, user: User) -> QuerySet[DeadLetter]:
        """The open entries that it selects, of those that the user may see."""
        return visible_entries(user).filter(self.condition(), state=DeadLetterState.OPEN)

    def given(self) -> dict[str, Any]:
        """Return the conditions as JSON holds them."""
        kept = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in kept.items()}


@dataclass(frozen=True, slots=True)
class Group:
    """Open entries of one error. `oldest` and `newest` are numbers of entries."""

    reason: str
    fingerprint: str
    count: int
    oldest: int
    newest: int
    pattern: str = ""
    error: str = ""
    execution_id: int = 0
    newest_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The open entries of a tenant. `capped`: there are more than are counted."""

    total: int
    capped: bool
    new_today: int
    oldest_at: datetime | None
    by_reason: dict[str, int]
    groups: list[Group]


# By one index without the table, up to a number for each reason: a DLQ of millions costs no more than one of 100,000.
# `new`: of the last 24 hours.
SUMMARY = """
WITH listed AS (
    SELECT o.reason, o.fingerprint, o.id FROM unnest(%(reasons)s::text[]) AS wanted(reason)
     CROSS JOIN LATERAL (
          SELECT d.reason, d.fingerprint, d.id FROM queueing_deadletter d
           WHERE d.tenant_id = %(tenant)s AND d.state = 'open' AND d.reason = wanted.reason
           ORDER BY d.fingerprint, d.id LIMIT %(cap)s
     ) o
), grouped AS (
    SELECT reason, fingerprint, count(*) AS entries, min(id) AS oldest, max(id) AS newest FROM listed GROUP BY 1, 2
), biggest AS (
    SELECT * FROM grouped ORDER BY entries DESC, newest DESC LIMIT %(groups)s
)
SELECT (SELECT jsonb_object_agg(reason, n) FROM (SELECT reason, sum(entries) AS n FROM grouped GROUP BY 1) sums)::text,
       (SELECT jsonb_agg(jsonb_build_array(reason, fingerprint, entries, oldest, newest)
                         ORDER BY entries DESC, newest DESC)::text FROM biggest),
       (SELECT count(*) FROM (
            SELECT FROM queueing_deadletter WHERE tenant_id = %(tenant)s AND state = 'open'
               AND created_at > statement_timestamp() - interval '24 hours' LIMIT %(cap)s) fresh),
       (SELECT min(created_at) FROM queueing_deadletter WHERE tenant_id = %(tenant)s AND state = 'open')
"""


def summary(tenant_id: int) -> Summary:
    """Return what is open in a tenant's DLQ, in two statements."""
    with connection.cursor() as cursor:
        cursor.execute(
            SUMMARY, {"tenant": tenant_id, "reasons": DeadReason.values, "cap": COUNTED + 1, "groups": GROUPS}
        )
        row = cursor.fetchone()
    assert row is not None
    sums, groups = (orjson.loads(text) if text else {} for text in row[:2])
    new_today, oldest_at = row[2:]
    by_reason = {reason: int(sums.get(reason, 0)) for reason in DeadReason.values}
    found = [Group(*group) for group in groups]
    examples = DeadLetter.objects.in_bulk([group.newest for group in found])
    return Summary(
        total=sum(min(count, COUNTED) for count in by_reason.values()),
        capped=any(count > COUNTED for count in by_reason.values()),
        new_today=min(new_today, COUNTED),
        oldest_at=oldest_at,
        by_reason={reason: min(count, COUNTED) for reason, count in by_reason.items()},
        groups=[_with_example(group, examples.get(group.newest)) for group in found],
    )


def _with_example(group: Group, newest: DeadLetter | None) -> Group:
    if newest is None:
        return group
    return Group(
        group.reason, group.fingerprint, group.count, group.oldest, group.newest,
        newest.pattern or newest.error, newest.error, newest.execution_id, newest.created_at,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preview:
    """What a decision on a selection would meet. Of more than LOOKED_AT entries the first that many are looked into.

    unknown        have a step whose outcome is unknown: as it is they are not requeued
    forbidden      the user may not decide on them
    locked_assets  assets of their executions that others have locked now: those executions wait
    up_to          the newest of the entries; None when there is none
    """

    matched: int
    looked_at: int
    unknown: int
    forbidden: int
    locked_assets: int
    up_to: int | None


def preview(selection: Selection, *, by: User) -> Preview:
    """Say what a decision on these entries would meet. Writes nothing."""
    rows = selection.open_entries(by)
    matched = rows.count()
    newest = rows.order_by("-pk").values_list("pk", flat=True).first()
    ids = list(rows.order_by("pk").values_list("execution_id", flat=True)[:LOOKED_AT])
    may = Execution.objects.filter(rbac.cancellable_executions(by), pk__in=ids)
    unknown = Step.objects.unanswered().filter(execution_id__in=ids)
    # From the locks, which are few, to the assets of these executions.
    held = AssetLock.objects.filter(state=LockState.HELD).values("asset_id")
    locked = StepTarget.objects.filter(execution_id__in=ids, asset_id__in=held)
    return Preview(
        matched=matched,
        looked_at=len(ids),
        unknown=unknown.values("execution_id").distinct().count(),
        forbidden=len(ids) - may.count(),
        locked_assets=locked.values("asset_id").distinct().count(),
        up_to=newest,
    )


def unknown_steps(execution_id: int) -> list[dict[str, Any]]:
    """Return the steps that wait for a person's word: [{"step": its id in the plan, "kind", "targets": [names]}].

    Of the kind "rollback" is one that was to undo the step, and did not succeed, or nobody knows.
    """
    steps: dict[tuple[str, str], list[str]] = {}
    targets = StepTarget.objects.filter(execution_id=execution_id, step__in=Step.objects.unanswered()).filter(
        Q(status=StepStatus.UNKNOWN) | (Q(step__kind=ROLLBACK, status__in=NOT_WELL) & ~Q(error_code=NOT_UNDONE))
    )
    found = targets.order_by("step__position", "position").values_list("step__key", "step__kind", "name")
    for key, kind, name in found:
        steps.setdefault((key, kind), []).append(name)
    return [{"step": key, "kind": kind, "targets": names} for (key, kind), names in steps.items()]


@dataclass(frozen=True, slots=True)
class AttemptStory:
    """An attempt with the end of what its steps printed. `cut`: there was more before that."""

    attempt: Attempt
    output: str
    cut: bool


def attempts_of(execution_id: int) -> list[AttemptStory]:
    """Return the attempts that did not end the execution, the oldest first, each with the end of its output.

    The event with which an attempt began names its lease, so what came after it, up to the next such event, is its own.
    """
    attempts = list(Attempt.objects.filter(execution_id=execution_id).order_by("-token")[:SHOWN_ATTEMPTS])[::-1]
    if not attempts:
        return []
    begun = list(
        Event.objects.filter(execution_id=execution_id, kind__in=("execution.running", "execution.claimed"))
        .order_by("seq")
        .values_list("data__fence", "seq")
    )
    spans = {
        fence: (seq, begun[number + 1][1] if number + 1 < len(begun) else None)
        for number, (fence, seq) in enumerate(begun)
    }
    return [_story(attempt, spans.get(attempt.token)) for attempt in attempts]


def _story(attempt: Attempt, span: tuple[int, int | None] | None) -> AttemptStory:
    if span is None:
        return AttemptStory(attempt, "", False)  # lost before it began anything
    chunks = OutputChunk.objects.filter(execution_id=attempt.execution_id, seq__gt=span[0])
    if span[1] is not None:
        chunks = chunks.filter(seq__lt=span[1])
    # Pieces are small or big; a few more than could be shown are read, and of each no more than that.
    ends = chunks.order_by("-seq").values_list(Right("text", SHOWN_OUTPUT + 1), flat=True)[:SHOWN_LINES]
    text = "".join(reversed(ends))
    return AttemptStory(attempt, text[-SHOWN_OUTPUT:], len(text) > SHOWN_OUTPUT or len(ends) == SHOWN_LINES)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an execution got stuck: the first step that did not succeed, what failed or is unknown before the others.

    `assets` are a few of that step's, those where it did not succeed first; `asset_count` is how many it has.
    """

    title: str
    step: str
    step_status: str
    assets: tuple[str, ...]
    asset_count: int


# For the rows of a page: a few looks into indexes for each, however many steps and machines an execution has.
PLACES = """
SELECT x.id, x.title, s.key, s.status, t.names, t.most
  FROM executions_execution x
  LEFT JOIN LATERAL (
       SELECT id, key, status FROM executions_step WHERE execution_id = x.id AND status <> 'succeeded'
        ORDER BY status NOT IN ('unknown', 'failed', 'timed_out', 'running'), kind = 'step', position LIMIT 1) s ON true
  LEFT JOIN LATERAL (
       SELECT array_agg(name) AS names, max(most) AS most FROM (
           SELECT name, (SELECT max(position) FROM executions_steptarget WHERE step_id = s.id) AS most
             FROM executions_steptarget WHERE step_id = s.id AND name <> ''
            ORDER BY status = 'succeeded', position LIMIT 3) shown) t ON true
 WHERE x.id = ANY (%s)
"""


def places_of(execution_ids: Sequence[int]) -> dict[int, Place]:
    """Return where each of these executions got stuck."""
    with connection.cursor() as cursor:
        cursor.execute(PLACES, [list(execution_ids)])
        return {
            row[0]: Place(row[1], row[2] or "", row[3] or "", tuple(row[4] or ()), row[5] or 0)
            for row in cursor.fetchall()
        }
