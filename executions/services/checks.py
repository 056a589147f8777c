"""What is asked of assets, as executions like any other: queue, rights, locks, credentials and records are theirs."""

from __future__ import annotations

from collections.abc import Sequence

from executions.models import Asset
from executions.plans.about import LONGEST_TITLE
from executions.services.refusals import Refused, audited
from executions.services.submit import Accepted, Submission, submit_many
from safety.models import User

# Few in one execution: it waits until nobody changes any of them, and whoever comes after it waits for it.
BATCH_ASSETS = 100
AT_ONCE = 50
TIMEOUT_SECONDS = 10
TAG = "asset-check"
HOST_KEY_TAG = "asset-host-key"
LAST = 10  # changes of people go first
FIRST = 3  # somebody looks at it


@audited("execution.submit", "asset")
def check_assets(
    assets: Sequence[Asset], *, by: User, timeout_seconds: int = TIMEOUT_SECONDS, priority: int = LAST
) -> list[Accepted | Refused]:
    """Have workers connect and sign in to assets; one execution for each 100 of them, with an answer for each.

    What was found is written to the assets when an execution has ended. Raises Refused for what concerns all of them.
    """
    return _ask(assets, TAG, "Check", by=by, timeout_seconds=timeout_seconds, priority=priority)


@audited("execution.submit", "asset")
def ask_for_host_keys(
    assets: Sequence[Asset], *, by: User, timeout_seconds: int = TIMEOUT_SECONDS
) -> list[Accepted | Refused]:
    """Have workers ask assets which SSH host keys they show; as with checks, but nothing is written to the assets.

    The keys are in the `data` of the targets.
    """
    return _ask(assets, HOST_KEY_TAG, "Look at the host key", by=by, timeout_seconds=timeout_seconds, priority=FIRST)


def _ask(
    assets: Sequence[Asset], tool: str, what: str, *, by: User, timeout_seconds: int, priority: int
) -> list[Accepted | Refused]:
    batches = [assets[start : start + BATCH_ASSETS] for start in range(0, len(assets), BATCH_ASSETS)]
    return submit_many(
        [
            Submission(
                _plan_of(batch, tool, what, timeout_seconds), reason=f"{what} of assets", tags=[tool], priority=priority
            )
            for batch in batches
        ],
        by=by,
    )


def _plan_of(assets: Sequence[Asset], tool: str, what: str, timeout_seconds: int) -> dict[str, object]:
    """The plan of one question: every asset is asked, whatever becomes of the others."""
    named = assets[0].name if len(assets) == 1 else f"{len(assets)} assets, {assets[0].name} to {assets[-1].name}"
    step = {
        "id": "check",
        "tool": tool,
        "inputs": {"timeout": timeout_seconds},
        "targets": [str(asset.pk) for asset in assets],
        "timeout_seconds": timeout_seconds + 5,
        "fan_out": {"max_concurrent": AT_ONCE, "max_failures": "100%"},
    }
    return {"title": f"{what} of {named}"[:LONGEST_TITLE], "steps": [step]}
