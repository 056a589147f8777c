"""Templates in inputs: each must have a source that is there before the step begins, or the plan is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from executions.plans.inputs import KNOWN_TEMPLATES
from executions.plans.order import Graph
from executions.plans.problems import Code, Problems, shown
from executions.plans.queries import Queries
from executions.plans.templates import BadTemplate, Template, UnresolvedTemplate, rewrite, templates_in, walk

if TYPE_CHECKING:
    from executions.plans.steps import Draft


class ReferenceChecker:
    """Checks the templates of all steps of one plan, and makes steps wait for those whose output they take."""

    def __init__(self, drafts: Sequence[Draft], queries: Queries, graph: Graph | None, problems: Problems) -> None:
        self.drafts = drafts
        self.queries = queries
        self.graph = graph
        self.problems = problems
        self._places: dict[str, int] = {}
        for place, draft in enumerate(drafts):
            self._places.setdefault(draft.id, place)

    def check(self, place: int, draft: Draft) -> None:
        """Note templates without a source; fix the values over asset-query rows; name queries by their step's id."""
        draft.inputs = self._inputs(place, draft, draft.inputs, f"{draft.path}.inputs", own=False)
        if draft.rollback is not None:
            path = f"{draft.rollback.path}.inputs"
            draft.rollback.inputs = self._inputs(place, draft, draft.rollback.inputs, path, own=True)

    def _inputs(self, place: int, draft: Draft, inputs: dict[str, Any], path: str, *, own: bool) -> dict[str, Any]:
        seen = False
        whose: dict[Template, Template] = {}
        for where, template in templates_in(inputs):
            seen = True
            if isinstance(template, BadTemplate):
                continue  # noted when the inputs were read
            try:
                whose[template] = self._source(place, draft, template, own=own)
            except UnresolvedTemplate as error:
                self.problems.add(Code.UNRESOLVED_PLACEHOLDER, f"{path}{where}", str(error), KNOWN_TEMPLATES)
        if not seen or self.problems:
            return inputs
        rewritten = rewrite(inputs, lambda template: whose[template].expression)
        assert isinstance(rewritten, dict)
        return rewritten

    def _source(self, place: int, draft: Draft, template: Template, *, own: bool) -> Template:
        """Check one template and return it with its source named. Raises UnresolvedTemplate with a sentence."""
        if template.kind == "row":
            self._check_row(draft, template)
        elif template.kind == "assets":
            return self._check_assets(place, draft, template)
        elif template.kind == "output":
            self._check_output(place, draft, template, own=own)
        return template

    def _check_row(self, draft: Draft, template: Template) -> None:
        if draft.targets_failed:
            return  # said already; which fields there are is not known
        if not draft.targets:
            raise UnresolvedTemplate(f"{{{{ {shown(template.expression)} }}}} has no source: the step has no target.")
        for asset, row in draft.targets:
            walk(row, template.path, f"the target {asset.name}", template)

    def _check_assets(self, place: int, draft: Draft, template: Template) -> Template:
        query = self.queries.find(template.step_id, place, self.graph)
        if isinstance(query, str):
            raise UnresolvedTemplate(f"{{{{ {shown(template.expression)} }}}}: {query}")
        named = Template("assets", self.drafts[query].id, template.path)
        rows = self.queries.rows[query]
        if rows is None and not self.queries.is_wrong(query):
            raise UnresolvedTemplate(
                f"{{{{ {shown(template.expression)} }}}}: the filters of that asset-query hold templates, "
                "so its rows are known only when the plan runs."
            )
        if rows is not None:
            source: Mapping[str, object] = {"assets": rows}
            value = walk(source, ("assets", *template.path), f"the asset-query {shown(named.step_id or '')}", template)
            draft.resolved[named.expression] = value
        return named

    def _check_output(self, place: int, draft: Draft, template: Template, *, own: bool) -> None:
        said = f"{{{{ {shown(template.expression)} }}}}"
        earlier = self._places.get(template.step_id or "")
        if earlier is None:
            raise UnresolvedTemplate(f"{said}: there is no step {shown(template.step_id or '')!r}.")
        if own and earlier == place:
            return  # what is to be undone has run
        if self.graph is not None and not self.graph.require(earlier, place):
            raise UnresolvedTemplate(f"{said}: that step does not end before this one begins.")
        theirs = {asset.asset_id for asset, _ in self.drafts[earlier].targets}
        mine = {asset.asset_id for asset, _ in draft.targets}
        if len(theirs) > 1 and not (mine and mine <= theirs):
            raise UnresolvedTemplate(
                f"{said}: that step has {len(theirs)} targets, and this one is not on each of them."
            )
