"""Admin of decisions on many DLQ entries: how far they are, and what became of each entry."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from executions import services
from executions.admin_dead_letter_looks import BATCH_LOOKS, OUTCOME_LOOKS, Chip, Styled, age_of, in_words
from executions.dead_letter_queries import Selection
from executions.pages.durations import span
from executions.services import Refused
from queueing.control import live_workers
from queueing.models import BatchState, DeadLetterBatch, DeadLetterBatchItem, ItemOutcome
from safety import rbac
from safety.admin_access import ReadOnlyTenantAdmin, one_line, roles_for, status_chip, user_of

SHOWN_RESULTS = 100


@admin.register(DeadLetterBatch)
class DeadLetterBatchAdmin(Styled, ReadOnlyTenantAdmin):
    """Decisions on many DLQ entries: how far they are, and what became of each entry."""

    list_display = ("number", "look", "what", "progress", "by", "why", "age")
    list_display_links = ("number", "what")
    list_filter = ("state", "verb")
    search_fields = ("=id", "by", "reason")
    ordering = ("-id",)
    paginator = InfinitePaginator

    @display(description="#", ordering="-id")
    def number(self, batch: DeadLetterBatch) -> str:
        return f"#{batch.pk}"

    @display(description="State", ordering="state")
    def look(self, batch: DeadLetterBatch) -> SafeString:
        return status_chip(*BATCH_LOOKS[BatchState(batch.state)])

    @display(description="What")
    def what(self, batch: DeadLetterBatch) -> str:
        return str(batch)

    @display(description="Done")
    def progress(self, batch: DeadLetterBatch) -> str:
        return f"{batch.done:,} of {batch.matched:,}"

    @display(description="Why")
    def why(self, batch: DeadLetterBatch) -> SafeString | str:
        return one_line(batch.reason, 80)

    @display(description="Age", ordering="-id")
    def age(self, batch: DeadLetterBatch) -> str:
        return age_of(batch.created_at)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("<int:batch_id>/progress/", view(self.progress_part), name="queueing_deadletterbatch_progress"),
            path("<int:batch_id>/cancel/", view(self.cancel), name="queueing_deadletterbatch_cancel"),
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        batch = self._batch(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": f"DLQ batch #{batch.pk}",
            "opts": self.model._meta,
            "media": self.media,
            **self._progress(request, batch),
        }
        return TemplateResponse(request, "admin/dead_letters/batch.html", context)

    def progress_part(self, request: HttpRequest, batch_id: int) -> HttpResponse:
        """The part of the page that moves."""
        batch = self._batch(request, str(batch_id))
        return TemplateResponse(request, "admin/dead_letters/_progress.html", self._progress(request, batch))

    def cancel(self, request: HttpRequest, batch_id: int) -> HttpResponse:
        batch = self._batch(request, str(batch_id))
        if request.method != "POST":
            raise Http404
        try:
            services.cancel_batch(batch.pk, by=user_of(request))
            self.message_user(request, "Cancelled: what was not done stays in the DLQ.", messages.SUCCESS)
        except Refused as refused:
            self.message_user(request, f"{refused.message} {refused.how_to_fix}", messages.WARNING)
        return redirect("admin:queueing_deadletterbatch_change", batch.pk)

    def _batch(self, request: HttpRequest, object_id: str) -> DeadLetterBatch:
        if not roles_for(request):
            raise PermissionDenied
        found = self.get_queryset(request).filter(pk=object_id).first() if object_id.isdecimal() else None
        if found is None:
            raise Http404
        return cast(DeadLetterBatch, found)

    def _progress(self, request: HttpRequest, batch: DeadLetterBatch) -> dict[str, Any]:
        running = batch.state == BatchState.RUNNING
        counts = {**batch.counts, ItemOutcome.WAITING: batch.matched - batch.done}
        outcome = request.GET.get("outcome", "")
        after = request.GET.get("after", "")
        items = DeadLetterBatchItem.objects.filter(batch=batch)
        if outcome in ItemOutcome.values:
            items = items.filter(outcome=outcome)
        if after.isdecimal() and len(after) < 19:
            items = items.filter(pk__gt=int(after))
        shown = list(items.order_by("pk")[: SHOWN_RESULTS + 1])
        more = shown[SHOWN_RESULTS - 1].pk if len(shown) > SHOWN_RESULTS else None
        shown = shown[:SHOWN_RESULTS]
        left = batch.matched - batch.done
        here = reverse("admin:queueing_deadletterbatch_change", args=[batch.pk])
        user = user_of(request)
        return {
            "batch": batch,
            "look": BATCH_LOOKS[BatchState(batch.state)],
            "running": running,
            "percent": 100 * batch.done // max(batch.matched, 1),
            "left": left,
            "eta": span(left / batch.per_second) if running and batch.per_second and left else "",
            "took": span(batch.ended_at - batch.created_at) if batch.ended_at else "",
            "nobody": running and live_workers() == 0,
            "chips": [
                Chip(*OUTCOME_LOOKS[ItemOutcome(name)], f"{counts[name]:,}", f"{here}?outcome={name}", outcome == name)
                for name in ItemOutcome.values
                if counts.get(name) or outcome == name
            ],
            "chosen": outcome,
            "here": here,
            "items": [(item, *OUTCOME_LOOKS[ItemOutcome(item.outcome)]) for item in shown],
            "next": f"{here}?{urlencode({'outcome': outcome, 'after': more})}" if more else "",
            "refresh": f"{reverse('admin:queueing_deadletterbatch_progress', args=[batch.pk])}"
            f"?{urlencode({'outcome': outcome, 'after': after})}",
            "may_cancel": running and (batch.actor_id == user.pk or rbac.can_operate(user)),
            "cancel_address": reverse("admin:queueing_deadletterbatch_cancel", args=[batch.pk]),
            "filter_words": in_words(_of_batch(batch)),
            "shown_at": timezone.now(),
        }


def _of_batch(batch: DeadLetterBatch) -> Selection:
    kept = batch.filter
    return Selection(reason=kept.get("reason"), fingerprint=kept.get("fingerprint"), q=kept.get("q"))
