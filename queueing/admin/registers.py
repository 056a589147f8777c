"""Lists behind the Fleet page, to look at: clusters, decisions on their size, pools that somebody paused."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from queueing.admin.live import OfTheInstallation, address
from queueing.models import Cluster, Pool, ScalingDecision
from safety.admin_access import status_chip


@admin.register(ScalingDecision)
class ScalingDecisionAdmin(OfTheInstallation):
    """Why there are as many workers as there are."""

    list_display = ("at", "on_host", "change", "reason", "by", "look", "depth", "waited", "load")
    list_filter = ("applied",)
    ordering = ("-at",)
    paginator = InfinitePaginator
    list_disable_select_all = True

    @display(description="Host")
    def on_host(self, decision: ScalingDecision) -> SafeString:
        link = address(reverse("admin:queueing_worker_changelist"), host=decision.host)
        return format_html('<a href="{}">{}</a>', link, decision.host)

    @display(description="Processes")
    def change(self, decision: ScalingDecision) -> str:
        return f"{decision.before} → {decision.after}"

    @display(description="Done?")
    def look(self, decision: ScalingDecision) -> SafeString:
        return status_chip("succeeded", "Applied") if decision.applied else status_chip("pending", "Dry run")

    @display(description="Oldest wait")
    def waited(self, decision: ScalingDecision) -> str:
        return f"{decision.waiting_seconds:.0f} s"

    @display(description="Slots in use")
    def load(self, decision: ScalingDecision) -> str:
        return f"{decision.running} of {decision.slots}"


@admin.register(Cluster)
class ClusterAdmin(OfTheInstallation):
    """Each `manage.py worker` on a host, also those that have ended."""

    list_display = ("name", "host", "pid", "processes", "max_processes", "version", "started_at", "stopped_at")
    search_fields = ("host", "=pid")
    search_help_text = "Host or process number"
    ordering = ("-started_at",)
    paginator = InfinitePaginator
    list_disable_select_all = True


@admin.register(Pool)
class PoolAdmin(OfTheInstallation):
    """Pools that somebody has paused at some time."""

    list_display = ("name", "look", "changed_by", "changed_at", "reason")
    list_filter = ("paused",)
    ordering = ("name",)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {}

    @display(description="State", ordering="paused")
    def look(self, pool: Pool) -> SafeString:
        return status_chip("pending_approval", "Paused") if pool.paused else status_chip("succeeded", "Open")
