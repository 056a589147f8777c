"""Admin of the queue: what waits, which machines are locked, who works. The DLQ is in executions/admin.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.apps import apps
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Exists, Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from queueing import control
from queueing.models import AssetLock, EntryState, LockState, QueueEntry, Worker, WorkerState
from safety import rbac
from safety.admin_access import ReadOnlyTenantAdmin, one_line, status_chip, user_of
from safety.models import DEFAULT_TENANT

ENTRY_LOOKS = {
    EntryState.READY: ("queued", "Ready"),
    EntryState.DELAYED: ("pending", "Delayed"),
    EntryState.BLOCKED: ("pending_approval", "Waits for a lock"),
    EntryState.LEASED: ("running", "Leased"),
}
LOCK_LOOKS = {
    LockState.HELD: ("running", "Held"),
    LockState.QUEUED: ("queued", "In line"),
    LockState.IDLE: ("pending", "Idle"),
}
WORKER_LOOKS = {
    WorkerState.ACTIVE: ("succeeded", "Active"),
    WorkerState.STOPPING: ("cancelling", "Stopping"),
    WorkerState.STOPPED: ("cancelled", "Stopped"),
    WorkerState.LOST: ("failed", "Lost"),
}


def execution_link(execution_id: int) -> SafeString:
    """A link to the page of an execution."""
    return format_html('<a href="{}">#{}</a>', reverse("executions:detail", args=[execution_id]), execution_id)


def age(at: Any) -> str:
    """How long ago a time was, in words."""
    if at is None:
        return "–"
    seconds = int((timezone.now() - at).total_seconds())
    if seconds < 0:
        return f"in {-seconds} s"
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


class EntryQuestion(admin.SimpleListFilter):
    title = "What is wrong?"
    parameter_name = "question"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("expired", "Lease expired"),
            ("waiting", "Ready for more than a minute"),
            ("again", "Not its first attempt"),
            ("last", "On its last attempt"),
            ("cancel", "Asked to cancel"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        match self.value():
            case "expired":
                return queryset.filter(state=EntryState.LEASED, lease_expires_at__lt=now)
            case "waiting":
                return queryset.filter(state=EntryState.READY, available_at__lt=now - timedelta(minutes=1))
            case "again":
                return queryset.filter(attempt__gt=1)
            case "last":
                return queryset.filter(attempts_left__lte=0)
            case "cancel":
                return queryset.filter(cancel_reason__isnull=False)
        return queryset


@admin.register(QueueEntry)
class QueueEntryAdmin(ReadOnlyTenantAdmin):
    """Executions that wait for a worker, or are held by one."""

    tenant_path = "tenant_id"
    list_display = ("execution", "look", "priority", "attempts", "waits_since", "worker", "lease", "asked_to_cancel")
    list_filter = ("state", EntryQuestion)
    search_fields = ("=execution_id",)
    search_help_text = "Number of the execution"
    ordering = ("place", "execution_id")

    @display(description="Execution", ordering="execution_id")
    def execution(self, entry: QueueEntry) -> SafeString:
        return execution_link(entry.execution_id)

    @display(description="State", ordering="state")
    def look(self, entry: QueueEntry) -> SafeString:
        return status_chip(*ENTRY_LOOKS[EntryState(entry.state)])

    @display(description="Attempt")
    def attempts(self, entry: QueueEntry) -> str:
        return f"{entry.attempt} of {entry.attempt + entry.attempts_left}"

    @display(description="Available for", ordering="available_at")
    def waits_since(self, entry: QueueEntry) -> str:
        return age(entry.available_at)

    @display(description="Worker")
    def worker(self, entry: QueueEntry) -> SafeString | str:
        if entry.worker_id is None:
            return "–"
        address = reverse("admin:queueing_worker_change", args=[entry.worker_id])
        return format_html('<a href="{}">{}</a>', address, entry.worker_id)

    @display(description="Lease ends", ordering="lease_expires_at")
    def lease(self, entry: QueueEntry) -> SafeString | str:
        if entry.lease_expires_at is None:
            return "–"
        if entry.lease_expires_at < timezone.now():
            return status_chip("failed", f"expired {age(entry.lease_expires_at)} ago")
        return age(entry.lease_expires_at)

    @display(description="Asked to cancel")
    def asked_to_cancel(self, entry: QueueEntry) -> SafeString | str:
        return one_line(entry.cancel_reason or "", 60)


class LockQuestion(admin.SimpleListFilter):
    title = "Which?"
    parameter_name = "which"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("held", "Held"), ("long", "Held for more than 10 minutes"), ("queued", "In line")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "held":
                return queryset.filter(state=LockState.HELD)
            case "long":
                return queryset.filter(state=LockState.HELD, held_at__lt=timezone.now() - timedelta(minutes=10))
            case "queued":
                return queryset.filter(state=LockState.QUEUED)
        return queryset


@admin.register(AssetLock)
class AssetLockAdmin(ReadOnlyTenantAdmin):
    """Who has which machine, and who stands in line for it."""

    list_display = ("asset", "look", "mode", "execution", "fence", "held_for")
    list_filter = (LockQuestion, "exclusive")
    search_fields = ("=execution_id", "=asset_id")
    search_help_text = "Number of the execution or of the asset"
    ordering = ("asset_id", "place", "execution_id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Locks have no tenant of their own: it is that of their asset, whose name comes with them."""
        assets = apps.get_model("executions", "Asset")._default_manager.filter(pk=OuterRef("asset_id"))
        own = assets.filter(tenant_id=user_of(request).tenant_id)
        return AssetLock.objects.filter(Exists(own)).annotate(asset_name=Subquery(own.values("name")[:1]))

    @display(description="Asset", ordering="asset_id")
    def asset(self, lock: Any) -> SafeString:
        address = reverse("admin:executions_asset_change", args=[lock.asset_id])
        return format_html('<a href="{}">{}</a>', address, lock.asset_name)

    @display(description="State", ordering="state")
    def look(self, lock: AssetLock) -> SafeString:
        return status_chip(*LOCK_LOOKS[LockState(lock.state)])

    @display(description="Mode", ordering="exclusive")
    def mode(self, lock: AssetLock) -> str:
        return "exclusive" if lock.exclusive else "shared"

    @display(description="Execution", ordering="execution_id")
    def execution(self, lock: AssetLock) -> SafeString:
        return execution_link(lock.execution_id)

    @display(description="Held for", ordering="held_at")
    def held_for(self, lock: AssetLock) -> str:
        return age(lock.held_at)


