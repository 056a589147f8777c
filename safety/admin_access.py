"""What all admin pages share: one's own tenant only, rights by role, no counting of big tables."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django import forms
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import ActionForm

from safety import audit, rbac
from safety.models import User


def roles_for(request: HttpRequest) -> frozenset[str]:
    """Return the roles of the signed-in user, asked for once per request."""
    known: frozenset[str] | None = getattr(request, "_roles", None)
    if known is None:
        known = rbac.roles_of(request.user)
        request._roles = known  # type: ignore[attr-defined]
    return known


def user_of(request: HttpRequest) -> User:
    """Return the signed-in user; the admin has let nobody else through."""
    return cast(User, request.user)


class ReasonForm(ActionForm):
    """The bar of actions, with a reason."""

    reason = forms.CharField(
        required=False,
        label="",
        max_length=1000,
        widget=forms.TextInput(attrs={"placeholder": "Reason", "class": "action-reason", "aria-label": "Reason"}),
    )


def reason_of(request: HttpRequest) -> str:
    return request.POST.get("reason", "").strip()


# What the audit calls the models of the admin; of others it says "object", and which model in `data`.
_NOUNS = {
    "asset": "asset", "assetgroup": "asset_group", "user": "user", "group": "group", "tenant": "tenant",
    "apitoken": "token", "timeoutpolicy": "policy", "maskingrule": "masking_rule",
    "secretrule": "policy",
}  # fmt: skip


class Audited(ModelAdmin):
    """Whatever is added, changed or deleted by a form of the admin is in the audit, with the names of the fields.

    Django calls these in the transaction of the change itself. Values are not written: some are secret.
    """

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        self._record(request, obj, "create", message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        self._record(request, obj, "change", message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        for obj in queryset:
            self._record(request, obj, "delete", [])
        return super().log_deletions(request, queryset)

    @staticmethod
    def _record(request: HttpRequest, obj: Model, verb: str, message: Any) -> None:
        model = obj._meta.model_name or ""
        action = f"{_NOUNS.get(model, 'object')}.{verb}"
        audit.record(
            action if action in audit.ACTIONS else f"object.{verb}", by=user_of(request),
            object_type=_NOUNS.get(model, model), object_id=obj.pk, object_name=str(obj), data={"changes": message},
        )  # fmt: skip


class TenantAdmin(Audited):
    """Rows of the user's own tenant. Whoever has a role may look; administrators may change."""

    tenant_path: ClassVar[str] = "tenant_id"
    show_full_result_count = False
    list_per_page = 50
    list_fullwidth = True
    warn_unsaved_form = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.filter(**{self.tenant_path: user_of(request).tenant_id})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(roles_for(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return rbac.Role.ADMIN in roles_for(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return rbac.Role.ADMIN in roles_for(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return rbac.Role.ADMIN in roles_for(request)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """For actions: permissions=["operate"]."""
        return rbac.Role.OPERATOR in roles_for(request)


class ReadOnly:
    """Rows that the engine owns: to look at. What people may do with them are actions."""

    warn_unsaved_form = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnlyTenantAdmin(ReadOnly, TenantAdmin):
    """The two together."""


class ReadOnlyInline(ReadOnly, TabularInline):
    """Children that are only shown."""

    extra = 0
    can_delete = False
    show_change_link = True

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(roles_for(request))


def status_chip(status: str, word: str) -> SafeString:
    """A status in its colour; static/css/admin.css has the look."""
    return format_html('<span class="ops-chip" data-status="{}">{}</span>', status, word)


def one_line(text: str, most: int = 120) -> SafeString | str:
    """The first line of a text, cut, with the whole of it on hovering."""
    first = text.strip().splitlines()[0] if text.strip() else ""
    short = first if len(first) <= most else f"{first[:most]}…"
    return format_html('<span title="{}">{}</span>', text, short) if text else "–"


def outcome_message(outcomes: dict[int, str], done: str, words: dict[str, str]) -> tuple[str, bool]:
    """Return "7 of 9 requeued; 2 had moved on." and whether all went well.

    `words`: outcome -> the phrase that follows its number.
    """
    well = sum(outcome == done for outcome in outcomes.values())
    rest: dict[str, int] = {}
    for outcome in outcomes.values():
        if outcome != done:
            rest[outcome] = rest.get(outcome, 0) + 1
    parts = [f"{well} of {len(outcomes)} {done}"]
    parts += [f"{count} {words.get(outcome, outcome.replace('_', ' '))}" for outcome, count in rest.items()]
    return "; ".join(parts) + ".", not rest
