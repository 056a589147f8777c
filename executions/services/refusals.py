"""A refusal: what every door shows when something may not, or cannot, be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Refused(Exception):
    """The request was refused and nothing was changed; `how_to_fix` says what would make it acceptable.

    `status` is the HTTP status that fits; `errors` lists the problems of a plan as
    {"code", "path", "message", "how_to_fix", "candidates"?}.
    """

    def __init__(
        self,
        code: str,
        message: str,
        how_to_fix: str,
        *,
        status: int,
        errors: Sequence[dict[str, Any]] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.how_to_fix = how_to_fix
        self.status = status
        self.errors = list(errors)
        self.retry_after = retry_after

    def problems(self) -> list[dict[str, Any]]:
        """Return the errors to list, at least one: those of the plan, or the refusal itself."""
        own = {"code": self.code, "path": "", "message": self.message, "how_to_fix": self.how_to_fix}
        return self.errors or [own]


def not_found(execution_id: object) -> Refused:
    return Refused(
        "not_found",
        f"There is no execution {execution_id}.",
        "Look its number up in the list of executions.",
        status=404,
    )


def forbidden(message: str, how_to_fix: str, errors: Sequence[dict[str, Any]] = ()) -> Refused:
    return Refused("forbidden", message, how_to_fix, status=403, errors=errors)
