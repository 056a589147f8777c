"""The operators' home, the index of the admin: what needs a person, and how the queue stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from executions.admin_locks import Locks
from executions.clients.reporting import found_by_processes
from executions.models import Execution
from executions.pages.durations import span
from executions.states import FINAL_EXECUTION, ExecutionStatus
from queueing.admin.overview import Fleet
from queueing.admin.words import Said, warning
from queueing.control import queue_figures
from queueing.models import DeadLetter, Worker
from safety.admin_access import roles_for, user_of
from safety.models import DEFAULT_TENANT

E = ExecutionStatus

# Executions of a status have no index; they are counted among so many of the newest, in one reading by the key. A count
# over a history of millions would take a second for each figure.
NEWEST = 100_000
SAID = 6  # sentences on the fleet; its own page has them all


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure with where it leads. `status` is the colour; a figure of nothing has none."""

    label: str
    value: str
    link: str
    status: str
    sentence: str


def home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the tiles to the context of the index, for those who have a role."""
    if roles_for(request):
        context |= {
            "needs": _needs(request),
            "queue": _queue(request),
            "sentences": _fleet(request),
            "now": timezone.now(),
        }
    return context


def _fleet(request: HttpRequest) -> list[Said]:
    """What is wrong with queue, workers and services, for those who may see the Fleet page; or that all is well."""
    if not _sees_the_fleet(request):
        return []
    services = [warning(one.sentence) for one in found_by_processes() if not one.is_well]
    said = [*Fleet().sentences, *services]
    return [one for one in said if one.status in ("failed", "needs_attention")][:SAID] or said[:1]


def _sees_the_fleet(request: HttpRequest) -> bool:
    return user_of(request).tenant.name == DEFAULT_TENANT


def _needs(request: HttpRequest) -> list[Tile]:
    tenant_id = user_of(request).tenant_id
    now = timezone.now()
    last = Execution.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    newest = Execution.objects.filter(tenant_id=tenant_id, pk__gt=last - NEWEST)
    executions = reverse("executions:list")
    changelist = reverse("admin:executions_execution_changelist")
    dlq = reverse("admin:queueing_deadletter_changelist")
    unsuccessful = Q(status__in=[E.FAILED, E.PARTIAL, E.TIMED_OUT])
    counts = newest.aggregate(
        approvals=Count("pk", filter=Q(status=E.PENDING_APPROVAL)),  # they expire: there are no old ones
        attention=Count("pk", filter=Q(status=E.NEEDS_ATTENTION)),
        late=Count("pk", filter=Q(deadline_at__lt=now) & ~Q(status__in=FINAL_EXECUTION)),
        failed=Count("pk", filter=unsuccessful & Q(finished_at__gt=now - timedelta(hours=24))),
    )
    open_entries = DeadLetter.objects.filter(tenant_id=tenant_id, state="open").count()
    # Whatever needs attention has an open DLQ entry, from the same commit on: old ones are counted by that.
    attention = max(counts["attention"], open_entries)
    silent = Worker.objects.filter(stopped_at=None, last_beat_at__lt=Now() - settings.SILENT_AFTER).count()
    held, wanted, longest = _locks(request)
    silent_workers = _tile(
        "Silent workers",
        silent,
        f"{reverse('admin:queueing_worker_changelist')}?which=silent",
        "unknown",
        "have missed two beats",
    )
    return [
        _tile("Approvals waiting", counts["approvals"], f"{executions}?status=pending_approval",
              "pending_approval", "wait for somebody other than their requester"),
        _tile("Need attention", attention, f"{executions}?status=needs_attention",
              "needs_attention", "wait for a person to say what happened"),
        _tile("Open DLQ entries", open_entries, f"{dlq}?which=open", "failed", "to requeue or to give up"),
        _tile("Over their time limit", counts["late"], f"{changelist}?question=late", "timed_out", "still going on"),
        *([silent_workers] if _sees_the_fleet(request) else []),
        Tile("Lock held longest", longest, f"{reverse('admin:queueing_assetlock_changelist')}?question=wanted",
             "needs_attention" if wanted else "",
             f"of {held:,} held; somebody waits for {wanted:,}" if held else "no machine is held"),
        _tile("Failed in 24 hours", counts["failed"], f"{changelist}?question=today", "partial",
              "failed, partial or timed out"),
    ]  # fmt: skip


def _locks(request: HttpRequest) -> tuple[int, int, str]:
    """Machines of the tenant that are held, those of them that somebody waits for, and how long the oldest is held."""
    held, _, seconds, wanted, _, _ = Locks(user_of(request)).figures
    return held, wanted, span(seconds) if held else "–"


def _queue(request: HttpRequest) -> list[Tile]:
    figures = queue_figures()
    entries = reverse("admin:queueing_queueentry_changelist")
    workers = f"{reverse('admin:queueing_worker_changelist')}?which=live" if _sees_the_fleet(request) else entries
    blocked, leased = figures["by_state"].get("blocked", 0), figures["by_state"].get("leased", 0)
    taking = "take work" if figures["workers"] else "Nobody takes work."
    if figures["draining"]:
        taking = "draining: nothing new starts"
    return [
        _tile("In the queue", figures["depth"], entries, "queued", f"{blocked} of them wait for a lock"),
        Tile("Oldest wait", span(figures["waiting_seconds"]), f"{entries}?question=long",
             "queued" if figures["waiting_seconds"] < 60 else "needs_attention", "of those that could start now"),
        _tile("Held by workers", leased, f"{entries}?question=running", "running", "run now"),
        Tile("Workers", str(figures["workers"]), workers,
             "succeeded" if figures["workers"] else "failed", taking),
    ]  # fmt: skip


def _tile(label: str, count: int, link: str, status: str, sentence: str) -> Tile:
    return Tile(label, f"{count:,}", link, status if count else "", sentence if count else "none")
