"""Checks of assets, as executions like any other: queue, rights, locks, credentials and records are theirs."""

from __future__ import annotations

from collections.abc import Sequence

from executions.models import Asset
from executions.services.refusals import Refused, audited
from executions.services.submit import Accepted, Submission, submit_many
from safety.models import User

# Few in one execution: it waits until nobody changes any of them, and whoever comes after it waits for it.
BATCH_ASSETS = 100
AT_ONCE = 50
TIMEOUT_SECONDS = 10
TAG = "asset-check"
LAST = 10  # changes of people go first


@audited("execution.submit", "asset")
def check_assets(
    assets: Sequence[Asset], *, by: User, timeout_seconds: int = TIMEOUT_SECONDS, priority: int = LAST
) -> list[Accepted | Refused]:
    """Have workers connect and sign in to assets; one execution for each 100 of them, with an answer for each.

    What was found is written to the assets when an execution has ended. Raises Refused for what concerns all of them.
    """
    batches = [assets[start : start + BATCH_ASSETS] for start in range(0, len(assets), BATCH_ASSETS)]
    return submit_many(
        [
            Submission(plan_of(batch, timeout_seconds), reason="Check of assets", tags=[TAG], priority=priority)
            for batch in batches
        ],
        by=by,
    )


def plan_of(assets: Sequence[Asset], timeout_seconds: int) -> dict[str, object]:
    """The plan of one check: every asset is tried, whatever becomes of the others."""
    named = assets[0].name if len(assets) == 1 else f"{len(assets)} assets, {assets[0].name} to {assets[-1].name}"
    step = {
        "id": "check",
        "tool": "asset-check",
        "inputs": {"timeout": timeout_seconds},
        "targets": [str(asset.pk) for asset in assets],
        "timeout_seconds": timeout_seconds + 5,
        "fan_out": {"max_concurrent": AT_ONCE, "max_failures": "100%"},
    }
    return {"title": f"Check of {named}"[:300], "steps": [step]}
