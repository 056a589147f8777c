"""The page of what waits for approvals: everything that is needed to decide, and the two buttons."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from executions.approval_asks import Ask, asks_of, undecided_by, waiting
from executions.approval_points import WHOLE_PLAN, Point
from executions.models import ExecutionQuerySet
from executions.pages.plan_view import PlanStep, plan_steps
from executions.pages.views import page, signed_in
from safety.models import User

SHOWN = 50
OTHERS_SHOWN = 20
MACHINES_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Card:
    """One ask as it is shown. `why_not` says why the user cannot decide; empty when it can be decided."""

    ask: Ask
    steps: list[PlanStep]
    why_not: str = ""

    @property
    def left(self) -> timedelta:
        expires = self.ask.execution.approval_expires_at
        return max(timedelta(0), expires - timezone.now()) if expires else timedelta(0)

    @property
    def shown_machines(self) -> list[dict[str, object]]:
        return self.ask.machines[:MACHINES_SHOWN]

    @property
    def more_machines(self) -> int:
        return max(0, len(self.ask.machines) - MACHINES_SHOWN)

    @property
    def asked(self) -> list[Point]:
        """Each thing that is decided on by itself: the plan, or steps and waves."""
        return self.ask.open_points if self.ask.points else [WHOLE_PLAN]

    @property
    def undone_if_refused(self) -> bool:
        """Whether what was done is rolled back when it is refused; it says so for one of the steps that wait."""
        waiting = {point.step for point in self.ask.open_points}
        steps = self.ask.document["steps"]
        return any(step["id"] in waiting and step["on_failure"] == "rollback" for step in steps)


@dataclass
class Waiting:
    """What waits: for the user, for others by the user's wish, and for others altogether."""

    user: User
    mine: list[Card] = field(default_factory=list)
    own: list[Card] = field(default_factory=list)
    others: list[Card] = field(default_factory=list)
    total: int = 0

    def __post_init__(self) -> None:
        """Read it with the same few queries, however many wait."""
        decide = undecided_by(self.user)
        soonest = waiting(self.user).order_by(F("approval_expires_at").asc(nulls_last=True), "pk")
        mine = soonest.filter(pk__in=decide)
        self.total = mine.count()
        self.mine = [self._card(ask) for ask in _asks(mine, SHOWN, in_full=True)]
        rest = soonest.exclude(pk__in=decide)
        self.own = [self._card(ask, "yours") for ask in _asks(rest.filter(actor=self.user), OTHERS_SHOWN)]
        self.others = [self._card(ask, "others") for ask in _asks(rest.exclude(actor=self.user), OTHERS_SHOWN)]

    @property
    def cut(self) -> bool:
        return self.total > len(self.mine)

    def _card(self, ask: Ask, why_not: str = "") -> Card:
        if why_not == "others":
            decided = any(a.by_id == self.user.pk for a in ask.given)
            why_not = "you have approved it" if decided else "you may not decide on it"
        return Card(ask, [] if why_not else plan_steps(ask.document), why_not)


def _asks(rows: ExecutionQuerySet, most: int, *, in_full: bool = False) -> list[Ask]:
    chosen = rows.select_related("actor", "plan", "pending_approval")[:most]
    return asks_of(list(chosen), with_changes=in_full, with_gates=in_full)


@page
@require_GET
def approvals(request: HttpRequest) -> HttpResponse:
    """What waits for approval; with `fragment` only its changing part."""
    context = {"waiting": Waiting(signed_in(request)), "nav": "approvals"}
    template = "approvals/_waiting.html" if "fragment" in request.GET else "approvals/approvals.html"
    return render(request, template, context)


@page
@require_GET
def badge(request: HttpRequest) -> HttpResponse:
    """How many wait for the user's decision, as plain text: what the bar of every page shows."""
    count = waiting(signed_in(request)).filter(pk__in=undecided_by(signed_in(request))).count()
    response = HttpResponse(str(count), content_type="text/plain; charset=utf-8")
    response["Cache-Control"] = "no-store"
    return response
