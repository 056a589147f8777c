"""Admin of time limits and attempts."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from safety import rbac
from safety.admin_access import TenantAdmin
from safety.models import TimeoutPolicy


@admin.register(TimeoutPolicy)
class TimeoutPolicyAdmin(TenantAdmin):
    """Time limits and attempts by SLA class and action class. They hold for the whole installation."""

    list_display = (
        "__str__", "sla_class", "action_class", "step_seconds", "execution_seconds", "approval_seconds", "max_attempts",
    )  # fmt: skip
    list_filter = ("sla_class", "action_class")
    ordering = ("sla_class", "action_class")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return TimeoutPolicy.objects.all()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return rbac.can_govern_installation(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
