"""Admin of executions, their steps and the inventory. The DLQ is in admin_dead_letters.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import connection
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator

from executions import (
    admin_dead_letter_batches,  # noqa: F401
    admin_dead_letters,  # noqa: F401
    admin_host_keys,
    admin_locks,  # noqa: F401 - it registers itself
    admin_queue,  # noqa: F401
    services,
)
from executions.asset_credentials import forbidden_credentials, not_allowed
from executions.inventory_files import WORDS, check_credential, check_word
from executions.models import Approval, Asset, AssetGroup, Event, Execution, Health, Step, StepTarget
from executions.pages.durations import between, span
from executions.pages.looks import HEALTH, UNCHECKED, look_of
from executions.states import FINAL_EXECUTION, ExecutionStatus
from queueing.models import DeadLetter, QueueEntry
from safety.admin_access import (
    ReadOnlyInline,
    ReadOnlyTenantAdmin,
    ReasonForm,
    TenantAdmin,
    one_line,
    outcome_message,
    reason_of,
    status_chip,
    user_of,
)
from safety.models import User

admin.site.index_title = "What needs a person"

E = ExecutionStatus
SHOWN_EVENTS = 100
SHOWN_TARGETS = 200
MISSED = {"moved_on": "had moved on", "forbidden": "you may not decide on", "already_final": "had ended already"}


def chip_of(status: str) -> SafeString:
    return status_chip(status, look_of(status).word)


def ago(at: Any) -> str:
    return f"{span(timezone.now() - at)} ago" if at else "–"


class ExecutionQuestion(admin.SimpleListFilter):
    title = "What needs me?"
    parameter_name = "question"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("person", "Waits for a person"),
            ("going", "Going on now"),
            ("late", "Over its time limit"),
            ("today", "Failed in the last 24 hours"),
            ("stuck", "Queued for more than 10 minutes"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        match self.value():
            case "person":
                return queryset.filter(status__in=[E.PENDING_APPROVAL, E.NEEDS_ATTENTION])
            case "going":
                return queryset.filter(status__in=[E.QUEUED, E.RUNNING, E.CANCELLING])
            case "late":
                return queryset.filter(deadline_at__lt=now).exclude(status__in=FINAL_EXECUTION)
            case "today":
                bad = [E.FAILED, E.PARTIAL, E.TIMED_OUT]
                return queryset.filter(status__in=bad, finished_at__gt=now - timedelta(hours=24))
            case "stuck":
                return queryset.filter(status=E.QUEUED, created_at__lt=now - timedelta(minutes=10))
        return queryset


class StepInline(ReadOnlyInline):
    model = Step
    fields = ("position", "key", "tool", "kind", "look", "error_line", "took")
    readonly_fields = ("look", "error_line", "took")

    @display(description="State")
    def look(self, step: Step) -> SafeString:
        return chip_of(step.status)

    @display(description="Error")
    def error_line(self, step: Step) -> SafeString | str:
        return one_line(step.error)

    @display(description="Took")
    def took(self, step: Step) -> str:
        return span(between(step.started_at, step.finished_at))


class ApprovalInline(ReadOnlyInline):
    """Who decided on what of it."""

    model = Approval
    fields = ("what", "by", "said", "comment", "decided_at", "withdrawn")
    readonly_fields = ("what", "said", "withdrawn")
    show_change_link = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.select_related("by").order_by("pk")

    @display(description="On")
    def what(self, approval: Approval) -> str:
        return str(approval.point)

    @display(description="Said")
    def said(self, approval: Approval) -> str:
        return "approved" if approval.approved else "rejected"

    @display(description="Does not count since")
    def withdrawn(self, approval: Approval) -> SafeString | str:
        if approval.withdrawn_at is None:
            return "–"
        return one_line(f"{approval.withdrawn_at:%Y-%m-%d %H:%M:%S}: {approval.withdrawn_reason}")


@admin.register(Execution)
class ExecutionAdmin(ReadOnlyTenantAdmin):
    """Requested runs. The engine owns their state: what people may do are the actions."""

    list_display = ("number", "look", "title_line", "actor", "environment", "attempts", "age", "took", "why")
    list_display_links = ("number",)
    # only filters whose choices are known: the others look for them in the whole table
    list_filter = (ExecutionQuestion, "status", "action_class")
    list_select_related = ("actor",)
    search_fields = ("=id", "title", "actor__username")
    search_help_text = "Number, title or requester"
    ordering = ("-id",)
    paginator = InfinitePaginator
    list_disable_select_all = True
    actions = ("cancel",)
    action_form = ReasonForm
    inlines = (StepInline, ApprovalInline)
    fieldsets = (
        (None, {"fields": ("page", "look", "title", "status_reason", "error_code", "actor", "reason", "parent")}),
        (
            "Plan",
            {"fields": ("plan_hash", "action_class", "sla_class", "approval_level", "environment", "tags", "priority")},
        ),
        (
            "Time",
            {"fields": ("created_at", "started_at", "deadline_at", "finished_at", "execution_seconds", "max_attempts")},
        ),
        ("Events", {"fields": ("events",)}),
    )
    readonly_fields = ("page", "look", "events")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        entry = QueueEntry.objects.filter(pk=OuterRef("pk"))
        rows: QuerySet[Any] = super().get_queryset(request)
        annotated: QuerySet[Any] = rows.annotate(attempt=Subquery(entry.values("attempt")))
        return annotated

    @display(description="#", ordering="-id")
    def number(self, execution: Execution) -> str:
        return f"#{execution.pk}"

    @display(description="State", ordering="status")
    def look(self, execution: Execution) -> SafeString:
        return chip_of(execution.status)

    @display(description="Execution")
    def title_line(self, execution: Execution) -> SafeString:
        address = reverse("executions:detail", args=[execution.pk])
        return format_html('<a href="{}" title="Open its live page">{}</a>', address, execution.title)

    @display(description="Attempt")
    def attempts(self, execution: Any) -> str:
        return f"{execution.attempt} of {execution.max_attempts}" if execution.attempt else "–"

    @display(description="Age", ordering="-id")
    def age(self, execution: Execution) -> str:
        return ago(execution.created_at)

    @display(description="Took")
    def took(self, execution: Execution) -> str:
        return span(between(execution.started_at, execution.finished_at or timezone.now()))

    @display(description="Why")
    def why(self, execution: Execution) -> SafeString | str:
        return one_line(execution.status_reason, 90)

    @display(description="Live page")
    def page(self, execution: Execution) -> SafeString:
        entries = DeadLetter.objects.filter(execution_id=execution.pk).order_by("-pk").values_list("pk", flat=True)
        dlq = format_html_join(
            "", ' · <a href="{}">DLQ entry {}</a>',
            ((reverse("admin:queueing_deadletter_change", args=[pk]), pk) for pk in entries),
        )  # fmt: skip
        address = reverse("executions:detail", args=[execution.pk])
        return format_html('<a href="{}">{}</a>{}', address, f"/executions/{execution.pk}/", dlq)

    @display(description=f"The newest {SHOWN_EVENTS}")
    def events(self, execution: Execution) -> SafeString:
        rows = Event.objects.filter(execution=execution).order_by("-seq")[:SHOWN_EVENTS]
        return format_html(
            '<table class="ops-events"><thead><tr><th>Seq</th><th>Time</th><th>What</th><th>Who</th><th>Why</th></tr>'
            "</thead><tbody>{}</tbody></table>",
            format_html_join(
                "", "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                ((e.seq, f"{e.at:%Y-%m-%d %H:%M:%S}", e.kind, e.actor, e.reason) for e in rows),
            ),
        )  # fmt: skip

    @action(description="Cancel (with a reason)", permissions=["view"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Execution]) -> None:
        """Each is asked with the user's own rights; what may not be cancelled is counted and said."""
        reason = reason_of(request)
        if not reason:
            self.message_user(request, "Say why: fill in the reason beside the action.", messages.ERROR)
            return
        ids = list(queryset.order_by().values_list("pk", flat=True))
        outcomes = services.cancel_many(ids, by=user_of(request), reason=reason)
        told = {
            pk: "cancelled" if outcome in (E.CANCELLED, E.CANCELLING) else outcome for pk, outcome in outcomes.items()
        }
        text, well = outcome_message(told, "cancelled", MISSED)
        self.message_user(request, text, messages.SUCCESS if well else messages.WARNING)


