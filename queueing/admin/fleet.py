"""The Fleet page: who works, how well, for whom; and what operators do about it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from queueing import control, pool
from queueing.admin.live import LivePage, OfTheInstallation, door
from queueing.admin.overview import Fleet
from queueing.admin.rows import Row
from queueing.admin.words import count
from queueing.health import with_health
from queueing.models import Attempt, Autoscale, EntryState, QueueEntry, Worker, WorkerState
from safety.admin_access import status_chip, user_of

WHICH = ("live", "silent", "unwell", "draining", "ended")
MOST_IDS = 1_000
LISTED = 100
# Attempts have no index by worker: so many of the newest are looked at.
RECENT_ATTEMPTS = 5_000


def execution_link(execution_id: int) -> SafeString:
    """A link to the page of an execution."""
    return format_html('<a href="{}">#{}</a>', reverse("executions:detail", args=[execution_id]), execution_id)


@admin.register(Worker)
class WorkerAdmin(OfTheInstallation, LivePage):
    """Worker processes, clusters, pools and the decisions on their number, of the whole installation."""

    page_title = "Fleet"
    page_template = "admin/queueing/fleet.html"
    parts = {
        "actions": "admin/queueing/_fleet_actions.html",
        "top": "admin/queueing/_fleet_top.html",
        "workers": "admin/queueing/_fleet_workers.html",
        "rest": "admin/queueing/_fleet_rest.html",
    }
    doors = (
        "drain", "resume", "drain-workers", "undrain-workers", "scale", "autoscale", "pause-pool", "resume-pool",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("look", "health", "note", "cluster", "host", "pid", "version", "started_at", "stopped_at")}),
        ("Work", {"fields": ("slots", "now_running", "finished", "failed", "pools", "regions", "capabilities")}),
        ("Figures", {"fields": ("last_beat_at", "loop_lag_ms", "renewal_ms", "rss_bytes", "ledger_group")}),
        ("What went wrong", {"fields": ("isolation", "blamed", "lost_attempts")}),
    )
    readonly_fields = ("look", "health", "now_running", "lost_attempts")

    def page_context(self, request: HttpRequest) -> dict[str, Any]:
        which = request.GET.get("which", "live")
        fleet = Fleet(
            which if which in WHICH else "live",
            words=request.GET.get("q", "").strip(),
            host=request.GET.get("host", "").strip(),
        )
        return {"fleet": fleet, "may_operate": self.has_operate_permission(request), "modes": Autoscale.choices}

    # -- doors

    @door
    def drain(self, request: HttpRequest, reason: str) -> str:
        changed = control.drain(by=user_of(request).actor, reason=reason)
        return "The queue is draining: what runs goes on, nothing else starts." if changed else "It was draining."

    @door
    def resume(self, request: HttpRequest, reason: str) -> str:
        changed = control.resume(by=user_of(request).actor, reason=reason)
        return "The queue is open." if changed else "It was open already."

    @door
    def drain_workers(self, request: HttpRequest, reason: str) -> str:
        ids, host = _chosen(request)
        there = _there(ids, host)
        changed = pool.drain_workers(by=user_of(request).actor, reason=reason, ids=_pks(ids, there), host=host)
        return _told("drained", changed, ids, there, "drained before, or is ending")

    @door
    def undrain_workers(self, request: HttpRequest, reason: str) -> str:
        ids, host = _chosen(request)
        there = _there(ids, host)
        changed = pool.undrain_workers(by=user_of(request).actor, reason=reason, ids=_pks(ids, there), host=host)
        return _told("undrained", changed, ids, there, "did not drain")

    @door
    def scale(self, request: HttpRequest, reason: str) -> str:
        processes = _number(request, "processes", "How many processes")
        done = pool.scale(processes, by=user_of(request).actor, reason=reason)
        over = count(done.clusters, "host")
        return f"{count(done.after, 'worker process', 'worker processes')} on {over}; before it was {done.before}."

    @door
    def autoscale(self, request: HttpRequest, reason: str) -> str:
        mode = request.POST.get("mode", "")
        if mode not in Autoscale.values:
            raise ValueError("Autoscaling is off, dry_run or on.")
        least, most = _number(request, "minimum", "The minimum"), _number(request, "maximum", "The maximum")
        pool.autoscale(mode, minimum=least, maximum=most, by=user_of(request).actor, reason=reason)
        if mode == Autoscale.OFF:
            return "Autoscaling is off: each cluster keeps the number that it has."
        dry = " It changes nothing, and writes down what it would do." if mode == Autoscale.DRY_RUN else ""
        return f"Autoscaling between {least} and {most} processes for each cluster.{dry}"

    @door
    def pause_pool(self, request: HttpRequest, reason: str) -> str:
        name = _pool(request)
        changed = control.pause_pool(name, by=user_of(request).actor, reason=reason)
        return f"Pool {name} is paused: what runs goes on." if changed else f"Pool {name} was paused before."

    @door
    def resume_pool(self, request: HttpRequest, reason: str) -> str:
        name = _pool(request)
        changed = control.resume_pool(name, by=user_of(request).actor, reason=reason)
        return f"Pool {name} is open." if changed else f"Pool {name} was open already."

    # -- one worker

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return Worker.objects.all()

    @display(description="State")
    def look(self, worker: Worker) -> SafeString:
        status, _, word = _row(worker).look
        return status_chip(status, word)

    @display(description="Health")
    def health(self, worker: Worker) -> str:
        health = _row(worker).health
        return " ".join(health.said) if health else "It has ended."

    @display(description="Runs now")
    def now_running(self, worker: Worker) -> SafeString | str:
        entries = QueueEntry.objects.filter(state=EntryState.LEASED, worker_id=worker.pk).order_by("leased_at")
        ids = entries.values_list("execution_id", flat=True)[:LISTED]
        return format_html_join(", ", "{}", ((execution_link(pk),) for pk in ids)) or "nothing"

    @display(description="Attempts that it lost or handed back")
    def lost_attempts(self, worker: Worker) -> SafeString | str:
        newest = Attempt.objects.order_by("-pk").values("pk")[:RECENT_ATTEMPTS]
        lost = Attempt.objects.filter(pk__in=newest, worker_id=worker.pk).order_by("-pk")[:LISTED]
        rows = ((execution_link(one.execution_id), one.number, one.get_end_display(), one.error) for one in lost)
        return format_html_join("", "<div>{}, attempt {}: {}. {}</div>", rows) or "none"


def _row(worker: Worker) -> Row:
    ((fresh, health),) = with_health(Worker.objects.filter(pk=worker.pk))
    return Row(fresh, health)


# -- what is asked for


def _chosen(request: HttpRequest) -> tuple[list[int] | None, str]:
    """Return the ids (None: all workers) and the host that a form names. Raises ValueError when it names nothing."""
    host = request.POST.get("host", "").strip()
    asked = request.POST.get("ids", "").strip()
    if asked == "all" or (host and not asked):
        return None, host
    words = [word for word in asked.split(",") if word.strip().isdecimal() and len(word) < 19]
    if not words:
        raise ValueError("Choose at least one worker.")
    if len(words) > MOST_IDS:
        raise ValueError(f"Choose {MOST_IDS:,} workers at most, or all of them.")
    return [int(word) for word in words], ""


def _there(ids: list[int] | None, host: str) -> set[int]:
    """Those of the chosen workers that have not ended."""
    rows = Worker.objects.filter(stopped_at=None)
    if ids is None:
        rows = rows.filter(state=WorkerState.ACTIVE, **({"host": host} if host else {}))
    else:
        rows = rows.filter(pk__in=ids)
    return set(rows.values_list("pk", flat=True))


def _pks(ids: list[int] | None, there: set[int]) -> list[int] | None:
    return None if ids is None else sorted(there)


def _told(done: str, changed: int, ids: list[int] | None, there: set[int], otherwise: str) -> str:
    """Return "2 of 3 drained; 1 had ended already"."""
    asked = len(there) if ids is None else len(set(ids))
    ended = asked - len(there)
    rest = max(0, len(there) - changed)
    parts = [f"{changed} of {count(asked, 'worker')} {done}"]
    if ended > 0:
        parts.append(f"{ended} had ended already")
    if rest:
        parts.append(f"{rest} {otherwise}")
    return "; ".join(parts) + "."


def _number(request: HttpRequest, name: str, said: str) -> int:
    value = request.POST.get(name, "").strip()
    if not value.isdecimal() or len(value) > 5:
        raise ValueError(f"{said} must be a whole number.")
    return int(value)


def _pool(request: HttpRequest) -> str:
    name = request.POST.get("pool", "").strip()
    if not 0 < len(name) <= 63:
        raise ValueError("A pool has a name of 1 to 63 characters.")
    return name
