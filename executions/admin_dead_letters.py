"""Admin of the DLQ: what is there and what it has in common, decisions on one, some, or all that a filter selects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator

from executions import services
from executions.admin_dead_letter_looks import (
    ATTEMPT_LOOKS,
    REASON_LOOKS,
    STATE_LOOKS,
    Chip,
    Styled,
    age_of,
    in_words,
    selection_of,
)
from executions.dead_letter_queries import (
    Place,
    Selection,
    attempts_of,
    places_of,
    preview,
    summary,
    unknown_steps,
)
from executions.models import Execution
from executions.pages.durations import span
from executions.services import Refused
from executions.services.dead_letter_batches import DEFAULT_PACE, FASTEST, SMALL
from queueing.dead_letters import ADVICE
from queueing.models import (
    AttemptEnd,
    BatchState,
    BatchVerb,
    DeadLetter,
    DeadLetterBatch,
    DeadLetterState,
    DeadReason,
    ItemOutcome,
    RequeueFrom,
)
from safety import rbac
from safety.admin_access import (
    ReadOnlyTenantAdmin,
    ReasonForm,
    one_line,
    outcome_message,
    reason_of,
    status_chip,
    user_of,
)

MISSED = {
    "moved_on": "had moved on",
    "forbidden": "you may not decide on",
    "unknown_outcome": "have a step whose outcome has to be said first",
}
COUNTED = 10_000  # entries of a filter that the page counts
FILTERS = ("which", "reason", "fingerprint", "q")


class Which(admin.SimpleListFilter):
    """Open ones, unless something else is asked for."""

    title = "Which?"
    parameter_name = "which"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Waits for a decision"), ("today", "New in the last 24 hours"), ("decided", "Decided"),
                ("all", "All of them")]  # fmt: skip

    def choices(self, changelist: Any) -> Any:
        for value, title in self.lookup_choices:
            yield {
                "selected": (self.value() or "open") == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "all":
                return queryset
            case "decided" | "closed":
                return queryset.exclude(state=DeadLetterState.OPEN)
            case "today":
                fresh = timezone.now() - timedelta(hours=24)
                return queryset.filter(state=DeadLetterState.OPEN, created_at__gt=fresh)
        return queryset.filter(state=DeadLetterState.OPEN)


class DeadLetterList(ChangeList):
    """A page of entries with where each got stuck, which is read for all of them at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        places = places_of([row.execution_id for row in rows])
        for row in rows:
            row.place = places.get(row.execution_id)
        self.result_list = rows


