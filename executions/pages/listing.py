"""The list of executions: which ones, from the parameters of the address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlencode

from django.db.models import Count, Q

from executions.models import Execution, StepTarget
from executions.pages.looks import LOOKS, Look
from executions.states import FINAL_STEP, ExecutionStatus
from safety.models import User

PAGE = 50
COUNTED = 1000  # the counts on the chips are of so many of the newest executions
TEXT_FILTERS = ("q", "tag", "actor", "asset", "environment")
FIRST_CHIPS = ("needs_attention", "pending_approval", "running", "queued", "failed", "succeeded")


@dataclass(frozen=True, slots=True)
class StatusChip:
    status: str
    look: Look
    count: int
    chosen: bool
    query: str


@dataclass(frozen=True, slots=True)
class Row:
    execution: Execution
    done: int
    total: int
    problems: int

    @property
    def percent(self) -> int:
        return round(100 * self.done / self.total) if self.total else 0


@dataclass
class Listing:
    """One page of the list. Everything is read when it is asked for."""

    user: User
    parameters: Mapping[str, str]
    filters: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.filters = {name: self.parameters.get(name, "").strip() for name in (*TEXT_FILTERS, "status")}
        self.filters = {name: value.replace("\0", "") for name, value in self.filters.items()}

    @property
    def active(self) -> bool:
        return any(self.filters.values())

    @cached_property
    def rows(self) -> list[Row]:
        counts = {
            row["execution_id"]: row
            for row in StepTarget.objects.filter(execution__in=[execution.pk for execution in self._page[:PAGE]])
            .order_by()
            .values("execution_id")
            .annotate(
                total=Count("pk"),
                done=Count("pk", filter=Q(status__in=FINAL_STEP)),
                problems=Count("pk", filter=Q(status__in=["failed", "timed_out", "unknown"])),
            )
        }
        none = {"done": 0, "total": 0, "problems": 0}
        found = [(execution, counts.get(execution.pk, none)) for execution in self._page[:PAGE]]
        return [Row(execution, c["done"], c["total"], c["problems"]) for execution, c in found]

    @property
    def older(self) -> str:
        """The query string of the page after this one; empty on the last."""
        return self._query(before=str(self._page[PAGE - 1].pk)) if len(self._page) > PAGE else ""

    @cached_property
    def chips(self) -> list[StatusChip]:
        newest = Execution.objects.visible_to(self.user).order_by("-id").values_list("status", flat=True)[:COUNTED]
        counts = Counter(newest)
        rest = [status for status in ExecutionStatus.values if status not in FIRST_CHIPS and counts[status]]
        shown = [*FIRST_CHIPS, *rest]
        if (chosen := self.filters["status"]) in LOOKS and chosen not in shown:
            shown.append(chosen)
        return [
            StatusChip(
                status=status,
                look=LOOKS[status],
                count=counts[status],
                chosen=status == self.filters["status"],
                query=self._query(status="" if status == self.filters["status"] else status),
            )
            for status in shown
        ]

    def _query(self, **changes: str) -> str:
        return urlencode({name: value for name, value in (self.filters | changes).items() if value})

    @cached_property
    def _page(self) -> list[Execution]:
        rows = Execution.objects.visible_to(self.user).select_related("actor").order_by("-id").filter(self._condition())
        before = self.parameters.get("before", "")
        if before.isdecimal() and len(before) < 19:
            rows = rows.filter(pk__lt=int(before))
        return list(rows[: PAGE + 1])

    def _condition(self) -> Q:
        f = self.filters
        condition = Q()
        if f["status"]:
            condition &= Q(status__in=f["status"].split(","))
        if f["q"]:
            number = f["q"].lstrip("#")
            by_number = Q(pk=int(number)) if number.isdecimal() and len(number) < 19 else Q()
            condition &= Q(title__icontains=f["q"]) | Q(reason__icontains=f["q"]) | by_number
        if f["tag"]:
            condition &= Q(tags__contains=[f["tag"]])
        if f["actor"]:
            condition &= Q(actor__username=f["actor"])
        if f["environment"]:
            condition &= Q(environment=f["environment"])
        if f["asset"]:
            condition &= Q(pk__in=StepTarget.objects.filter(name=f["asset"]).values("execution_id"))
        return condition
