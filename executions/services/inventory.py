"""Importing assets, asked for by a person: at the API or on a page."""

from __future__ import annotations

from typing import Any

from executions.inventory_files import RowProblem
from executions.inventory_formats import UnknownFormat, read
from executions.inventory_import import ImportRefused, ImportResult, import_assets
from executions.services.refusals import Refused, audited
from safety.models import User

SHOWN_PROBLEMS = 1000
HOW_TO_FIX = "Correct the lines that `errors` names, then import it again: nothing of it was imported."


@audited("asset.import", "tenant")
def import_inventory(
    content: bytes, format_name: str, *, by: User, update: bool = False, dry_run: bool = False, file_name: str = ""
) -> ImportResult:
    """Import all assets of a text into the tenant of `by`, or none. `dry_run`: say what would change, change nothing.

    The caller has asked whether `by` may change the inventory. Raises Refused (422) with every problem by its line.
    """
    try:
        read_content = read(content, format_name)
    except UnknownFormat as error:
        raise _refused([RowProblem(0, str(error))]) from None
    try:
        return import_assets(
            read_content, file_name=file_name or format_name, tenant=by.tenant, update=update, dry_run=dry_run, by=by
        )
    except ImportRefused as refused:
        raise _refused(refused.problems) from None


def _refused(problems: list[RowProblem]) -> Refused:
    count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
    errors = [_error(problem) for problem in problems[:SHOWN_PROBLEMS]]
    return Refused("import_refused", f"The assets have {count}.", HOW_TO_FIX, status=422, errors=errors)


def _error(problem: RowProblem) -> dict[str, Any]:
    return {
        "code": "import_refused",
        "path": f"line {problem.line}" if problem.line else "",
        "message": problem.message,
        "how_to_fix": "Correct the line." if problem.line else "Correct what the message names.",
    }
