"""Admin of the masking rules: which patterns are looked for in output, logs and errors."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from safety import masking_rules, rbac
from safety.admin_access import TenantAdmin
from safety.masking.patterns import BY_NAME
from safety.models import MaskingRule


@admin.register(MaskingRule)
class MaskingRuleAdmin(TenantAdmin):
    """Patterns of secrets, built in and of the installation's own. They hold for the whole installation."""

    list_display = ("name", "enabled", "finds", "kind")
    list_filter = ("enabled",)
    search_fields = ("name", "description")
    ordering = ("name",)
    fields = ("name", "enabled", "expression", "description")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return MaskingRule.objects.all()

    @admin.display(description="Finds")
    def finds(self, rule: MaskingRule) -> str:
        known = BY_NAME.get(rule.name)
        return known.meaning if known else rule.description or rule.expression[:100]

    @admin.display(description="Kind")
    def kind(self, rule: MaskingRule) -> str:
        return "built in" if rule.is_built_in else "own"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("name", "finds", "enabled") if obj is not None and obj.is_built_in else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("name", "finds") if obj is not None and obj.is_built_in else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return rbac.can_govern_installation(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return rbac.can_govern_installation(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A built-in pattern is switched off, not removed."""
        return rbac.can_govern_installation(request.user) and (obj is None or not obj.is_built_in)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        transaction.on_commit(masking_rules.changed)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        super().delete_model(request, obj)
        transaction.on_commit(masking_rules.changed)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        transaction.on_commit(masking_rules.changed)