class TargetInline(ReadOnlyInline):
    model = StepTarget
    fields = ("name", "look", "attempt", "exit_code", "error_line", "took", "stop_confirmed")
    readonly_fields = ("look", "error_line", "took")
    per_page = SHOWN_TARGETS
    show_change_link = False

    @display(description="State")
    def look(self, target: StepTarget) -> SafeString:
        return chip_of(target.status)

    @display(description="Error")
    def error_line(self, target: StepTarget) -> SafeString | str:
        return one_line(target.error)

    @display(description="Took")
    def took(self, target: StepTarget) -> str:
        return span(between(target.started_at, target.finished_at))


@admin.register(Step)
class StepAdmin(ReadOnlyTenantAdmin):
    """Steps of all executions: where does it fail?"""

    tenant_path = "execution__tenant_id"
    list_display = ("key", "look", "execution_page", "tool", "position", "error_line", "took")
    list_filter = ("status",)
    list_select_related = ("execution",)
    search_fields = ("=execution__id", "key")
    search_help_text = "Number of the execution, or the step's id"
    ordering = ("-id",)
    paginator = InfinitePaginator
    inlines = (TargetInline,)
    fields = (
        "execution_page",
        "position",
        "key",
        "tool",
        "description",
        "kind",
        "look",
        "error_code",
        "error",
        "started_at",
        "finished_at",
    )
    readonly_fields = ("execution_page", "look")

    @display(description="State", ordering="status")
    def look(self, step: Step) -> SafeString:
        return chip_of(step.status)

    @display(description="Execution", ordering="execution_id")
    def execution_page(self, step: Step) -> SafeString:
        address = reverse("executions:detail", args=[step.execution_id])
        return format_html('<a href="{}">#{} {}</a>', address, step.execution_id, step.execution.title)

    @display(description="Error")
    def error_line(self, step: Step) -> SafeString | str:
        return one_line(step.error)

    @display(description="Took")
    def took(self, step: Step) -> str:
        return span(between(step.started_at, step.finished_at))


