"""Pages of the admin that refresh themselves: a page includes its parts, and hands out the same parts alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from queueing.pool import PoolRefused
from safety import rbac
from safety.admin_access import ReadOnlyTenantAdmin, user_of
from safety.models import DEFAULT_TENANT

Self = TypeVar("Self", bound="LivePage")
Door = Callable[[Self, HttpRequest, str], str]


class LivePage(ReadOnlyTenantAdmin):
    """A list that is a page of its own.

    parts   name -> template. The page has each in an element `data-part=NAME`; with `?fragment=1` they come alone
    doors   what people can do there: each POST to `PAGE/NAME/`, method `NAME` with dashes as underscores
    """

    page_title: ClassVar[str]
    page_template: ClassVar[str]
    parts: ClassVar[dict[str, str]]
    doors: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def page_context(self, request: HttpRequest) -> dict[str, Any]:
        """What the parts show."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {"parts": self.parts.items(), **self.page_context(request)}
        if "fragment" in request.GET:
            return TemplateResponse(request, "admin/queueing/_parts.html", context)
        context |= {
            **self.admin_site.each_context(request),
            "title": self.page_title,
            "opts": self.opts,
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.page_template, context)

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"{name}/",
                self.admin_site.admin_view(getattr(self, name.replace("-", "_"))),
                name=f"{self.opts.app_label}_{self.opts.model_name}_{name.replace('-', '_')}",
            )
            for name in self.doors
        ]
        urls: list[URLPattern] = own + super().get_urls()
        return urls

    def back(self) -> HttpResponse:
        """Lead back to the page."""
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")


def door(verb: Door[Self]) -> Callable[[Self, HttpRequest], HttpResponse]:
    """Make a verb `(request, reason) -> what to say` an action of a page: operators only, and with a reason.

    What the verb refuses (PoolRefused, or a ValueError whose text is for people) is said as it is.
    """

    @wraps(verb)
    def act(page: Self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return page.back()
        if not page.has_operate_permission(request):
            raise PermissionDenied
        reason = request.POST.get("reason", "").strip()
        if not reason:
            messages.error(request, "Say why: everybody who looks at this later sees the reason. Nothing was done.")
            return page.back()
        try:
            messages.success(request, verb(page, request, reason[:1000]))
        except PoolRefused as refused:
            messages.error(request, f"{refused} {refused.how_to_fix}")
        except ValueError as wrong:
            messages.error(request, f"{wrong} Nothing was done.")
        return page.back()

    return act


class OfTheInstallation(ReadOnlyTenantAdmin):
    """What all tenants share: shown to those of the tenant `default` who have a role, steered by its operators."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model._default_manager.all()
        return rows

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # The role first: who is not signed in has none, and no tenant either.
        return super().has_view_permission(request, obj) and user_of(request).tenant.name == DEFAULT_TENANT

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return rbac.can_operate_installation(user_of(request))


def address(base: str, **parameters: object) -> str:
    """Return an address with those parameters that have a value."""
    query = urlencode({name: value for name, value in parameters.items() if value not in ("", None)})
    return f"{base}?{query}" if query else base
