"""Admin of secrets: store, replace and remove them, see who used them. No value comes back out."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from safety import rbac
from safety.admin_access import TenantAdmin, roles_for, status_chip, user_of
from safety.models import AuditRecord, Secret, SecretRule
from safety.secrets import SecretUnavailable, check_path
from safety.secrets.keeping import check_can_store, check_value, remove_row, store_secret

MOST_USES = 50


class ValueInput(UnfoldAdminTextareaWidget):
    """Where a value is typed or pasted, in several lines if it has them. Whatever was sent is never shown again."""

    def __init__(self) -> None:
        super().__init__({"rows": 4, "autocomplete": "off", "spellcheck": "false"})
        self.attrs["class"] = f"{self.attrs.get('class', '')} secret-value"

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, None, attrs)
        return context


class SecretForm(forms.ModelForm):  # type: ignore[type-arg]
    """Path and value of a new secret, or the next value of one that is there."""

    value = forms.CharField(
        widget=ValueInput,
        strip=False,
        help_text="Shown nowhere again. Several entries are one JSON object; plans name one of them with key.",
    )

    class Meta:
        model = Secret
        fields = ("path",)
        help_texts = {"path": "Such as db/orders/backup; plans name it by this path."}

    tenant_id: ClassVar[int]

    def clean_path(self) -> str:
        path: str = self.cleaned_data["path"]
        try:
            check_path(path)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None
        if self.instance.pk is None and Secret.objects.filter(tenant_id=self.tenant_id, path=path).exists():
            raise forms.ValidationError("There is such a secret: open it to store a new value.")
        return path

    def clean_value(self) -> str:
        value: str = self.cleaned_data["value"].replace("\r\n", "\n")  # which browsers make of every line end
        try:
            check_value(value)
            check_can_store()
        except (ValueError, SecretUnavailable) as error:
            raise forms.ValidationError(str(error)) from None
        return value


class OfTheEmbeddedStore(TenantAdmin):
    """For administrators alone; rows there are only in the embedded store."""

    def _may(self, request: HttpRequest) -> bool:
        return rbac.Role.ADMIN in roles_for(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request)


@admin.register(Secret)
class SecretAdmin(OfTheEmbeddedStore):
    """Secrets of the tenant, by path. Opening one shows who used it, and takes a new value."""

    form = SecretForm
    list_display = ("path_shown", "version", "updated_at", "last_use")
    search_fields = ("path",)
    ordering = ("path",)
    list_before_template = "admin/safety/secret/elsewhere.html"
    fieldsets = ((None, {"fields": ("path", "value")}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # The index audit_of_object gives the newest first: one look for each of the page's rows.
        uses = AuditRecord.objects.filter(
            object_type="secret", object_id=OuterRef("path"), tenant_id=OuterRef("tenant_id"), action="secret.use"
        ).order_by("-pk")
        rows: QuerySet[Any] = super().get_queryset(request)
        annotated: QuerySet[Any] = rows.defer("sealed").annotate(
            used_at=Subquery(uses.values("at")[:1]),
            used_by=Subquery(uses.values("actor")[:1]),
            use_allowed=Subquery(uses.values("allowed")[:1]),
        )
        return annotated

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request) and settings.SECRETS_BACKEND == "embedded"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def get_fieldsets(self, request: HttpRequest, obj: Secret | None = None) -> Any:
        if obj is None:
            return self.fieldsets
        said = ("path", "version", "created_at", "updated_at", "encrypted_anew")
        return ((None, {"fields": said}), ("New value", {"fields": ("value",)}), ("Used by", {"fields": ("uses",)}))

    def get_readonly_fields(self, request: HttpRequest, obj: Secret | None = None) -> Any:
        return () if obj is None else ("path", "version", "created_at", "updated_at", "encrypted_anew", "uses")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.tenant_id = user_of(request).tenant_id
        return form

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return super().changelist_view(request, {**(extra_context or {}), "secrets_backend": settings.SECRETS_BACKEND})

    def save_model(self, request: HttpRequest, obj: Secret, form: Any, change: bool) -> None:
        user = user_of(request)
        store_secret(user.tenant, obj.path, form.cleaned_data["value"], by=user)
        stored = Secret.objects.get(tenant_id=user.tenant_id, path=obj.path)
        obj.pk, obj.version = stored.pk, stored.version

    @staticmethod
    def _record(request: HttpRequest, obj: Any, verb: str, message: Any) -> None:
        """Storing and removing are on record already, by path; the form adds nothing to that."""

    def delete_model(self, request: HttpRequest, obj: Secret) -> None:
        remove_row(user_of(request).tenant, obj.path, by=user_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Secret]) -> None:
        for secret in queryset:
            self.delete_model(request, secret)

    @display(description="Path", ordering="path")
    def path_shown(self, secret: Secret) -> SafeString:
        return format_html('<span class="secret-path">{}</span>', secret.path)

    @display(description="Encrypted anew")
    def encrypted_anew(self, secret: Secret) -> str:
        at = secret.resealed_at
        return f"{at:%Y-%m-%d %H:%M} UTC" if at else "not since the value was stored"

    @display(description="Last used", ordering="used_at")
    def last_use(self, secret: Any) -> SafeString | str:
        if secret.used_at is None:
            return "never"
        ago = f"{secret.used_by}, {timesince(secret.used_at)} ago"
        return ago if secret.use_allowed else format_html("{} {}", ago, status_chip("failed", "refused"))

    @display(description="The last uses")
    def uses(self, secret: Secret) -> SafeString | str:
        records = AuditRecord.objects.filter(
            object_type="secret", object_id=secret.path, tenant_id=secret.tenant_id, action="secret.use"
        ).order_by("-pk")[:MOST_USES]
        rows = [
            (
                f"{record.at:%Y-%m-%d %H:%M:%S} UTC",
                record.actor,
                record.data.get("execution", ""),
                record.data.get("execution", ""),
                record.data.get("step", ""),
                record.data.get("version", "–"),
                "granted" if record.allowed else f"refused: {record.reason}",
            )
            for record in records
        ]
        if not rows:
            return "Nobody has used it."
        return format_html(
            '<div class="secret-uses"><table><thead><tr><th>When</th><th>In the name of</th><th>Execution</th>'
            "<th>Step</th><th>Version</th><th>Outcome</th></tr></thead><tbody>{}</tbody></table></div>",
            format_html_join(
                "",
                '<tr><td>{}</td><td>{}</td><td><a href="/executions/{}/">#{}</a></td><td>{}</td><td>{}</td>'
                "<td>{}</td></tr>",
                rows,
            ),
        )


class SecretRuleForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = SecretRule
        fields = ("prefix", "groups")
        labels = {"prefix": "Secrets at or below"}
        help_texts = {
            "prefix": "A path such as db/orders; empty for every secret. The longest path that fits a secret decides.",
            "groups": "Only their members, and administrators, may name these secrets in plans.",
        }

    tenant_id: ClassVar[int]

    def clean_prefix(self) -> str:
        prefix: str = self.cleaned_data["prefix"].removesuffix("/")
        if prefix:
            try:
                check_path(prefix)
            except ValueError as error:
                raise forms.ValidationError(str(error)) from None
        others = SecretRule.objects.filter(tenant_id=self.tenant_id, prefix=prefix).exclude(pk=self.instance.pk)
        if others.exists():
            raise forms.ValidationError("There is a rule for it: change that one.")
        return prefix


@admin.register(SecretRule)
class SecretRuleAdmin(OfTheEmbeddedStore):
    """Who may name which secrets in plans."""

    form = SecretRuleForm
    list_display = ("__str__", "who")
    ordering = ("prefix",)
    filter_horizontal = ("groups",)
    fields = ("prefix", "groups")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.prefetch_related("groups")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.tenant_id = user_of(request).tenant_id
        return form

    def save_model(self, request: HttpRequest, obj: SecretRule, form: Any, change: bool) -> None:
        obj.tenant_id = user_of(request).tenant_id
        super().save_model(request, obj, form, change)

    @display(description="May be used by")
    def who(self, rule: SecretRule) -> str:
        names = [group.name for group in rule.groups.all()]
        return ", ".join([*names, "administrators"])
