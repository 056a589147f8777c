"""The page of an asset's host key: what the machine shows now beside what is known, and the button that pins it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from executions.live.host_key_looks import Choice, Offer, look, offers, pin_host_key
from executions.models import Asset, Connection, Execution
from executions.pages.assets import visible_asset
from executions.pages.views import page, signed_in
from executions.services import Refused
from executions.states import FINAL_EXECUTION
from safety import rbac
from safety.models import User

BIGGEST_ID = 2**63 - 1


@page
@require_http_methods(["GET", "POST"])
def host_key(request: HttpRequest, asset_id: int) -> HttpResponse:
    """Show what the machine showed in the execution `look`; with POST have it asked, or, with `do=pin`, pin a key."""
    user = signed_in(request)
    asset = visible_asset(user, asset_id)
    if asset.connection != Connection.SSH:
        raise Http404("Only assets with the connection ssh have a host key.")
    if request.method == "POST":
        return _pin(request, asset, user) if request.POST.get("do") == "pin" else _ask(request, asset, user)
    execution = _look_of(request, user)
    context: dict[str, Any] = {
        "nav": "assets",
        "asset": asset,
        "execution": execution,
        "offer": offers([asset], [execution.pk])[0] if execution else Offer(asset),
        "is_over": execution is not None and execution.status in FINAL_EXECUTION,
        "may_ask": asset.is_active and bool(rbac.permitted_assets(user, "read", [asset.pk])),
        "may_pin": rbac.can_operate(user),
    }
    return render(request, "executions/asset_host_key.html", context)


def _look_of(request: HttpRequest, user: User) -> Execution | None:
    number = request.GET.get("look", "")
    if not number.isdecimal() or int(number) > BIGGEST_ID:
        return None
    return Execution.objects.visible_to(user).filter(pk=int(number)).first()


def _ask(request: HttpRequest, asset: Asset, user: User) -> HttpResponse:
    try:
        execution_id = look([asset], by=user)[0]
    except Refused as refused:
        messages.error(request, f"{refused.message} {refused.how_to_fix}")
        return redirect("executions:asset_host_key", asset.pk)
    return redirect(f"{reverse('executions:asset_host_key', args=[asset.pk])}?look={execution_id}")


def _pin(request: HttpRequest, asset: Asset, user: User) -> HttpResponse:
    fingerprint = request.POST.get("fingerprint", "")
    choice = Choice(asset.pk, fingerprint, tuple(request.POST.getlist("replaces")))
    try:
        pin_host_key(choice, by=user)
    except Refused as refused:
        messages.error(request, f"{refused.message} {refused.how_to_fix}")
        return redirect("executions:asset_host_key", asset.pk)
    messages.success(request, f"{fingerprint} is now the host key of {asset.name}.")
    return redirect("executions:asset", asset.pk)
