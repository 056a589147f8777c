"""Admin of people: users, roles, tokens."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from safety import accounts, rbac
from safety.admin_access import Audited, ReadOnlyTenantAdmin, TenantAdmin, roles_for, status_chip, user_of
from safety.models import ApiToken, User
from safety.scopes import ALL_SCOPES

admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(TenantAdmin, DjangoUserAdmin):  # type: ignore[type-arg]
    """People and programs of the tenant. A role is a group of that name."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "name", "roles", "is_active", "is_staff", "last_login", "live_tokens")
    list_filter = ("is_active", "groups", "is_staff")
    search_fields = ("username", "first_name", "last_name", "email")
    filter_horizontal = ("groups",)
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "usable_password", "password1", "password2")}),
    )
    readonly_fields = ("last_login", "date_joined")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        usable = Q(api_tokens__revoked_at=None) & (
            Q(api_tokens__expires_at=None) | Q(api_tokens__expires_at__gt=timezone.now())
        )
        live = Count("api_tokens", filter=usable & Q(api_tokens__pk__isnull=False))
        rows: QuerySet[Any] = super().get_queryset(request)
        annotated: QuerySet[Any] = rows.prefetch_related("groups").annotate(token_count=live)
        return annotated

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Nobody makes themselves, or others, more than they are."""
        extra = () if user_of(request).is_superuser else ("is_superuser",)
        return (*self.readonly_fields, *extra)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        above = isinstance(obj, User) and obj.is_superuser and not user_of(request).is_superuser
        return super().has_change_permission(request, obj) and not above

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Records name people: an account is closed (not active), never deleted."""
        return False

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if not change:
            obj.tenant_id = user_of(request).tenant_id
        super().save_model(request, obj, form, change)

    @display(description="Name")
    def name(self, user: User) -> str:
        return user.get_full_name() or user.email

    @display(description="Roles")
    def roles(self, user: User) -> str:
        names = [group.name for group in user.groups.all()]
        return ", ".join([*(["superuser"] if user.is_superuser else []), *names]) or "none"

    @display(description="Tokens", ordering="token_count")
    def live_tokens(self, user: Any) -> int:
        return int(user.token_count)


@admin.register(Group)
class GroupAdmin(Audited, DjangoGroupAdmin):
    """Roles and teams. Shared by all tenants: only a superuser of the tenant `default` changes them."""

    list_display = ("name", "kind")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(roles_for(request))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(roles_for(request))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return rbac.can_govern_installation(request.user) and not (obj is not None and obj.name in rbac.ROLES)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return rbac.can_govern_installation(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return rbac.can_govern_installation(request.user)

    @display(description="Is a")
    def kind(self, group: Group) -> str:
        return "role" if group.name in rbac.ROLES else "team"


class TokenState(admin.SimpleListFilter):
    title = "Usable?"
    parameter_name = "usable"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Usable now"), ("expired", "Expired"), ("revoked", "Revoked"), ("unused", "Never used")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        match self.value():
            case "yes":
                return queryset.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)
            case "expired":
                return queryset.filter(expires_at__lte=now, revoked_at=None)
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
            case "unused":
                return queryset.filter(last_used_at=None)
        return queryset


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyTenantAdmin):
    """Tokens of the API. Made with `manage.py create_token`; the value is shown then and never again."""

    tenant_path = "user__tenant_id"
    list_display = ("label_or_number", "user", "state", "allowed", "created_at", "last_used_at", "expires_at")
    list_filter = (TokenState,)
    list_select_related = ("user",)
    search_fields = ("label", "user__username")
    fields = ("user", "label", "state", "allowed", "created_at", "last_used_at", "expires_at", "revoked_at")
    readonly_fields = ("state", "allowed")
    ordering = ("-pk",)
    actions = ("revoke",)

    @display(description="Token")
    def label_or_number(self, token: ApiToken) -> str:
        return token.label or f"token {token.pk}"

    @display(description="State")
    def state(self, token: ApiToken) -> SafeString:
        if token.revoked_at:
            return status_chip("cancelled", "Revoked")
        if token.expires_at and token.expires_at <= timezone.now():
            return status_chip("expired", "Expired")
        return status_chip("succeeded", "Usable")

    @display(description="Scopes")
    def allowed(self, token: ApiToken) -> str:
        return "all" if len(token.scopes) == len(ALL_SCOPES) else ", ".join(token.scopes)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return rbac.Role.ADMIN in roles_for(request)

    @action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        ids = list(queryset.values_list("pk", flat=True))
        revoked = sum(accounts.revoke_token(pk, by=user_of(request)) for pk in ids)
        rest = f"; {len(ids) - revoked} had been revoked before" if revoked < len(ids) else ""
        self.message_user(request, f"{revoked} of {len(ids)} revoked{rest}.", messages.SUCCESS)
