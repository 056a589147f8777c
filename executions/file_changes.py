"""Whether the files that a stored plan takes in still are, on this host, what they were when it was submitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from executions.connectors.ansible.contents import Contents
from executions.models import Execution
from executions.plans.bound_files import changed_files, read_folder
from executions.states import FINAL_STEP


def file_changes(
    execution: Execution, document: Mapping[str, Any], look: Callable[[], Contents] = read_folder
) -> list[str]:
    """Return in sentences what is other than it was, for the steps that are not over. No query for a plan that takes
    in no files, and one for a plan that does. `look` as for `changed_files`."""
    steps = [step for step in document["steps"] if "files" in step or "files" in (step.get("rollback") or {})]
    if not steps:
        return []
    over = set(execution.steps.filter(kind="step", status__in=FINAL_STEP).values_list("key", flat=True))
    return changed_files([step for step in steps if step["id"] not in over], look)
