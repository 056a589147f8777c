"""From what a step names to machines of the inventory. Exactly, or not at all: nothing is ever guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from executions.plans.compiled import Selector
from executions.plans.inventory import Inventory, InventoryAsset
from executions.plans.limits import PlanLimits
from executions.plans.order import Graph
from executions.plans.placeholders import placeholder_in
from executions.plans.problems import Candidate, Code, Problems, shown
from executions.plans.queries import Queries
from executions.plans.templates import (
    EVERY,
    BadTemplate,
    Template,
    TemplateContext,
    UnresolvedTemplate,
    as_text,
    render,
    split,
)
from executions.plans.vocabulary import STEP_NAMES, is_given

if TYPE_CHECKING:
    from executions.plans.steps import Draft

_FIX_UNKNOWN = "Check the spelling, or add the machine to the inventory."
_FIX_TEMPLATE = (
    "Name the machines, or use a template over the rows of an earlier asset-query, such as {{ hostname }}: targets "
    "are part of what is approved, so they must be known now."
)


class _Refused(Exception):
    """One reference that leads to no target; the problem is noted where it is caught."""

    def __init__(
        self, code: Code, message: str, how_to_fix: str = _FIX_UNKNOWN, candidates: tuple[Candidate, ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.how_to_fix = how_to_fix
        self.candidates = candidates


class _AlreadyTold(Exception):
    """The reference leads to no target because of something that was noted elsewhere."""


class TargetResolver:
    """Resolves the targets of all steps of one plan; a name is looked up once."""

    def __init__(
        self, inventory: Inventory, limits: PlanLimits, queries: Queries, graph: Graph | None, problems: Problems
    ) -> None:
        self.inventory = inventory
        self.limits = limits
        self.queries = queries
        self.graph = graph
        self.problems = problems
        self.assets: dict[int, InventoryAsset] = {}
        self._looked_up: dict[str, Sequence[InventoryAsset]] = {}
        self._rows: dict[int, dict[str, object]] = {}
        self._selectors: dict[object, Selector] = {}
        self._uses = 0
        self._told_too_many = False

    def resolve(self, place: int, draft: Draft) -> None:
        """Fill in the step's targets, each machine once, in the order in which they are named."""
        found: dict[int, tuple[InventoryAsset, dict[str, object]]] = {}
        scalars: dict[str, InventoryAsset] = {}
        for path, ref in draft.target_refs:
            try:
                resolved = self._reference(ref, place, by_id=path.endswith(".target_asset_id"))
            except _AlreadyTold:
                draft.targets_failed = True
                continue
            except _Refused as refused:
                draft.targets_failed = True
                self.problems.add(refused.code, path, str(refused), refused.how_to_fix, refused.candidates)
                continue
            if len(resolved) == 1 and path.endswith((".target_asset_id", ".target_hostname")):
                scalars[path] = resolved[0][0]
            for asset, row in resolved:
                found.setdefault(asset.asset_id, (asset, row))
        self._check_agreement(draft, scalars)
        if draft.tool is not None and draft.tool.needs_target and not found and not draft.targets_failed:
            draft.targets_failed = True
            self.problems.add(
                Code.MISSING_TARGET,
                f"{draft.path}.targets",
                f"The tool {draft.tool.name} acts on a machine, and the step names none.",
                "Name one: targets: [localhost] for this machine, a hostname, group:NAME or tag:NAME.",
            )
        draft.targets = list(found.values())
        self._check_connection(draft)
        self._count(draft)

    def selectors(self) -> list[Selector]:
        """Return the groups, tags and queries through which targets were found, each once, in their order."""
        return list(self._selectors.values())

    def _note_selector(self, kind: Literal["group", "tag"], name: str, found: Sequence[InventoryAsset]) -> None:
        ids = sorted(asset.asset_id for asset in found)
        self._selectors.setdefault((kind, name), {"kind": kind, "name": name, "filters": {}, "asset_ids": ids})

    def _note_query(self, place: int, rows: Sequence[Mapping[str, object]]) -> None:
        filters = dict(self.queries.filters(place))
        ids = sorted(int(str(row["id"])) for row in rows if "id" in row)
        self._selectors.setdefault(place, {"kind": "query", "name": "", "filters": filters, "asset_ids": ids})

    def _check_agreement(self, draft: Draft, scalars: dict[str, InventoryAsset]) -> None:
        """An id and a hostname of one step speak of one machine; if they do not, somebody is wrong."""
        if len({asset.asset_id for asset in scalars.values()}) > 1:
            draft.targets_failed = True
            self.problems.add(
                Code.AMBIGUOUS_ASSET,
                f"{draft.path}.target_hostname",
                "target_asset_id and target_hostname name different machines.",
                "Keep the right one, or list both under targets.",
                tuple(_candidate(asset) for asset in scalars.values()),
            )

    def _check_connection(self, draft: Draft) -> None:
        wanted = draft.connection_type
        if wanted is None:
            return
        for asset, _ in draft.targets:
            if asset.connection == wanted:
                continue
            if wanted == "local":
                self.problems.add(
                    Code.INVALID_INPUT,
                    f"{draft.path}.connection_type",
                    f"{asset.name} is reached through {asset.connection}, so nothing can run on it as local.",
                    "Leave connection_type out, or name an asset with connection local.",
                )
                return
            draft.not_checked.append(
                f"The plan asks for connection {wanted}; {asset.name} is reached through {asset.connection}."
            )

    def _count(self, draft: Draft) -> None:
        self.assets.update((asset.asset_id, asset) for asset, _ in draft.targets)
        self._uses += len(draft.targets)
        limits = self.limits
        if self._told_too_many or (len(self.assets) <= limits.max_targets and self._uses <= limits.max_step_targets):
            return
        self._told_too_many = True
        many = f"more than {limits.max_targets:,} different machines"
        if len(self.assets) <= limits.max_targets:
            many = f"more than {limits.max_step_targets:,} machines, counted once per step"
        self.problems.add(
            Code.TOO_MANY_TARGETS,
            f"{draft.path}.targets",
            f"With this step the plan touches {many}.",
            "Name fewer targets, or split the plan.",
        )

    def _reference(self, ref: object, place: int, *, by_id: bool) -> list[tuple[InventoryAsset, dict[str, object]]]:
        if isinstance(ref, Mapping):
            ref, by_id = _only_value(ref)
        if isinstance(ref, float) and ref.is_integer():
            ref = int(ref)
        if isinstance(ref, bool) or not isinstance(ref, (str, int)):
            raise _Refused(
                Code.INVALID_INPUT, "A target must be an asset id or a name.", "Write a hostname, or group:NAME."
            )
        if isinstance(ref, int):
            return [self._with_row(self._by_id(str(ref)))]
        text = ref.strip()
        if found := placeholder_in(text):
            raise _Refused(
                Code.UNRESOLVED_PLACEHOLDER,
                f"{shown(found)} is a placeholder that nobody filled in.",
                "Name the machine itself.",
            )
        if "{{" in text:
            return self._from_template(text, place)
        if by_id:
            return [self._with_row(self._by_id(text))]
        return self._by_name(text)

    def _by_name(self, text: str) -> list[tuple[InventoryAsset, dict[str, object]]]:
        kind, _, name = text.partition(":")
        if kind == "group" and name:
            members = self.inventory.group(name.strip())
            if members is None:
                raise _Refused(Code.UNKNOWN_ASSET, f"There is no group {shown(name)!r}.", "Check the group's name.")
            if not members:
                raise _Refused(
                    Code.MISSING_TARGET, f"The group {shown(name)!r} has no machines.", "Add machines to the group."
                )
            self._note_selector("group", name.strip(), members)
            return [self._with_row(asset) for asset in members]
        if kind == "tag" and name:
            tagged = self.inventory.tag(name.strip())
            if not tagged:
                raise _Refused(Code.UNKNOWN_ASSET, f"No machine has the tag {shown(name)!r}.", "Check the tag.")
            self._note_selector("tag", name.strip(), tagged)
            return [self._with_row(asset) for asset in tagged]
        return [self._with_row(self._one(text))]

    def _one(self, text: str) -> InventoryAsset:
        matches = self._lookup(text)
        if len(matches) == 1:
            return matches[0]
        if not matches:
            raise _Refused(Code.UNKNOWN_ASSET, f"The inventory has no machine {shown(text)!r}.")
        raise _ambiguous(text, matches, "Name the one you mean by its id or its full hostname.")

    def _by_id(self, text: str) -> InventoryAsset:
        """By id alone, ours or an asset service's: a machine that happens to be named after a number is not meant."""
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
        matches = [asset for asset in self._lookup(text) if asset.asset_id == number or asset.external_id == text != ""]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise _ambiguous(text, matches, "Name the one you mean by its full hostname.")
        if number is None:
            raise _Refused(Code.UNKNOWN_ASSET, f"{shown(text)!r} is not an asset id.", "Write the id, a number.")
        raise _Refused(Code.UNKNOWN_ASSET, f"The inventory has no machine with the id {number}.")

    def _lookup(self, text: str) -> Sequence[InventoryAsset]:
        if text not in self._looked_up:
            self._looked_up[text] = self.inventory.lookup(text) if len(text) <= 255 else ()
        return self._looked_up[text]

    def _with_row(self, asset: InventoryAsset) -> tuple[InventoryAsset, dict[str, object]]:
        row = self._rows.get(asset.asset_id)
        if row is None:
            row = self._rows[asset.asset_id] = {
                **asset.row,
                "asset_id": asset.asset_id,
                "id": asset.asset_id,
                "name": asset.name,
                "hostname": asset.hostname,
                "ip_address": asset.ip_address,
                "environment": asset.environment,
                "criticality": asset.criticality,
                "connection": asset.connection,
                "tags": list(asset.tags),
            }
        return asset, row

    def _from_template(self, text: str, place: int) -> list[tuple[InventoryAsset, dict[str, object]]]:
        """The machines of the rows that a template runs over; the step is made to wait for the query."""
        try:
            pieces = split(text)
        except BadTemplate as bad:
            raise _Refused(
                Code.UNRESOLVED_PLACEHOLDER, f"{{{{ {shown(str(bad))} }}}} is not a template.", _FIX_TEMPLATE
            ) from None
        templates = [
            self.queries.as_rows(piece) for piece in pieces if isinstance(piece, Template) and piece.kind != "text"
        ]
        if not templates:
            return self._by_name(str(render(text, TemplateContext())))
        if any(one.kind != templates[0].kind or one.step_id != templates[0].step_id for one in templates):
            raise _Refused(
                Code.UNRESOLVED_PLACEHOLDER, "The templates of this target do not fit together.", _FIX_TEMPLATE
            )
        if templates[0].kind == "output":
            raise _Refused(
                Code.UNRESOLVED_PLACEHOLDER,
                f"{{{{ {shown(templates[0].expression)} }}}} is known only when the plan runs.",
                _FIX_TEMPLATE,
            )
        rows = self._rows_of(templates, place)
        if not rows:
            raise _Refused(
                Code.MISSING_TARGET, "The asset-query finds no machine.", "Change its filters, or name the machines."
            )
        if len(rows) > self.limits.max_step_targets:
            raise _Refused(
                Code.TOO_MANY_TARGETS, f"The asset-query finds {len(rows):,} machines.", "Make its filters narrower."
            )
        alone = len(pieces) == 1
        found = [self._of_row(row, text, templates, alone=alone) for row in rows]
        return [(asset, {**known, **row, "asset_id": asset.asset_id}) for (asset, known), row in found]

    def _rows_of(self, templates: list[Template], place: int) -> Sequence[Mapping[str, object]]:
        """The rows meant: all of the query's, or the one that an index names."""
        first = templates[0]
        query = self.queries.find(first.step_id if first.kind == "assets" else None, place, self.graph)
        if isinstance(query, str):
            raise _Refused(Code.UNRESOLVED_PLACEHOLDER, f"{{{{ {shown(first.expression)} }}}}: {query}", _FIX_TEMPLATE)
        rows = self.queries.rows[query]
        if rows is None and self.queries.is_wrong(query):
            raise _AlreadyTold
        if rows is None:
            raise _Refused(
                Code.UNRESOLVED_PLACEHOLDER,
                "The filters of the asset-query hold templates, so its machines are known only when the plan runs.",
                _FIX_TEMPLATE,
            )
        self._note_query(query, rows)
        if first.kind == "row" or not first.path or first.path[0] == EVERY:
            return rows
        index = first.path[0]
        if not isinstance(index, int) or index >= len(rows):
            raise _Refused(
                Code.UNRESOLVED_PLACEHOLDER,
                f"{{{{ {shown(first.expression)} }}}}: the asset-query finds only {len(rows)} machines.",
                "Change its filters, or name the machine.",
            )
        return [rows[index]]

    def _of_row(
        self, row: Mapping[str, object], text: str, templates: list[Template], *, alone: bool
    ) -> tuple[tuple[InventoryAsset, dict[str, object]], dict[str, object]]:
        """The machine of one row: by the row's id when it has one, else by what the template makes of it."""
        paths = {one.expression: one.path if one.kind == "row" else one.path[1:] for one in templates}
        values = {expression: _field(row, path) for expression, path in paths.items()}
        asset_id = row.get("id", row.get("asset_id"))
        try:
            unknown = next((said for said, path in paths.items() if path and path[0] not in row), None)
            if unknown is not None:
                raise UnresolvedTemplate(f"The rows of the asset-query have no field for {{{{ {unknown} }}}}.")
            if alone and isinstance(asset_id, int) and not isinstance(asset_id, bool):
                return self._with_row(self._by_id(str(asset_id))), dict(row)
            missing = next((said for said, value in values.items() if value is None or value == ""), None)
            if missing is not None:
                raise UnresolvedTemplate(f"A row of the asset-query has no value for {{{{ {missing} }}}}.")
            name = as_text(render(text, TemplateContext(resolved=values)))
        except UnresolvedTemplate as error:
            raise _Refused(Code.UNRESOLVED_PLACEHOLDER, str(error), "Use a field that every row has.") from None
        return self._with_row(self._one(name)), dict(row)


