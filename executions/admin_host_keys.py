"""The action of the admin that shows the host keys of marked assets, and pins those that somebody has compared."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from executions.host_keys import Standing
from executions.live.host_key_looks import Choice, look, offers, pin_host_keys
from executions.models import Asset, Connection
from executions.services import Refused
from executions.services.checks import BATCH_ASSETS
from safety.admin_access import user_of

MOST = BATCH_ASSETS  # one execution asks them, and one person compares them


def pin(request: HttpRequest, queryset: QuerySet[Asset], *, context: dict[str, Any]) -> HttpResponse | None:
    """Ask the marked machines and show their keys; when keys were chosen there, pin these and say what became of it."""
    by_ssh = list(queryset.filter(connection=Connection.SSH, is_active=True).order_by("name")[: MOST + 1])
    if request.POST.get("do") == "pin":
        _pin(request)
        return None
    if not by_ssh or len(by_ssh) > MOST:
        problem = f"Mark at most {MOST} assets." if by_ssh else "None of these is in use and reached by ssh."
        messages.error(request, f"{problem} No machine was asked.")
        return None
    try:
        executions = look(by_ssh, by=user_of(request))
    except Refused as refused:
        messages.error(request, f"{refused.message} {refused.how_to_fix}")
        return None
    found = offers(by_ssh, executions)
    shown = {
        **context,
        "title": "Pin host keys",
        "offers": found,
        "can_pin": any(offer.keys and offer.standing != Standing.SAME for offer in found),
        "execution": executions[0],
        "left_out": queryset.count() - len(by_ssh),
    }
    return TemplateResponse(request, "admin/executions/pin_host_keys.html", shown)


def _pin(request: HttpRequest) -> None:
    choices = []
    for name, fingerprint in request.POST.items():
        number = name.removeprefix("key-")
        if name.startswith("key-") and number.isdecimal() and isinstance(fingerprint, str) and fingerprint:
            choices.append(Choice(int(number), fingerprint, tuple(request.POST.getlist(f"known-{number}"))))
    outcomes = pin_host_keys(choices[:MOST], by=user_of(request))
    pinned = [outcome.name for outcome in outcomes if isinstance(outcome, Asset)]
    if pinned:
        messages.success(request, f"{len(pinned)} pinned: {', '.join(pinned[:10])}.")
    if not choices:
        messages.warning(request, "No key was chosen, so none was pinned.")
    for outcome in outcomes:
        if isinstance(outcome, Refused):
            messages.error(request, f"{outcome.message} {outcome.how_to_fix}")
