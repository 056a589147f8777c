"""The operators' home, the index of the admin: what needs a person, and how the queue stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from executions.models import Execution
from executions.pages.durations import span
from executions.states import FINAL_EXECUTION, ExecutionStatus
from queueing.control import queue_figures
from queueing.models import DeadLetter, Worker
from safety.admin_access import roles_for, user_of

E = ExecutionStatus


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
        context |= {"needs": _needs(request), "queue": _queue(), "now": timezone.now()}
    return context


def _needs(request: HttpRequest) -> list[Tile]:
    tenant_id = user_of(request).tenant_id
    now = timezone.now()
    own = Execution.objects.filter(tenant_id=tenant_id)
    executions = reverse("executions:list")
    dlq = reverse("admin:queueing_deadletter_changelist")
    approvals = own.filter(status=E.PENDING_APPROVAL).count()
    late = own.filter(deadline_at__lt=now).exclude(status__in=FINAL_EXECUTION).count()
    open_entries = DeadLetter.objects.filter(tenant_id=tenant_id, state="open")
    silent = Worker.objects.filter(stopped_at=None, last_beat_at__lt=now - settings.LEASE).count()
    failed = own.filter(
        status__in=[E.FAILED, E.PARTIAL, E.TIMED_OUT], finished_at__gt=now - timedelta(hours=24)
    ).count()
    return [
        _tile("Approvals waiting", approvals, f"{executions}?status=pending_approval",
              "pending_approval", "wait for somebody other than their requester"),
        _tile("Need attention", own.filter(status=E.NEEDS_ATTENTION).count(), f"{executions}?status=needs_attention",
              "needs_attention", "wait for a person to say what happened"),
        _tile("Open DLQ entries", open_entries.count(), f"{dlq}?which=open", "failed", "to requeue or to give up"),
        _tile("Over their time limit", late, f"{reverse('admin:executions_execution_changelist')}?question=late",
              "timed_out", "still going on"),
        _tile("Silent workers", silent, f"{reverse('admin:queueing_worker_changelist')}?which=silent", "unknown",
              "have not been heard of for a lease"),
        _tile("Failed in 24 hours", failed, f"{reverse('admin:executions_execution_changelist')}?question=today",
              "partial", "failed, partial or timed out"),
    ]  # fmt: skip


def _queue() -> list[Tile]:
    figures = queue_figures()
    entries = reverse("admin:queueing_queueentry_changelist")
    workers = reverse("admin:queueing_worker_changelist")
    blocked, leased = figures["by_state"].get("blocked", 0), figures["by_state"].get("leased", 0)
    taking = "take work" if figures["workers"] else "Nobody takes work."
    if figures["draining"]:
        taking = "draining: nothing new starts"
    return [
        _tile("In the queue", figures["depth"], entries, "queued", f"{blocked} of them wait for a lock"),
        Tile("Oldest wait", span(figures["waiting_seconds"]), f"{entries}?question=waiting",
             "queued" if figures["waiting_seconds"] < 60 else "needs_attention", "of those that could start now"),
        _tile("Held by workers", leased, f"{entries}?state__exact=leased", "running", "run now"),
        Tile("Workers", str(figures["workers"]), f"{workers}?which=live",
             "succeeded" if figures["workers"] else "failed", taking),
    ]  # fmt: skip


def _tile(label: str, count: int, link: str, status: str, sentence: str) -> Tile:
    return Tile(label, f"{count:,}", link, status if count else "", sentence if count else "none")