def _field(row: Mapping[str, object], path: Sequence[str | int]) -> object:
    value: object = row
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(str(part))
        elif isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return None if isinstance(value, (Mapping, list, tuple)) else value


def _only_value(ref: Mapping[str, object]) -> tuple[object, bool]:
    """`{"asset_id": 5}` or `{"hostname": "web-1"}` in a list of targets."""
    if len(ref) == 1:
        [(name, value)] = ref.items()
        ours = STEP_NAMES.get(name)
        if is_given(value) and (ours in ("target_asset_id", "target_hostname") or name in ("id", "hostname", "name")):
            return value, ours == "target_asset_id" or name == "id"
        if is_given(value) and name in ("group", "tag"):
            return f"{name}:{value}", False
    raise _Refused(
        Code.INVALID_INPUT,
        "A target must be an asset id or a name.",
        "Write a number, a hostname, group:NAME or tag:NAME.",
    )


def _ambiguous(text: str, matches: Sequence[InventoryAsset], how_to_fix: str) -> _Refused:
    candidates = tuple(_candidate(asset) for asset in matches[:20])
    return _Refused(Code.AMBIGUOUS_ASSET, f"{shown(text)!r} names {len(matches)} machines.", how_to_fix, candidates)


def _candidate(asset: InventoryAsset) -> Candidate:
    also = ", ".join(part for part in (asset.hostname, asset.ip_address, asset.environment) if part)
    text = f"{asset.asset_id}: {asset.name} ({also})" if also else f"{asset.asset_id}: {asset.name}"
    return Candidate(asset.asset_id, text)
