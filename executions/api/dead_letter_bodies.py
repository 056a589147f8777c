"""What the calls of the DLQ take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from executions.api.bodies import Id, Moment, Reason, ReasonBody, Words
from executions.dead_letter_queries import Selection
from executions.services.dead_letter_batches import DEFAULT_PACE, FASTEST, SMALL
from queueing.models import DeadReason, RequeueFrom

FROM = (
    "as_it_is: it goes on where it stopped. failed_step: the steps that failed, or whose outcome is unknown, are run"
    " again on the targets where they did not succeed, which may repeat an effect; needs a reason."
)


class RequeueBody(ReasonBody):
    """Why, and from where it goes on."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    start_from: RequeueFrom = Field(RequeueFrom.AS_IT_IS, alias="from", description=FROM)


class DeadLetterFilter(BaseModel):
    """Which open entries; all conditions hold together, and none means all of them."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Id] | None = Field(None, max_length=1000)
    execution_ids: list[Id] | None = Field(None, max_length=1000)
    reason: DeadReason | None = Field(None, description="Why they were parked.")
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = Field(
        None, description="Of one error; see the summary."
    )
    q: Words | None = Field(None, description="A part of the last error.")
    created_after: Moment | None = None
    created_before: Moment | None = None

    def selection(self) -> Selection:
        return Selection(
            ids=None if self.ids is None else tuple(self.ids),
            execution_ids=None if self.execution_ids is None else tuple(self.execution_ids),
            reason=self.reason,
            fingerprint=self.fingerprint,
            q=self.q,
            created_after=self.created_after,
            created_before=self.created_before,
        )


class DiscardManyBody(BaseModel):
    """Decide on all open entries that a filter selects now."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    filter: DeadLetterFilter
    reason: Reason = ""
    per_second: Annotated[int, Field(ge=1, le=FASTEST, strict=True)] | None = Field(
        None,
        description=f"Entries a second at most. Without it up to {SMALL} are done at once and answered, more at"
        f" {DEFAULT_PACE} a second.",
    )
    dry_run: bool = Field(False, description="Only say what would be met; nothing is written.")


class RequeueManyBody(DiscardManyBody):
    """Requeue all open entries that a filter selects now."""

    start_from: RequeueFrom = Field(RequeueFrom.AS_IT_IS, alias="from", description=FROM)
