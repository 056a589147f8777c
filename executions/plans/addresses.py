"""Requests that are relative to their step's target: whether there is one, and whether it is an API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executions.connectors.http_target import API
from executions.plans.problems import Code, Problems

if TYPE_CHECKING:
    from executions.plans.steps import Draft


def check_address(draft: Draft, problems: Problems) -> None:
    """Refuse a path, or the asset's own credential, where no asset says where that is."""
    wanted = [(draft.tool, draft.inputs, f"{draft.path}.inputs")]
    if draft.rollback is not None:
        wanted.append((draft.rollback.tool, draft.rollback.inputs, f"{draft.path}.rollback.inputs"))
    for tool, inputs, path in wanted:
        if tool is None or not tool.asks_target_for(inputs) or draft.targets_failed:
            continue
        if not draft.targets:
            problems.add(
                Code.MISSING_TARGET,
                f"{draft.path}.targets",
                "The request goes to an asset's own address, and the step names no asset.",
                "Name an asset with connection api, or write the whole address, beginning with https://.",
            )
        for asset, _ in draft.targets:
            if asset.connection != API:
                problems.add(
                    Code.INVALID_INPUT,
                    path,
                    f"{asset.name} is reached by {asset.connection}, so no request can go to an address of its own.",
                    "Write the whole address, or name an asset with connection api.",
                )
                break
