"""What people do from the pages: each a POST that calls a verb, says what came of it, and goes back to the page."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from executions import services
from executions.pages.views import page, signed_in, visible
from executions.services import Refused
from queueing.models import DeadLetter

Answer = str | tuple[str, int]  # what to say, or that with the execution to go to


def _do(
    request: HttpRequest, execution_id: int, verb: Callable[[], Answer], *, back: str | None = None
) -> HttpResponse:
    """Do it and lead to the execution's page, or `back` to the page with that name."""
    visible(request, execution_id)
    goal = execution_id
    try:
        answer = verb()
    except Refused as refused:
        messages.error(request, f"{refused.message} {refused.how_to_fix}".strip())
        for error in refused.errors[:5]:
            messages.error(request, f"{error.get('path', '')}: {error.get('message', '')}".lstrip(": "))
    else:
        said, goal = (answer, execution_id) if isinstance(answer, str) else answer
        messages.success(request, said)
    return redirect(back) if back else redirect("executions:detail", goal)


@page
@require_POST
def cancel(request: HttpRequest, execution_id: int) -> HttpResponse:
    def verb() -> str:
        status = services.cancel(execution_id, by=signed_in(request), reason=request.POST.get("reason", "").strip())
        return "It is cancelled." if status == "cancelled" else "Its worker is stopping it."

    return _do(request, execution_id, verb)


def _decide(
    request: HttpRequest, execution_id: int, verb: Callable[..., str], said: Callable[[str], str]
) -> HttpResponse:
    """Decide on what the form names: a step, or (empty) the plan; then back to where the form was."""

    def decided() -> str:
        status = verb(
            execution_id,
            by=signed_in(request),
            comment=request.POST.get("comment", "").strip(),
            step=request.POST.get("step"),
            wave=_wave(request),
        )
        return f"#{execution_id}: {said(status)}"

    return _do(request, execution_id, decided, back=_back(request))


def _wave(request: HttpRequest) -> int | None:
    """The wave that was shown; 0 for a step, or the plan, as a whole."""
    text = request.POST.get("wave", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _back(request: HttpRequest) -> str | None:
    return "approvals:list" if request.POST.get("back") == "approvals" else None


@page
@require_POST
def approve(request: HttpRequest, execution_id: int) -> HttpResponse:
    def said(status: str) -> str:
        return "approved, it is in the queue." if status == "queued" else "approved. Another approval is needed."

    return _decide(request, execution_id, services.approve, said)


@page
@require_POST
def reject(request: HttpRequest, execution_id: int) -> HttpResponse:
    def said(status: str) -> str:
        if status == "cancelling":
            return "rejected. What it has done is being undone; then it ends."
        return "rejected, nothing more of it will run."

    return _decide(request, execution_id, services.reject, said)


@page
@require_POST
def withdraw_approval(request: HttpRequest, execution_id: int) -> HttpResponse:
    def verb() -> str:
        reason = request.POST.get("reason", "").strip()
        status = services.withdraw_approval(execution_id, by=signed_in(request), reason=reason)
        said = {
            "cancelled": "it is cancelled.",
            "cancelling": "its worker is stopping it.",
            "pending_approval": "it waits for somebody else.",
        }
        return f"Your approval is withdrawn: {said.get(status, 'it does not count any more.')}"

    return _do(request, execution_id, verb, back=_back(request))


@page
@require_POST
def retry(request: HttpRequest, execution_id: int) -> HttpResponse:
    def verb() -> tuple[str, int]:
        accepted = services.retry(
            execution_id,
            by=signed_in(request),
            reason=request.POST.get("reason", "").strip(),
            from_start=request.POST.get("from_start") == "1",
            only=request.POST.get("only", ""),
        )
        return f"This is the retry of #{execution_id}.", accepted.execution_id

    return _do(request, execution_id, verb)


@page
@require_POST
def resolve(request: HttpRequest, execution_id: int) -> HttpResponse:
    def verb() -> str:
        status = services.resolve(
            execution_id,
            by=signed_in(request),
            step=request.POST.get("step", ""),
            outcome=request.POST.get("as", ""),
            reason=request.POST.get("reason", "").strip(),
        )
        return "Noted: it goes on from there." if status == "queued" else "Noted. Another step waits for an answer."

    return _do(request, execution_id, verb)


@page
@require_POST
def dead_letter(request: HttpRequest, execution_id: int) -> HttpResponse:
    """Requeue or discard the open DLQ entry of the execution."""

    def verb() -> str:
        user, reason = signed_in(request), request.POST.get("reason", "").strip()
        entries = DeadLetter.objects.filter(execution_id=execution_id, tenant_id=user.tenant_id, state="open")
        ids = list(entries.values_list("pk", flat=True))
        if request.POST.get("do") == "discard":
            outcomes = services.discard_dead_letters(ids, by=user, reason=reason)
        else:
            outcomes = services.requeue_dead_letters(ids, by=user, reason=reason)
        outcome = next(iter(outcomes.values()), "moved_on")
        said = {
            "requeued": "It is in the queue again.",
            "discarded": "Given up: it ended as failed.",
            "forbidden": "You may not decide that.",
            "unknown_outcome": "Say first what became of the steps whose outcome is unknown.",
        }
        if outcome not in ("requeued", "discarded"):
            text = said.get(outcome, "Somebody else has decided already.")
            raise Refused(outcome, text, "", status=409)
        return said[outcome]

    return _do(request, execution_id, verb)
