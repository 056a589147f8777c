"""The pages of the inventory: the list, one asset, an import."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from executions import services
from executions.host_keys import fingerprints_of
from executions.inventory_formats import FORMATS, UnknownFormat, format_of
from executions.models import Asset, Execution, StepTarget
from executions.pages.asset_list import AssetListing
from executions.pages.looks import HEALTH, UNCHECKED
from executions.pages.views import page, signed_in
from executions.services import Refused
from executions.services.plan_secrets import PlanSecrets
from queueing.models import AssetLock
from safety import rbac
from safety.models import User

NEWEST = 2_000  # executions among which those on an asset are looked for: steps have no index on their assets
SHOWN_EXECUTIONS = 10
MOST_BYTES = 2 * 1024 * 1024
CHECK_FIRST = 3


@page
@require_GET
def assets(request: HttpRequest) -> HttpResponse:
    """The machines that plans can name, how they are, and who has them now."""
    user = signed_in(request)
    context = {"nav": "assets", "listing": AssetListing(user, request.GET), "operates": rbac.can_operate(user)}
    return render(request, "executions/assets.html", context)


@page
@require_GET
def asset(request: HttpRequest, asset_id: int) -> HttpResponse:
    """One asset: where it is, how it is, who has it, what was done on it."""
    user = signed_in(request)
    found = visible_asset(user, asset_id)
    context: dict[str, Any] = {
        "nav": "assets",
        "asset": found,
        "look": HEALTH.get(found.health, UNCHECKED),
        "locks": AssetLock.objects.filter(asset_id=found.pk, state="held").order_by("held_at"),
        "credential": PlanSecrets(user).credentials({found.credential}).get(found.credential)
        if found.credential
        else None,
        "host_keys": fingerprints_of(found.host_key),
        "executions": _executions(user, found),
        "may_check": bool(rbac.permitted_assets(user, "read", [found.pk])),
    }
    return render(request, "executions/asset.html", context)


@page
@require_POST
def check(request: HttpRequest, asset_id: int) -> HttpResponse:
    """Have a worker check the asset, and show the execution that does it."""
    user = signed_in(request)
    found = visible_asset(user, asset_id)
    try:
        accepted = services.check_assets([found], by=user, priority=CHECK_FIRST)[0]
        if isinstance(accepted, Refused):
            raise accepted
    except Refused as refused:
        messages.error(request, f"{refused.message} {refused.how_to_fix}")
        return redirect("executions:asset", found.pk)
    return redirect("executions:detail", accepted.execution_id)


@page
@require_http_methods(["GET", "POST"])
def import_assets(request: HttpRequest) -> HttpResponse:
    """Show the form; with POST what an import would do, below it, or, with `do=import`, do it."""
    user = signed_in(request)
    if not rbac.can_operate(user):
        raise PermissionDenied("Importing assets is for the operator and admin roles.")
    text, format_name, problem = _given(request)
    update = bool(request.POST.get("update"))
    context: dict[str, Any] = {
        "nav": "assets", "text": text, "format": format_name, "formats": list(FORMATS), "update": update,
    }  # fmt: skip
    if request.method == "POST":
        is_import = request.POST.get("do") == "import"
        try:
            if problem:
                raise Refused("import_refused", problem, "", status=422)
            done = services.import_inventory(
                text.encode("utf-8", "surrogatepass"), format_name, by=user, update=update, dry_run=not is_import
            )
        except Refused as refused:
            context["problems"] = refused.problems()
        else:
            if is_import:
                said = f"{len(done.created)} created, {len(done.updated)} changed, {len(done.unchanged)} as before."
                messages.success(request, said)
                return redirect("executions:assets")
            context["done"] = done
            context["changes"] = [(name, done.changes.get(name, [])) for name in done.updated]
    return render(request, "executions/asset_import.html", context)


def _given(request: HttpRequest) -> tuple[str, str, str]:
    """Return the text, its format, and what is wrong with the file, if one was sent and cannot be used."""
    text, format_name = request.POST.get("text", ""), request.POST.get("format", "csv")
    file = request.FILES.get("file")
    if file is None:
        return text, format_name, ""
    if (file.size or 0) > MOST_BYTES:
        return (
            text,
            format_name,
            f"The file is larger than {MOST_BYTES:,} bytes: use manage.py import_assets.",
        )
    try:
        return file.read().decode("utf-8-sig"), format_of(file.name or ""), ""
    except UnicodeDecodeError:
        return text, format_name, "The file is not UTF-8 text. Save it as UTF-8."
    except UnknownFormat as error:
        return text, format_name, str(error)


def visible_asset(user: User, asset_id: int) -> Asset:
    """Return an asset, saying whether it is stale; raises Http404 when it is not for this user to see."""
    rows = Asset.objects.filter(rbac.visible_assets(user), pk=asset_id).saying_stale().prefetch_related("groups")
    found = rows.first() if asset_id < 2**63 else None
    if found is None:
        raise Http404("There is no such asset, or it is not for you to see.")
    return found


def _executions(user: User, asset: Asset) -> list[Execution]:
    """Return the last executions on an asset that the user may see."""
    newest = list(Execution.objects.visible_to(user).order_by("-id").values_list("pk", flat=True)[:NEWEST])
    touching = StepTarget.objects.filter(execution__in=newest, asset=asset).values("execution_id")
    rows = Execution.objects.filter(pk__in=touching).select_related("actor").order_by("-id")
    return list(rows[:SHOWN_EXECUTIONS])
