"""Admin of the audit: who did, or was refused, what. To look at, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from safety.admin_access import ReadOnlyTenantAdmin, one_line, status_chip, user_of
from safety.audit.actions import ACTIONS
from safety.audit.reading import may_read, records_for
from safety.audit.state import ChainState, state_of
from safety.models import AuditRecord
from safety.origin import Door

DOORS: dict[str, str] = {
    Door.API.value: "API", Door.PAGE.value: "Page", Door.ADMIN.value: "Admin", Door.SOCKET.value: "Socket",
    Door.SSO.value: "Single sign-on", Door.COMMAND.value: "Command", Door.WORKER.value: "Worker",
    Door.SYSTEM.value: "The system itself",
}  # fmt: skip
# Where an object has a page of its own: object_type -> the name of its address.
_PAGES = {
    "execution": "executions:detail", "asset": "admin:executions_asset_change",
    "asset_group": "admin:executions_assetgroup_change", "user": "admin:safety_user_change",
    "token": "admin:safety_apitoken_change", "policy": "admin:safety_timeoutpolicy_change",
    "dead_letter_batch": "admin:queueing_deadletterbatch_change", "group": "admin:auth_group_change",
}  # fmt: skip
KINDS = ("execution", "asset", "asset_group", "user", "token", "secret", "policy", "dead_letter_batch", "pool", "host")


class Question(admin.SimpleListFilter):
    """A filter that needs no look at the rows for its choices."""

    answers: tuple[tuple[str, str], ...] = ()
    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self.answers)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(**{self.column: self.value()})


class WasRefused(Question):
    title = "Refused?"
    parameter_name = "refused"
    answers = (("no", "Was done"), ("yes", "Was refused"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(allowed=self.value() == "no")


class OnWhat(Question):
    title = "On what?"
    parameter_name = "on"
    column = "object_type"
    answers = tuple((kind, kind.replace("_", " ").capitalize()) for kind in KINDS)


class ThroughWhich(Question):
    title = "Through which door?"
    parameter_name = "door"
    column = "door"
    answers = tuple(DOORS.items())


class DidWhat(Question):
    title = "Did what?"
    parameter_name = "action"
    column = "action"
    answers = tuple((action, words.capitalize()) for action, words in ACTIONS.items())


@admin.register(AuditRecord)
class AuditRecordAdmin(ReadOnlyTenantAdmin):
    """Records of the tenant; whoever runs the installation sees its own ones too."""

    list_before_template = "admin/audit/state.html"
    list_display = ("number", "when", "who", "what", "on_what", "outcome", "why", "from_where")
    list_display_links = ("number",)
    list_filter = (WasRefused, OnWhat, ThroughWhich, DidWhat)
    list_filter_sheet = True
    list_filter_submit = True
    search_fields = ("=actor", "=object_id", "object_name")
    search_help_text = "By whom (user:alice), or the name or number of what"
    ordering = ("-id",)
    paginator = InfinitePaginator
    actions = None
    fields = (
        "when", "who", "what", "on_what", "outcome", "reason", "from_where", "details", "number", "hash_of_seal",
    )  # fmt: skip
    readonly_fields = fields

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_read(user_of(request))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return AuditRecord.objects.filter(records_for(user_of(request))).select_related("seal")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """A name alone is also taken for a user's."""
        found, distinct = super().get_search_results(request, queryset, search_term)
        word = search_term.strip()
        if word and " " not in word and ":" not in word:
            found = found | queryset.filter(actor=f"user:{word}")
        return found, distinct

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        states: list[ChainState] = state_of(user_of(request)) if self.has_view_permission(request) else []
        context = {"states": states, "shown_at": timezone.now(), **(extra_context or {})}
        response: TemplateResponse = super().changelist_view(request, context)
        return response

    @display(description="Seal", ordering="-id")
    def number(self, row: AuditRecord) -> str:
        seal = getattr(row, "seal", None)
        return f"#{seal.number:,}" if seal else "waits"

    @display(description="When (UTC)", ordering="-id")
    def when(self, row: AuditRecord) -> SafeString:
        return format_html('<span class="audit-when">{}</span>', row.at.strftime("%Y-%m-%d %H:%M:%S"))

    @display(description="Who")
    def who(self, row: AuditRecord) -> str:
        return row.actor

    @display(description="What")
    def what(self, row: AuditRecord) -> SafeString:
        return format_html('<span title="{}">{}</span>', row.action, ACTIONS.get(row.action, row.action))

    @display(description="On what")
    def on_what(self, row: AuditRecord) -> SafeString | str:
        number = f"#{row.object_id}" if row.object_id.isdigit() else row.object_id
        named = row.object_name or number
        kind = row.object_type.replace("_", " ")
        words = f"{kind} {number}: {named}" if row.object_id.isdigit() and row.object_name else f"{kind} {named}"
        if not words.strip():
            return "–"
        short = words if len(words) <= 80 else f"{words[:80]}…"
        try:
            address = reverse(_PAGES[row.object_type], args=[int(row.object_id)])
        except (KeyError, ValueError, NoReverseMatch):
            return format_html('<span title="{}">{}</span>', words, short)
        return format_html('<a href="{}" title="{}">{}</a>', address, words, short)

    @display(description="Outcome")
    def outcome(self, row: AuditRecord) -> SafeString:
        return status_chip("succeeded", "Done") if row.allowed else status_chip("failed", f"Refused: {row.code}")

    @display(description="Why")
    def why(self, row: AuditRecord) -> SafeString | str:
        return one_line(row.reason, 80)

    @display(description="From where")
    def from_where(self, row: AuditRecord) -> str:
        door = DOORS.get(row.door, row.door)
        return f"{door}, {row.address}" if row.address else door

    @display(description="Details")
    def details(self, row: AuditRecord) -> SafeString:
        return format_html(
            '<pre class="audit-details">{}</pre>', json.dumps(row.data, ensure_ascii=False, indent=2, sort_keys=True)
        )

    @display(description="Hash")
    def hash_of_seal(self, row: AuditRecord) -> str:
        seal = getattr(row, "seal", None)
        return seal.hash if seal else "It gets its seal within a second, while a worker is running."
