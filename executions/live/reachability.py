"""Whether the machines of a preview can be reached, for those who ask: their checks are awaited for a while."""

from __future__ import annotations

import time
from typing import Any

from executions.live.hub import hub
from executions.models import Asset, Execution, StepTarget
from executions.services import Accepted, check_assets
from executions.states import FINAL_EXECUTION, StepStatus
from safety.models import User

PATIENCE_SECONDS = 20.0
FIRST = 3  # somebody looks at it


def check_machines(shown: dict[str, Any], *, by: User, seconds: float = PATIENCE_SECONDS) -> None:
    """Have workers connect and sign in to the machines of an accepted preview, and write into it what they found.

    `reachability` gets the executions that check, and whether all of them ended within `seconds`; each of `machines`
    gets `reachable`: true, false, or None while that is not known, with `error_code` and `error`. Checks are
    executions: they are all that this writes.
    """
    numbers = [machine["asset_id"] for machine in shown["machines"]]
    if not numbers:
        return
    answers = check_assets(list(Asset.objects.filter(pk__in=numbers).order_by("pk")), by=by, priority=FIRST)
    executions = [answer.execution_id for answer in answers if isinstance(answer, Accepted)]
    until = time.monotonic() + seconds
    ended = [has_ended(number, until - time.monotonic()) for number in executions]
    shown["reachability"] = {"executions": executions, "complete": all(ended) and len(executions) == len(answers)}
    found = {row["asset_id"]: row for row in _found(executions)}
    for machine in shown["machines"]:
        row = found.get(machine["asset_id"])
        machine["reachable"] = row and _reachable(row["status"])
        machine["error_code"], machine["error"] = (row["error_code"], row["error"]) if row else ("", "")


def _found(executions: list[int]) -> Any:
    rows = StepTarget.objects.filter(execution_id__in=executions)
    return rows.values("asset_id", "status", "error_code", "error")


def _reachable(status: str) -> bool | None:
    if status == StepStatus.SUCCEEDED:
        return True
    return False if status in (StepStatus.FAILED, StepStatus.TIMED_OUT) else None


def has_ended(execution_id: int, seconds: float) -> bool:
    """Wait for the end of an execution, holding no connection to the database meanwhile."""

    def look() -> bool | None:
        return Execution.objects.filter(pk=execution_id, status__in=FINAL_EXECUTION).exists() or None

    return bool(hub.wait_for(execution_id, look, max(0.0, seconds)))