class DecisionForm(forms.Form):
    """What is to happen to the entries, and why."""

    start_from = forms.ChoiceField(
        choices=[
            (RequeueFrom.AS_IT_IS, "As it is: it goes on where it stopped. Finished steps are not run again."),
            (
                RequeueFrom.FAILED_STEP,
                "From the failed step: what failed, or whose outcome is unknown, is run again where it did not succeed."
                " This may repeat an effect.",
            ),
        ],
        initial=RequeueFrom.AS_IT_IS,
        required=False,
        widget=forms.RadioSelect,
        label="How?",
    )
    reason = forms.CharField(max_length=2000, required=False, label="Why?", widget=forms.Textarea(attrs={"rows": 2}))
    per_second = forms.IntegerField(min_value=1, max_value=FASTEST, required=False, label="Entries a second, at most")

    def __init__(self, verb: BatchVerb, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verb = verb
        if verb == BatchVerb.DISCARD:
            del self.fields["start_from"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        start_from = cleaned.get("start_from") or RequeueFrom.AS_IT_IS
        cleaned["start_from"] = RequeueFrom(start_from)
        needed = self.verb == BatchVerb.DISCARD or cleaned["start_from"] == RequeueFrom.FAILED_STEP
        if needed and not cleaned.get("reason", "").strip():
            self.add_error("reason", "Say why: it is kept with each execution.")
        return cleaned


@admin.register(DeadLetter)
class DeadLetterAdmin(Styled, ReadOnlyTenantAdmin):
    """The DLQ: what the system will not try again by itself. A person decides."""

    list_before_template = "admin/dead_letters/summary.html"
    change_form_outer_before_template = "admin/dead_letters/unknown.html"
    change_form_outer_after_template = "admin/dead_letters/entry.html"
    list_filter = (Which,)
    list_filter_sheet = True
    search_fields = ("error",)
    search_help_text = "Number of the execution, or words of the error"
    ordering = ("-id",)
    paginator = InfinitePaginator
    list_disable_select_all = True
    actions = ("requeue", "requeue_from_failed_step", "discard")
    action_form = ReasonForm
    fields = ("execution_page", "look", "reason_chip", "advice", "error", "group", "attempts", "created_at")
    readonly_fields = ("execution_page", "look", "reason_chip", "advice", "group")

    # -- the list -----------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        base = super().get_changelist(request, **kwargs)
        return type("DeadLetterList", (DeadLetterList, base), {})

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        columns = ("entry", "execution_title", "step", "assets", "reason_chip", "error_line", "tries", "age")
        return (*columns, "look", "decision") if request.GET.get("which") in ("decided", "closed", "all") else columns

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The search means what the decision on its results means."""
        parameters = QueryDict(mutable=True)
        parameters["q"] = search_term
        return queryset.filter(selection_of(parameters).condition()), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        user = user_of(request)
        told = summary(user.tenant_id)
        selection = selection_of(request.GET)
        kept = {name: value for name in FILTERS if (value := request.GET.get(name))}
        is_open = request.GET.get("which", "open") in ("open", "today")
        matching = selection.open_entries(user)[: COUNTED + 1].count() if is_open and told.total else 0
        here = reverse("admin:queueing_deadletter_changelist")
        running = DeadLetterBatch.objects.filter(tenant_id=user.tenant_id, state=BatchState.RUNNING)

        def address(**changes: str | None) -> str:
            changed = {name: value for name, value in {**kept, **changes}.items() if value}
            return f"{here}?{urlencode(changed)}"

        context = {
            "told": told,
            "is_open": is_open,
            "more": "+" if told.capped else "",
            "oldest": age_of(told.oldest_at),
            "new_address": address(which="today", reason=None, fingerprint=None, q=None),
            "all_address": here,
            "chips": [
                Chip("", "All", f"{told.total:,}", address(reason=None, fingerprint=None), not selection.reason),
                *(
                    Chip(
                        REASON_LOOKS[DeadReason(reason)][0],
                        REASON_LOOKS[DeadReason(reason)][1],
                        f"{count:,}",
                        address(reason=reason, fingerprint=None),
                        selection.reason == reason,
                    )
                    for reason, count in told.by_reason.items()
                    if count or selection.reason == reason
                ),
            ],
            "groups": [
                (group, *REASON_LOOKS[DeadReason(group.reason)],
                 address(reason=group.reason, fingerprint=group.fingerprint, q=None), age_of(group.newest_at))
                for group in told.groups
                if selection.reason in (None, group.reason)
            ],
            "group_chosen": selection.fingerprint,
            "group_reset": address(fingerprint=None),
            "matching": matching,
            "matching_more": "+" if matching > COUNTED else "",
            "selection_words": in_words(selection),
            "may_decide": is_open and matching and self.has_operate_permission(request),
            "decide": f"{reverse('admin:queueing_deadletter_decide')}?{urlencode(kept)}",
            "running": running.order_by("-pk")[:5],
            "shown_at": timezone.now(),
        }  # fmt: skip
        return cast(HttpResponse, super().changelist_view(request, {**context, **(extra_context or {})}))

    @display(description="Entry", ordering="-id")
    def entry(self, entry: DeadLetter) -> str:
        return f"#{entry.pk}"

    @display(description="Execution", ordering="execution_id")
    def execution_title(self, entry: Any) -> SafeString:
        place: Place | None = entry.place
        address = reverse("executions:detail", args=[entry.execution_id])
        return format_html(
            '<a href="{}" class="dlq-execution" title="Open its live page">#{} <span>{}</span></a>',
            address, entry.execution_id, place.title if place else "",
        )  # fmt: skip

    @display(description="Step")
    def step(self, entry: Any) -> SafeString | str:
        place: Place | None = entry.place
        return format_html('<span class="dlq-step" data-status="{}">{}</span>', place.step_status, place.step) if (
            place and place.step
        ) else "–"  # fmt: skip

    @display(description="Assets")
    def assets(self, entry: Any) -> str:
        place: Place | None = entry.place
        if place is None or not place.assets:
            return "–"
        more = place.asset_count - len(place.assets)
        return ", ".join(place.assets) + (f" and {more} more" if more > 0 else "")

    @display(description="Reason", ordering="reason")
    def reason_chip(self, entry: DeadLetter) -> SafeString:
        return status_chip(*REASON_LOOKS[DeadReason(entry.reason)])

    @display(description="Last error")
    def error_line(self, entry: DeadLetter) -> SafeString | str:
        return format_html('<span class="dlq-line">{}</span>', one_line(entry.error, 160))

    @display(description="Attempts", ordering="attempts")
    def tries(self, entry: DeadLetter) -> int:
        return entry.attempts

    @display(description="Age", ordering="-id")
    def age(self, entry: DeadLetter) -> str:
        return age_of(entry.created_at)

    @display(description="State", ordering="state")
    def look(self, entry: DeadLetter) -> SafeString:
        return status_chip(STATE_LOOKS[entry.state], entry.get_state_display())

    @display(description="Decision")
    def decision(self, entry: DeadLetter) -> SafeString | str:
        return one_line(f"{entry.closed_by}: {entry.close_reason}" if entry.closed_by else "", 60)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        closed = obj is not None and obj.state != DeadLetterState.OPEN
        return (*self.fields, "closed_at", "closed_by", "close_reason") if closed else self.fields

    # -- one entry ----------------------------------------------------------------------------------------------------

    @display(description="Execution")
    def execution_page(self, entry: DeadLetter) -> SafeString:
        title = Execution.objects.filter(pk=entry.execution_id).values_list("title", flat=True).first()
        address = reverse("executions:detail", args=[entry.execution_id])
        record = reverse("admin:executions_execution_change", args=[entry.execution_id])
        return format_html(
            '<a href="{}">#{} {}</a> · <a href="{}">its record</a>', address, entry.execution_id, title or "", record
        )

    @display(description="What to do")
    def advice(self, entry: DeadLetter) -> str:
        return ADVICE.get(entry.reason, "")

    @display(description="Others like it")
    def group(self, entry: DeadLetter) -> SafeString | str:
        if not entry.fingerprint:
            return "–"
        here = reverse("admin:queueing_deadletter_changelist")
        query = urlencode({"reason": entry.reason, "fingerprint": entry.fingerprint})
        return format_html('<a href="{}?{}">{}</a>', here, query, entry.pattern or "no error")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        entry = self.get_object(request, object_id)
        context: dict[str, Any] = dict(extra_context or {})
        if entry is not None and request.method == "GET":
            execution = Execution.objects.filter(pk=entry.execution_id).first()
            attempts = attempts_of(entry.execution_id)
            context |= {
                "entry": entry,
                "stories": [(story, ATTEMPT_LOOKS[AttemptEnd(story.attempt.end)]) for story in attempts],
                "notice": execution.removal_notice if execution else "",
                "unknown_steps": unknown_steps(entry.execution_id) if entry.state == DeadLetterState.OPEN else [],
                "execution_address": reverse("executions:detail", args=[entry.execution_id]),
                "may_decide": entry.state == DeadLetterState.OPEN
                and execution is not None
                and rbac.can_cancel(user_of(request), execution),
                "decide_one": reverse("admin:queueing_deadletter_decide_one", args=[entry.pk]),
                "form": DecisionForm(BatchVerb.REQUEUE),
            }
        return cast(HttpResponse, super().change_view(request, object_id, form_url, context))

    def decide_one(self, request: HttpRequest, entry_id: int) -> HttpResponse:
        """Requeue or discard one entry, from its page."""
        entry = self.get_queryset(request).filter(pk=entry_id).first()
        if entry is None or request.method != "POST":
            raise Http404
        verb = BatchVerb.DISCARD if request.POST.get("verb") == BatchVerb.DISCARD else BatchVerb.REQUEUE
        form = DecisionForm(verb, request.POST)
        if form.is_valid():
            told = form.cleaned_data
            if verb == BatchVerb.DISCARD:
                outcomes = services.discard_dead_letters([entry.pk], by=user_of(request), reason=told["reason"])
            else:
                outcomes = services.requeue_dead_letters(
                    [entry.pk], by=user_of(request), reason=told["reason"], start_from=told["start_from"]
                )
            self._tell(request, outcomes, ItemOutcome.REQUEUED if verb == BatchVerb.REQUEUE else ItemOutcome.DISCARDED)
        else:
            for faults in form.errors.values():
                self.message_user(request, " ".join(map(str, faults)), messages.ERROR)
        return redirect("admin:queueing_deadletter_change", entry.pk)

    # -- those that are chosen in the list ----------------------------------------------------------------------------

    @action(description="Requeue as it is", permissions=["view"])
    def requeue(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        outcomes = services.requeue_dead_letters(_chosen(request), by=user_of(request), reason=reason_of(request))
        self._tell(request, outcomes, ItemOutcome.REQUEUED)

    @action(description="Requeue from the failed step (with a reason)", permissions=["view"])
    def requeue_from_failed_step(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        if reason := self._reason(request):
            outcomes = services.requeue_dead_letters(
                _chosen(request), by=user_of(request), reason=reason, start_from=RequeueFrom.FAILED_STEP
            )
            self._tell(request, outcomes, ItemOutcome.REQUEUED)

    @action(description="Discard (with a reason)", permissions=["view"])
    def discard(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        if reason := self._reason(request):
            outcomes = services.discard_dead_letters(_chosen(request), by=user_of(request), reason=reason)
            self._tell(request, outcomes, ItemOutcome.DISCARDED)

    def _reason(self, request: HttpRequest) -> str:
        reason = reason_of(request)
        if not reason:
            self.message_user(request, "Say why: fill in the reason beside the action.", messages.ERROR)
        return reason

    def _tell(self, request: HttpRequest, outcomes: dict[int, str], done: str) -> None:
        text, well = outcome_message(outcomes, done, MISSED)
        self.message_user(request, text, messages.SUCCESS if well else messages.WARNING)

    # -- all that the filter selects ----------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("decide/", self.admin_site.admin_view(self.decide), name="queueing_deadletter_decide"),
            path(
                "<int:entry_id>/decide/",
                self.admin_site.admin_view(self.decide_one),
                name="queueing_deadletter_decide_one",
            ),
        ]
        return [*own, *super().get_urls()]

    def decide(self, request: HttpRequest) -> HttpResponse:
        """Say what a decision on all that the filter selects would meet; with a POST, begin it."""
        user = user_of(request)
        if not self.has_view_permission(request) or not rbac.can_operate(user):
            raise PermissionDenied
        verb = BatchVerb.DISCARD if request.GET.get("verb") == BatchVerb.DISCARD else BatchVerb.REQUEUE
        selection = selection_of(request.GET)
        form = DecisionForm(verb, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            answer = self._begin(request, verb, selection, form)
            if answer is not None:
                return answer
        met = preview(selection, by=user)
        back = {name: value for name in FILTERS if (value := request.GET.get(name))}
        context = {
            **self.admin_site.each_context(request),
            "title": f"{verb.label} {met.matched:,} DLQ {'entry' if met.matched == 1 else 'entries'}",
            "opts": self.model._meta,
            "media": self.media,
            "verb": verb,
            "met": met,
            "left": met.matched - met.unknown - met.forbidden,
            "selection_words": in_words(selection),
            "form": form,
            "pace": DEFAULT_PACE if met.matched > SMALL else "",
            "takes": span(met.matched / DEFAULT_PACE) if met.matched > SMALL else "",
            "small": SMALL,
            "default_pace": DEFAULT_PACE,
            "fastest": FASTEST,
            "up_to": met.up_to,
            "back": f"{reverse('admin:queueing_deadletter_changelist')}?{urlencode(back)}",
        }
        return TemplateResponse(request, "admin/dead_letters/decide.html", context)

    def _begin(
        self, request: HttpRequest, verb: BatchVerb, selection: Selection, form: DecisionForm
    ) -> HttpResponse | None:
        """Begin the batch and go to its page; None when it was refused, which is said."""
        told = form.cleaned_data
        up_to = request.POST.get("up_to", "")
        seen = Selection(**{**_fields(selection), "up_to": int(up_to) if up_to.isdecimal() else None})
        try:
            batch = services.start_batch(
                seen, verb=verb, by=user_of(request), reason=told["reason"],
                start_from=told.get("start_from") or RequeueFrom.AS_IT_IS, per_second=told["per_second"],
            )  # fmt: skip
        except Refused as refused:
            self.message_user(request, f"{refused.message} {refused.how_to_fix}", messages.ERROR)
            return None
        if batch is None:
            self.message_user(request, "No entry is left to decide on: somebody was faster.", messages.WARNING)
            return redirect("admin:queueing_deadletter_changelist")
        if batch.per_second is None:
            services.carry_out(batch, seconds=5)
        return redirect("admin:queueing_deadletterbatch_change", batch.pk)


def _fields(selection: Selection) -> dict[str, Any]:
    return {name: getattr(selection, name) for name in Selection.__dataclass_fields__}


def _chosen(request: HttpRequest) -> list[int]:
    """The entries that were marked in the list, also those that meanwhile are not in it: the report says so."""
    marked = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
    return [int(number) for number in marked if number.isdecimal() and len(number) < 19]
