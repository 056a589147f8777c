"""How the admin looks and what its menu holds: the colours of the console, one list of links."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _static(path: str) -> Any:
    def address(request: HttpRequest) -> str:
        return static(path)

    return address


def _no_colors(request: HttpRequest) -> dict[str, Any]:
    return {}


def _never(request: HttpRequest) -> bool:
    return False


def _sees_the_fleet(request: HttpRequest) -> bool:
    from safety.models import DEFAULT_TENANT  # the models are not there yet when the settings are read

    tenant = getattr(request.user, "tenant", None)
    return tenant is not None and tenant.name == DEFAULT_TENANT


def _has(request: HttpRequest, role: str) -> bool:
    from safety.admin_access import roles_for  # as above; asked for once, however many links there are

    return role in roles_for(request)


def _administers(request: HttpRequest) -> bool:
    return _has(request, "admin")


def _reads_the_audit(request: HttpRequest) -> bool:
    return _has(request, "operator")


def _link(title: str, icon: str, name: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(name)}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "OpsConductor",
    "SITE_HEADER": "OpsConductor",
    "SITE_SUBHEADER": "Operators' desk",
    "SITE_URL": "/executions/",
    "SITE_ICON": _static("favicon.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _static("favicon.svg")}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": True,
    "SHOW_BACK_BUTTON": True,
        "DASHBOARD_CALLBACK": "executions.admin_home.home",
    "SCRIPTS": [_static("js/admin.js")],
    "STYLES": [_static("css/tokens.css"), _static("css/admin_theme.css"), _static("css/admin.css")],
    # Written into every page as a style, which the browser is told to refuse: they are in static/css/admin_theme.css.
    "COLORS": _no_colors,  # a plain {} would be filled up with the defaults
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "Work",
                "items": [
                    _link("What needs a person", "crisis_alert", "admin:index"),
                    # its address is a part of the admin's own ones, which would all be taken for it
                    _link("Live pages", "terminal", "executions:list") | {"active": _never},
                    _link("Executions", "list_alt", "admin:executions_execution_changelist"),
                    _link("Steps", "checklist", "admin:executions_step_changelist"),
                    _link("DLQ", "report", "admin:queueing_deadletter_changelist"),
                ],
            },
            {
                "title": "Queue and workers",
                "items": [
                    _link("Queue", "queue", "admin:queueing_queueentry_changelist"),
                    _link("Locks", "lock", "admin:queueing_assetlock_changelist"),
                    _link("Fleet", "memory", "admin:queueing_worker_changelist") | {"permission": _sees_the_fleet},
                    _link("Scaling decisions", "trending_up", "admin:queueing_scalingdecision_changelist")
                    | {"permission": _sees_the_fleet},
                ],
            },
            {
                "title": "Inventory",
                "items": [
                    _link("Assets", "dns", "admin:executions_asset_changelist"),
                    _link("Asset groups", "folder", "admin:executions_assetgroup_changelist"),
                ],
            },
            {
                "title": "People and policies",
                "items": [
                    _link("Users", "person", "admin:safety_user_changelist"),
                    _link("Roles and teams", "group", "admin:auth_group_changelist"),
                    _link("API tokens", "key", "admin:safety_apitoken_changelist"),
                    _link("Secrets", "passkey", "admin:safety_secret_changelist") | {"permission": _administers},
                    _link("Rules for secrets", "rule", "admin:safety_secretrule_changelist")
                    | {"permission": _administers},
                    _link("Timeout policies", "timer", "admin:safety_timeoutpolicy_changelist"),
                    _link("Audit", "history", "admin:safety_auditrecord_changelist") | {"permission": _reads_the_audit},
                    _link("Masking rules", "visibility_off", "admin:safety_maskingrule_changelist"),
                ],
            },
        ],
    },
}  # fmt: skip