class ReasonDialog(BaseDialogForm):
    """Asks why."""

    reason = forms.CharField(max_length=1000, widget=UnfoldAdminTextInputWidget)


class WorkerQuestion(admin.SimpleListFilter):
    title = "Which?"
    parameter_name = "which"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "Working now"), ("silent", "Silent: two beats are missing"), ("ended", "Ended")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        beat = timezone.now() - settings.SILENT_AFTER
        match self.value():
            case "live":
                return queryset.filter(stopped_at=None, last_beat_at__gte=beat)
            case "silent":
                return queryset.filter(stopped_at=None, last_beat_at__lt=beat)
            case "ended":
                return queryset.filter(stopped_at__isnull=False)
        return queryset


@admin.register(Worker)
class WorkerAdmin(ReadOnlyTenantAdmin):
    """Worker processes, of the whole installation."""

    list_display = ("name", "look", "load", "finished", "memory", "version", "beat", "started_at", "note_line")
    list_filter = (WorkerQuestion, "state", "host")
    search_fields = ("host", "=pid")
    ordering = ("-pk",)
    actions_list = ("drain", "resume")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return Worker.objects.all()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return user_of(request).tenant.name == DEFAULT_TENANT and super().has_view_permission(request, obj)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return rbac.can_operate_installation(user_of(request))

    @display(description="Worker", ordering="host")
    def name(self, worker: Worker) -> str:
        return str(worker)

    @display(description="State", ordering="state")
    def look(self, worker: Worker) -> SafeString:
        if worker.stopped_at is None and worker.last_beat_at < timezone.now() - settings.SILENT_AFTER:
            return status_chip("timed_out", f"Silent for {age(worker.last_beat_at)}")
        if worker.state == WorkerState.ACTIVE and worker.draining:
            return status_chip("cancelling", "Draining")
        return status_chip(*WORKER_LOOKS[WorkerState(worker.state)])

    @display(description="Running", ordering="running")
    def load(self, worker: Worker) -> SafeString:
        address = f"{reverse('admin:queueing_queueentry_changelist')}?worker_id={worker.pk}"
        return format_html('<a href="{}">{} of {}</a>', address, worker.running, worker.slots)

    @display(description="Memory", ordering="rss_bytes")
    def memory(self, worker: Worker) -> str:
        return f"{worker.rss_bytes / 1e6:.0f} MB" if worker.rss_bytes else "–"

    @display(description="Last beat", ordering="last_beat_at")
    def beat(self, worker: Worker) -> str:
        return f"{age(worker.last_beat_at)} ago"

    @display(description="Note")
    def note_line(self, worker: Worker) -> SafeString | str:
        return one_line(worker.note, 80)

    @action(
        description="Drain the queue", permissions=["operate"], icon="pause",
        dialog={
            "title": "Drain the queue?",
            "description": "Nothing new is taken in or handed out; what runs goes on to its end.",
            "form_class": ReasonDialog, "form_submit_text": "Drain",
        },
    )  # fmt: skip
    def drain(self, request: HttpRequest, form: ReasonDialog) -> HttpResponse:
        changed = control.drain(by=user_of(request).actor, reason=form.cleaned_data["reason"])
        self.message_user(
            request, "The queue is draining." if changed else "It was draining already.", messages.SUCCESS
        )
        return redirect("admin:queueing_worker_changelist")

    @action(
        description="Resume", permissions=["operate"], icon="play_arrow",
        dialog={
            "title": "Resume the queue?", "description": "It takes work in and hands it out again.",
            "form_class": ReasonDialog, "form_submit_text": "Resume",
        },
    )  # fmt: skip
    def resume(self, request: HttpRequest, form: ReasonDialog) -> HttpResponse:
        changed = control.resume(by=user_of(request).actor, reason=form.cleaned_data["reason"])
        self.message_user(request, "The queue is open." if changed else "It was open already.", messages.SUCCESS)
        return redirect("admin:queueing_worker_changelist")
