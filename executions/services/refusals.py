"""A refusal: what every door shows when something may not, or cannot, be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from safety import audit
from safety.models import User

P = ParamSpec("P")
R = TypeVar("R")


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
        self.is_recorded = False  # in the audit, by the verb that was asked first

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


def audited(action: str, object_type: str = "execution") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a verb's refusals written into the audit. What it does, it records itself, in its own transaction.

    The verb's first argument is the number of the object, its keyword `by` the user. It is written here, outside,
    because the verb's own transaction has been rolled back by then. Of a verb that calls another the inner one writes.
    """

    def decorate(verb: Callable[P, R]) -> Callable[P, R]:
        @wraps(verb)
        def recording(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return verb(*args, **kwargs)
            except Refused as refused:
                by = kwargs["by"]
                assert isinstance(by, User)
                number = args[0] if args and isinstance(args[0], int) else ""
                record_refused(refused, action, by=by, object_type=object_type, object_id=number)
                raise

        recording.audits = action  # type: ignore[attr-defined]
        return recording

    return decorate


def record_refused(
    refused: Refused, action: str, *, by: User, object_type: str, object_id: object = "", object_name: str = ""
) -> None:
    """Write a refusal into the audit, once."""
    if refused.is_recorded:
        return
    refused.is_recorded = True
    audit.record_refusal(
        action, by=by, object_type=object_type, object_id=object_id, object_name=object_name, code=refused.code,
        reason=refused.message,
    )  # fmt: skip
