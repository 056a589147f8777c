"""The Locks page: which machines are held, by whom, since when, who waits for them; and how one is taken back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from executions import services
from executions.models import Asset, Execution
from executions.pages.durations import span
from executions.services import Refused
from queueing.admin.live import LivePage, address, door
from queueing.admin.words import Said, note, warning, well
from queueing.models import AssetLock, QueueEntry, Worker
from safety.admin_access import user_of
from safety.models import User

PAGE = 50
COUNTED = 1_000  # of those in line at a machine
LOOKED_AT = 100  # of those in line, for the longest wait
NAMED = 3
LONG = "10 minutes"

# One row for each machine. What is held is bounded by what runs: all of it is read (lock_held), and sorted.
HELD = """
SELECT l.asset_id, a.name, a.environment, min(l.held_at) AS since, bool_or(l.exclusive), count(*),
       (array_agg(l.execution_id ORDER BY l.held_at, l.execution_id))[1:%(named)s], max(l.fence)
  FROM queueing_assetlock l JOIN executions_asset a ON a.id = l.asset_id AND a.tenant_id = %(tenant)s
 WHERE l.state = 'held' {where}
 GROUP BY l.asset_id, a.name, a.environment
HAVING (min(l.held_at), l.asset_id) > (%(at)s, %(number)s) {having}
 ORDER BY min(l.held_at), l.asset_id LIMIT %(limit)s
"""
FIGURES = """
SELECT count(DISTINCT l.asset_id), count(DISTINCT l.execution_id),
       extract(epoch FROM statement_timestamp() - min(l.held_at))::float8,
       count(DISTINCT l.asset_id) FILTER (WHERE EXISTS (
           SELECT FROM queueing_assetlock q WHERE q.asset_id = l.asset_id AND q.state = 'queued')),
       count(DISTINCT l.asset_id) FILTER (WHERE l.held_at < statement_timestamp() - interval '10 minutes'),
       count(DISTINCT l.asset_id) FILTER (WHERE NOT l.exclusive)
  FROM queueing_assetlock l JOIN executions_asset a ON a.id = l.asset_id AND a.tenant_id = %(tenant)s
 WHERE l.state = 'held'
"""
WAITERS = """
SELECT a.asset_id, line.waiting, first.ids, first.seconds
  FROM unnest(%(assets)s::bigint[]) AS a(asset_id)
 CROSS JOIN LATERAL (SELECT count(*) AS waiting FROM (
    SELECT FROM queueing_assetlock l WHERE l.asset_id = a.asset_id AND l.state = 'queued' LIMIT %(most)s) counted
 ) line
 CROSS JOIN LATERAL (
    SELECT (array_agg(l.execution_id ORDER BY l.place, l.execution_id))[1:%(named)s] AS ids,
           extract(epoch FROM statement_timestamp() - min(q.available_at))::float8 AS seconds
      FROM (SELECT execution_id, place FROM queueing_assetlock l WHERE l.asset_id = a.asset_id AND l.state = 'queued'
             ORDER BY l.place, l.execution_id LIMIT %(looked_at)s) l
      JOIN queueing_queueentry q USING (execution_id)
 ) first
"""
WANTED = "AND EXISTS (SELECT FROM queueing_assetlock q WHERE q.asset_id = l.asset_id AND q.state = 'queued')"
FREEING = (
    "AND EXISTS (SELECT FROM queueing_queueentry q WHERE q.execution_id = l.execution_id AND q.revoked_at IS NOT NULL)"
)
NAMED_SO = """
AND (a.name ILIKE %(like)s OR l.asset_id = %(q)s OR EXISTS (
        SELECT FROM queueing_assetlock one WHERE one.asset_id = l.asset_id AND one.execution_id = %(q)s))
