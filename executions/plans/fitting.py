"""Whether the tools of a step can do what it says on the machines that it names; told at submit, not at 3 a.m."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from executions.plans.inventory import InventoryAsset
from executions.plans.problems import Code, Problems, shown
from executions.tools.fitting import Misfit, misfits

if TYPE_CHECKING:
    from executions.plans.steps import Draft
    from executions.tools import Tool


def check_fit(draft: Draft, problems: Problems) -> None:
    """Note what keeps the step, or its rollback, from being done on its targets; once for each kind of connection."""
    examples: dict[str, InventoryAsset] = {}
    for asset, _ in draft.targets:
        examples.setdefault(asset.connection, asset)
    for connection, asset in examples.items():
        if draft.tool is not None and draft.tool.needs_target:
            _note(draft.tool, draft.inputs, draft.path, connection, asset, problems)
        rollback = draft.rollback
        if rollback is not None and rollback.tool.needs_target:
            _note(rollback.tool, rollback.inputs, rollback.path, connection, asset, problems)


def _note(
    tool: Tool, inputs: Mapping[str, Any], path: str, connection: str, asset: InventoryAsset, problems: Problems
) -> None:
    for misfit in misfits(tool, inputs, connection):
        where = f"{path}.inputs.{misfit.input}" if misfit.input else f"{path}.tool"
        if not problems.has_at(where):
            problems.add(Code(misfit.code), where, _sentence(misfit, asset), misfit.how_to_fix)


def _sentence(misfit: Misfit, asset: InventoryAsset) -> str:
    return f"{misfit.message.rstrip('.')}; {shown(asset.name)} has connection {asset.connection}."