class AssetQuestion(admin.SimpleListFilter):
    title = "Which?"
    parameter_name = "which"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("active", "In use"),
            ("inactive", "Taken out of use"),
            ("unwell", "Not healthy at the last check"),
            ("unchecked", "Never checked"),
            ("stale", "Stale: not heard of for long"),
            ("alone", "In no group"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "active":
                return queryset.filter(is_active=True)
            case "inactive":
                return queryset.filter(is_active=False)
            case "unwell":
                return queryset.filter(is_active=True).exclude(health__in=["", Health.HEALTHY])
            case "unchecked":
                return queryset.filter(is_active=True, health="")
            case "stale":
                return queryset.filter(pk__in=Asset.objects.stale().values("pk"))
            case "alone":
                return queryset.filter(groups=None)
        return queryset


class OwnTenant(TenantAdmin):
    """The inventory: rows that operators make, as they do over the API; they belong to the tenant of who makes them."""

    exclude = ("tenant",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_operate_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_operate_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_operate_permission(request)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.tenant_id = user_of(request).tenant_id
        super().save_model(request, obj, form, change)


class OwnGroups(admin.RelatedFieldListFilter):
    """The groups of one's own tenant: what a filter offers is shown like everything else."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        own = AssetGroup.objects.filter(tenant_id=user_of(request).tenant_id).order_by("name")
        return [(str(pk), name) for pk, name in own.values_list("pk", "name")]


class AssetForm(forms.ModelForm):  # type: ignore[type-arg]
    by: User  # who fills it in; see AssetAdmin.get_form

    def clean_credential(self) -> str:
        credential: str = self.cleaned_data["credential"]
        try:
            return check_credential(credential) if credential else credential
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        # What a service said in words of its own stays, as long as nobody changes it.
        for column in (WORDS.keys() - {"connection"}) & set(self.changed_data):
            try:
                given[column] = check_word(column, given[column]) if given.get(column) else given.get(column, "")
            except ValueError as error:
                self.add_error(column, str(error))
        known = Asset.objects.filter(pk=self.instance.pk).first()  # the instance has the form's values already
        if path := forbidden_credentials(self.by, [(known, given)])[0]:
            raise forms.ValidationError(not_allowed(path))
        return given


@admin.register(Asset)
class AssetAdmin(OwnTenant):
    """Machines and endpoints that plans can name."""

    form = AssetForm

    list_display = (
        "name",
        "hostname",
        "ip_address",
        "connection",
        "environment",
        "criticality",
        "how_it_is",
        "group_names",
        "is_active",
        "runs",
    )
    list_filter = (AssetQuestion, "connection", "environment", "criticality", ("groups", OwnGroups))
    search_fields = ("name", "hostname", "ip_address", "tags")
    filter_horizontal = ("groups",)
    ordering = ("name",)
    actions = ("pin_host_keys",)
    readonly_fields = (
        "source", "missing_since_at", "last_seen_at", "health", "health_code", "health_message", "checked_at",
        "response_ms", "created_at", "updated_at", "additional_services",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("groups")

    @display(description="Health", ordering="health")
    def how_it_is(self, asset: Asset) -> SafeString:
        look = HEALTH.get(asset.health, UNCHECKED)
        return status_chip(look.colour, look.word)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "groups":
            kwargs["queryset"] = AssetGroup.objects.filter(tenant_id=user_of(request).tenant_id)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.by = user_of(request)  # a class of its own for each request
        return form

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Hold the row while it is changed: nobody gives it a credential while its address is compared here."""
        found = super().get_object(request, object_id, from_field)
        if found is not None and request.method == "POST" and connection.in_atomic_block:
            return self.get_queryset(request).select_for_update(no_key=True).get(pk=found.pk)
        return found

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Records name machines: one is taken out of use (not active), never deleted."""
        return False

    @action(description="Compare and pin host keys", permissions=["operate"])
    def pin_host_keys(self, request: HttpRequest, queryset: QuerySet[Asset]) -> HttpResponse | None:
        """A page in between shows what the machines show now; see admin_host_keys."""
        return admin_host_keys.pin(request, queryset, context=self.admin_site.each_context(request))

    @display(description="Groups")
    def group_names(self, asset: Asset) -> str:
        return ", ".join(group.name for group in asset.groups.all()) or "–"

    @display(description="Executions")
    def runs(self, asset: Asset) -> SafeString:
        return format_html('<a href="{}?asset={}">show</a>', reverse("executions:list"), asset.name)


@admin.register(AssetGroup)
class AssetGroupAdmin(OwnTenant):
    """Named sets of assets, to target and to give rights on."""

    list_display = ("name", "size")
    search_fields = ("name",)
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        annotated: QuerySet[Any] = rows.annotate(asset_count=Count("assets", filter=Q(assets__is_active=True)))
        return annotated

    @display(description="Assets in use", ordering="asset_count")
    def size(self, group: Any) -> SafeString:
        address = reverse("admin:executions_asset_changelist")
        return format_html('<a href="{}?groups__id__exact={}">{}</a>', address, group.pk, group.asset_count)