"""

# question -> (status, icon, words, condition on a lock, condition on a machine)
QUESTIONS: dict[str, tuple[str, str, str, str, str]] = {
    "held": ("running", "lock", "Held", "", ""),
    "wanted": ("needs_attention", "user", "Somebody waits", WANTED, ""),
    "long": (
        "timed_out", "hourglass", f"Held for more than {LONG}", "",
        f"AND min(l.held_at) < statement_timestamp() - interval '{LONG}'",
    ),
    "shared": ("queued", "half", "Shared", "", "AND NOT bool_or(l.exclusive)"),
    "freeing": ("cancelling", "stop", "Being freed", FREEING, ""),
}  # fmt: skip
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
CURSOR = re.compile(r"([0-9T:.+-]{10,40})~(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Holder:
    """An execution that holds a lock, and the worker that has it."""

    execution_id: int
    title: str
    worker: Worker | None
    freeing: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A machine that is held. holders: the first of `held_by`; waiters: the first of those in line."""

    asset_id: int
    name: str
    environment: str
    since: datetime
    exclusive: bool
    held_by: int
    holders: list[Holder]
    fence: int
    waiting: int
    waiters: list[int]
    longest_seconds: float

    @property
    def look(self) -> tuple[str, str, str]:
        if any(holder.freeing for holder in self.holders):
            return "cancelling", "stop", "Being freed"
        return ("needs_attention", "user", "Wanted") if self.waiting else ("running", "lock", "Held")

    @property
    def waiting_words(self) -> str:
        return f"{COUNTED - 1:,} or more" if self.waiting >= COUNTED else f"{self.waiting:,}"

    @property
    def unnamed(self) -> int:
        return self.waiting - len(self.waiters)

    @property
    def who(self) -> str:
        """Who is asked to stop, in the words of the dialog."""
        first = " and ".join(f"#{holder.execution_id}" for holder in self.holders)
        if self.held_by > len(self.holders):
            first = f"#{self.holders[0].execution_id} and {self.held_by - 1} others"
        return f"{first} {'is' if self.held_by == 1 else 'are'} asked to stop"


@dataclass
class Locks:
    """All of the page, for one user: the machines of its tenant. Everything is read when it is asked for, once."""

    user: User
    question: str = "held"
    words: str = ""
    after: str = ""

    @cached_property
    def figures(self) -> tuple[int, int, float | None, int, int, int]:
        """Machines held, executions that hold them, seconds of the oldest; of the machines wanted, long, shared."""
        with connection.cursor() as cursor:
            cursor.execute(FIGURES, {"tenant": self.user.tenant_id})
            return cursor.fetchone() or (0, 0, None, 0, 0, 0)

    @cached_property
    def chips(self) -> list[tuple[str, str, str, str | None, str, bool]]:
        """(status, icon, words, number, link, chosen) of each question."""
        held, _, _, wanted, long, shared = self.figures
        counts = {"held": held, "wanted": wanted, "long": long, "shared": shared}
        base = reverse("admin:queueing_assetlock_changelist")
        return [
            (
                status, icon, words, f"{counts[name]:,}" if name in counts else None,
                address(base, question=name, q=self.words), name == self.question,
            )
            for name, (status, icon, words, _, _) in QUESTIONS.items()
        ]  # fmt: skip

    @cached_property
    def sentences(self) -> list[Said]:
        held, executions, seconds, wanted, _, _ = self.figures
        if not held:
            return [well("No machine is held.")]
        text = (
            f"{held:,} {'machine is' if held == 1 else 'machines are'} held by {executions:,} "
            f"{'execution' if executions == 1 else 'executions'}, the longest for {span(seconds)}."
        )
        if not wanted:
            return [note(f"{text} Nobody waits for any of them.")]
        link = f"{reverse('admin:queueing_assetlock_changelist')}?question=wanted"
        return [warning(f"Somebody waits for {wanted:,} of the machines that are held.", link), note(text)]

    @cached_property
    def _page(self) -> tuple[list[tuple[Any, ...]], str]:
        match = CURSOR.fullmatch(self.after)
        at, number = match.groups() if match else ("", "0")
        try:
            since = datetime.fromisoformat(at) if at else BEGINNING
        except ValueError:
            since = BEGINNING
        _, _, _, where, having = QUESTIONS[self.question]
        if self.words:
            where += NAMED_SO
        plain = self.words.removeprefix("#")
        like = self.words.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        with connection.cursor() as cursor:
            cursor.execute(
                HELD.replace("{where}", where).replace("{having}", having),
                {
                    "tenant": self.user.tenant_id, "named": NAMED, "at": since, "number": int(number),
                    "limit": PAGE + 1, "like": f"%{like}%",
                    "q": int(plain) if plain.isdecimal() and len(plain) < 19 else -1,
                },
            )  # fmt: skip
            rows = cursor.fetchall()
        last = rows[PAGE - 1] if len(rows) > PAGE else None
        return rows[:PAGE], f"{last[3].isoformat()}~{last[0]}" if last else ""

    @cached_property
    def next_link(self) -> str:
        base = reverse("admin:queueing_assetlock_changelist")
        after = self._page[1]
        return address(base, question=self.question, q=self.words, after=after) if after else ""

    @cached_property
    def rows(self) -> list[Row]:
        """Five statements, however many there are."""
        found, _ = self._page
        held_by = {pk for row in found for pk in row[6]}
        titles = dict(Execution.objects.filter(pk__in=held_by).values_list("pk", "title"))
        entries = {entry.pk: entry for entry in QueueEntry.objects.filter(pk__in=held_by)}
        workers = Worker.objects.in_bulk({entry.worker_id for entry in entries.values() if entry.worker_id})
        with connection.cursor() as cursor:
            cursor.execute(
                WAITERS,
                {"assets": [row[0] for row in found], "most": COUNTED, "named": NAMED, "looked_at": LOOKED_AT},
            )
            lines = {asset: (waiting, ids or [], seconds or 0.0) for asset, waiting, ids, seconds in cursor.fetchall()}

        def holder(pk: int) -> Holder:
            entry = entries.get(pk)
            worker = workers.get(entry.worker_id or 0) if entry else None
            return Holder(pk, titles.get(pk, ""), worker, freeing=entry is not None and entry.revoked_at is not None)

        return [
            Row(
                asset_id, name, environment, since, exclusive, holders, [holder(pk) for pk in first], fence,
                *lines[asset_id],
            )
            for asset_id, name, environment, since, exclusive, holders, first, fence in found
        ]  # fmt: skip


