"""A new execution by hand: paste a plan, see what it would do, submit it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from executions import services
from executions.live.reachability import check_machines
from executions.pages.plan_view import inputs_of
from executions.pages.views import page, signed_in
from executions.services import Refused, Submission

EXAMPLE = """\
title: How is this machine?
steps:
  - id: uptime
    tool: info_display
    inputs: {kind: uptime}
    targets: [localhost]
  - id: disk
    tool: shell
    inputs: {command: df -h}
    targets: [localhost]
"""


@page
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Show the form; with POST a preview below it, or, with `do=submit`, make the execution and go to its page;
    with `do=check`, one that changes nothing; `do=reach` tries the machines of the preview besides."""
    text = request.POST.get("plan", EXAMPLE)
    reason = request.POST.get("reason", "").strip()
    context: dict[str, Any] = {"nav": "new", "plan": text, "reason": reason}
    if request.method == "POST":
        user = signed_in(request)
        if request.POST.get("do") in ("submit", "check"):
            try:
                wanted = Submission(document=text, reason=reason, check=request.POST.get("do") == "check")
                accepted = services.submit(wanted, by=user)
            except Refused as refused:
                context["preview"] = {"acceptable": False, "errors": refused.problems()}
            else:
                if accepted.replay:
                    messages.info(request, "The same plan was submitted before: this is its execution.")
                return redirect("executions:detail", accepted.execution_id)
        else:
            context["preview"] = services.preview(text, by=user)
            if request.POST.get("do") == "reach" and context["preview"]["acceptable"]:
                check_machines(context["preview"], by=user)
        for step in context["preview"].get("steps", []):
            step["shown_inputs"] = inputs_of(step["tool"], step["inputs"])
    return render(request, "executions/new.html", context, status=200)
