"""The pages people read: the list and an execution."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Concatenate, ParamSpec, cast

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from executions.live.feed import aread_page, read_page
from executions.models import Execution, ExecutionPlan
from executions.pages.listing import Listing
from executions.pages.looks import LOOKS
from executions.pages.overview import Overview, hosts_table
from executions.pages.plan_view import bound_parts, may_read_files, plan_steps
from executions.services.plan_secrets import PlanSecrets
from safety.models import User

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]

FRAGMENTS = ("header", "strip", "rail", "waterfall", "audit", "cancel", "retry")
FEED_LIMIT = 5000


def page(view: View[P]) -> View[P]:
    """Sign-in first."""
    return login_required(view)


def signed_in(request: HttpRequest) -> User:
    """Return the user of a request that `page` has let through."""
    return cast(User, request.user)


def visible(request: HttpRequest, execution_id: int) -> Execution:
    """Return the execution if the user may see it; raises Http404 otherwise."""
    rows = Execution.objects.visible_to(signed_in(request)).with_check().select_related("actor", "parent")
    execution = rows.filter(pk=execution_id).first()
    if execution is None:
        raise Http404("There is no such execution, or it is not for you to see.")
    return execution


@page
@require_GET
def executions(request: HttpRequest) -> HttpResponse:
    """The list; with `fragment` only its changing part."""
    listing = Listing(signed_in(request), request.GET)
    template = "executions/_list.html" if "fragment" in request.GET else "executions/list.html"
    return render(request, template, {"listing": listing, "nav": "executions"})


@page
@require_GET
def execution(request: HttpRequest, execution_id: int) -> HttpResponse:
    """The page of one execution."""
    found = visible(request, execution_id)
    document = ExecutionPlan.objects.filter(pk=found.pk).values_list("document", flat=True).first() or {}
    looks = {status: {"word": look.word, "icon": look.icon} for status, look in LOOKS.items()}
    overview = Overview(found, signed_in(request))
    context = {
        "nav": "executions",
        "overview": overview,
        "own_approval": overview.own_approval,
        "execution": found,
        "document": document,
        "plan_steps": plan_steps(document),
        "files_of": _files_of(found, document, signed_in(request)),
        "secrets": _secrets(found, document, signed_in(request)),
        "looks": looks,
    }
    return render(request, "executions/execution.html", context)


def _secrets(found: Execution, document: Mapping[str, Any], user: User) -> list[dict[str, Any]]:
    """Whether the secrets that are still to be fetched are there for the requester: for those who submit or approve."""
    named = document.get("secrets")
    if not named or found.is_final or not may_read_files(user, found):
        return []
    return PlanSecrets(found.actor).states(named)


def _files_of(found: Execution, document: Mapping[str, Any], user: User) -> int | None:
    """Whose files are offered to be read: those of a plan that takes in any, to those who may."""
    return found.pk if any(True for _ in bound_parts(document)) and may_read_files(user, found) else None


@page
@require_GET
def fragments(request: HttpRequest, execution_id: int) -> HttpResponse:
    """The parts of the page that `names` lists, comma-separated, as the page itself has them."""
    found = visible(request, execution_id)
    names = [name for name in request.GET.get("names", "").split(",") if name in FRAGMENTS]
    context = {"overview": Overview(found, signed_in(request)), "execution": found, "names": names}
    return render(request, "executions/fragments.html", context)


@page
@require_GET
def hosts(request: HttpRequest, execution_id: int) -> JsonResponse:
    """The matrix of hosts and steps."""
    return JsonResponse(hosts_table(visible(request, execution_id)))


@page
@require_GET
def feed(request: HttpRequest, execution_id: int) -> JsonResponse:
    """What the socket would send, for browsers that cannot hold one."""
    found = visible(request, execution_id)
    after = request.GET.get("after", "0")
    if not after.isdecimal() or len(after) > 18:
        return JsonResponse({"error": "after must be a whole number."}, status=400)
    answer = read_page(found.pk, int(after), FEED_LIMIT)
    last = answer.items[-1]["seq"] if answer.items else int(after)
    ended = found.is_final and (last >= found.last_seq or found.events_pruned_at is not None)
    return JsonResponse({"items": answer.items, "more": answer.more, "ended": ended, "removed": found.removal_notice})


@page
@require_GET
def log(request: HttpRequest, execution_id: int) -> HttpResponseBase:
    """The whole output as a text file; with `target` that of one host of one step."""
    found = visible(request, execution_id)
    wanted = request.GET.get("target", "")
    target = int(wanted) if wanted.isdecimal() and len(wanted) < 19 else None
    kind = "text/plain; charset=utf-8"
    response: HttpResponseBase = StreamingHttpResponse(_lines(found.pk, target), content_type=kind)
    if found.removal_notice:
        response = HttpResponse(f"{found.removal_notice}\n", content_type=kind)
    suffix = f"-{target}" if target else ""
    response["Content-Disposition"] = f'attachment; filename="execution-{found.pk}{suffix}.log"'
    return response


async def _lines(execution_id: int, target: int | None) -> AsyncIterator[str]:
    """Yield the output as it was printed; when it is that of several hosts, each change of host gets a heading."""
    cursor, source, at_line_start = 0, None, True
    more = True
    while more:
        answer = await aread_page(execution_id, cursor, FEED_LIMIT)
        more = answer.more
        pieces: list[str] = []
        for item in answer.items:
            cursor = item["seq"]
            data = item["data"]
            if item["kind"] != "output" or (target is not None and data["step_target"] != target):
                continue
            if target is None and source != data["step_target"]:
                source = data["step_target"]
                heading = f"==> {_undo(data)}{data['step']} {data['target']} <==\n"
                pieces.append(heading if at_line_start else f"\n{heading}")
            pieces.append(data["text"])
            at_line_start = data["text"].endswith("\n")
        yield "".join(pieces)


def _undo(data: Mapping[str, Any]) -> str:
    return "undo " if data.get("kind") == "rollback" else ""