@admin.register(AssetLock)
class AssetLockAdmin(LivePage):
    """Who has which machine, and who stands in line for it."""

    page_title = "Locks"
    page_template = "admin/queueing/locks.html"
    parts = {"top": "admin/queueing/_locks_top.html", "locks": "admin/queueing/_locks_held.html"}
    doors = ("free",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Locks have no tenant of their own: it is that of their asset."""
        own = Asset.objects.filter(pk=OuterRef("asset_id"), tenant_id=user_of(request).tenant_id)
        return AssetLock.objects.filter(Exists(own))

    def page_context(self, request: HttpRequest) -> dict[str, Any]:
        question = request.GET.get("question", "held")
        locks = Locks(
            user_of(request),
            question=question if question in QUESTIONS else "held",
            words=request.GET.get("q", "").replace("\0", "").strip(),
            after=request.GET.get("after", ""),
        )
        return {
            "locks": locks,
            "may_operate": self.has_operate_permission(request),
            "free_within": span(services.free_within_seconds()),
        }

    @door
    def free(self, request: HttpRequest, reason: str) -> str:
        """The verb decides who may: whoever may cancel all that hold the lock."""
        asked = request.POST.get("asset", "").strip()
        if not asked.isdecimal() or len(asked) > 18:
            raise ValueError("Say which machine.")
        try:
            freed = services.free_lock(int(asked), by=user_of(request), reason=reason)
        except Refused as refused:
            raise ValueError(f"{refused.message} {refused.how_to_fix}".strip()) from None
        who = ", ".join(f"#{one.execution_id}" for one in freed)
        if not any(one.revoked for one in freed):
            return f"{who} had let go: the lock is free."
        return (
            f"{who} asked to stop. The lock is free when its worker has let go, at the latest after "
            f"{span(services.free_within_seconds())}."
        )
