"""The asset-queries of a plan, carried out when it is submitted: their rows become targets, which are approved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from executions.plans.inventory import Inventory
from executions.plans.order import Graph
from executions.plans.problems import Code, Problems
from executions.plans.templates import Template, templates_in

if TYPE_CHECKING:
    from executions.plans.steps import Draft

CONNECTOR = "inventory"


class Queries:
    """`rows` by the step's place: what the query finds now; None while its filters hold templates or are wrong."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._drafts = drafts
        self._wrong: set[int] = set()
        self.rows: dict[int, Sequence[Mapping[str, object]] | None] = {
            place: None
            for place, draft in enumerate(drafts)
            if draft.tool is not None and draft.tool.connector == CONNECTOR
        }

    def run(self, inventory: Inventory, problems: Problems) -> None:
        """Carry out every query whose inputs are known and right; a filter the inventory refuses is noted."""
        for place in self.rows:
            draft = self._drafts[place]
            path = f"{draft.path}.inputs"
            if problems.has_at(path):
                self._wrong.add(place)
                continue
            if next(templates_in(draft.inputs), None) is not None:
                continue
            filters = draft.inputs.get("filters") or {}
            fields = draft.inputs.get("fields") or None
            try:
                if fields is not None:
                    inventory.query(filters, fields)
                self.rows[place] = inventory.query(filters, None)
            except ValueError as error:
                self._wrong.add(place)
                problems.add(
                    Code.INVALID_INPUT,
                    f"{path}.filters",
                    f"The inventory refuses the query: {error}",
                    "Use filters and fields that the inventory knows; one that is unknown is never ignored.",
                )

    def filters(self, place: int) -> Mapping[str, object]:
        """Return what the query at `place` filters by."""
        return self._drafts[place].inputs.get("filters") or {}

    def is_wrong(self, place: int) -> bool:
        """Whether the query itself is refused, so that nothing more need be said about what comes of it."""
        return place in self._wrong

    def as_rows(self, template: Template) -> Template:
        """What a query prints are its rows: as a target `{{ steps.ID.stdout }}` means each of them."""
        printed = template.kind == "output" and template.path == ("stdout",)
        if printed and any(self._drafts[place].id == template.step_id for place in self.rows):
            return Template("assets", template.step_id, ())
        return template

    def find(self, step_id: str | None, place: int, graph: Graph | None) -> int | str:
        """The query meant by the step at `place`, by id or the nearest before it, or a sentence why there is none.

        The step is made to wait for the query.
        """
        if step_id is not None:
            named = next((at for at, draft in enumerate(self._drafts) if draft.id == step_id), None)
            if named is None:
                return "there is no such step."
            if named not in self.rows:
                return "that step is not an asset-query."
            candidates = [named]
        else:
            candidates = sorted(self.rows, reverse=True)
        if graph is None:
            earlier = [one for one in candidates if one < place]
            return earlier[0] if earlier else "it comes after no asset-query."
        for before in (True, False):
            for one in candidates:
                if graph.is_before(one, place) if before else one < place and graph.require(one, place):
                    return one
        return "it comes after no asset-query." if step_id is None else "that step does not come before this one."
