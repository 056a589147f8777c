"""What the calls take, as types: they check the body and describe it in the schema."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from executions.api.reading import BIGGEST_ID
from executions.services import Submission

MOST_IN_BATCH = 1000

# What the server decides from the token. Bodies in the shape of the services that came before carry these; they are
# read over, and count for nothing.
DECIDED_BY_THE_SERVER = frozenset(
    {"actor", "actor_id", "tenant", "tenant_id", "user", "user_id", "approver", "approval_level", "sla_class", "status"}
)


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character, which is not text")
    return value


def _of_our_age(value: datetime) -> datetime:
    """Refuse times that other clocks, and the arithmetic of the queue, cannot hold in UTC."""
    if not 1970 <= value.year <= 2200:
        raise ValueError("lies outside the years 1970 to 2200")
    return value


Moment = Annotated[AwareDatetime, AfterValidator(_of_our_age)]
Reason = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_storable)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]
Id = Annotated[int, Field(ge=1, le=BIGGEST_ID, strict=True)]


class SubmissionBody(BaseModel):
    """A plan to carry out. Who asks, for which tenant and at which approval level comes from the token alone:
    `actor`, `tenant_id` and the like are read over."""

    model_config = ConfigDict(extra="forbid")

    plan: dict[str, Any] | list[Any] | str = Field(
        description="The planner's document, its inner plan or the native form: an object, or a text of JSON or YAML."
    )
    reason: Reason = Field("", description="Why, for the approver and the audit.")
    tags: list[Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_storable)]] = Field(
        default_factory=list, max_length=50, description="Words to find it by."
    )
    priority: Annotated[int, Field(ge=1, le=10, strict=True)] = Field(5, description="1 is first, 10 last.")
    not_before: Moment | None = Field(None, description="Not to be begun before this time, which names its zone.")
    trace_id: Annotated[str, StringConstraints(max_length=120), AfterValidator(_storable)] = Field(
        "", description="The caller's own number for it."
    )
    check: Annotated[bool, Field(strict=True)] = Field(
        False, description="Only say what would change, and change nothing; also when the plan does not ask for it."
    )

    @field_validator("plan", mode="before")
    @classmethod
    def _one_of_its_forms(cls, value: object) -> object:
        if value is None:
            return {}  # a plan without steps, and told so as any other
        if not isinstance(value, dict | list | str):
            raise ValueError("A plan must be an object, a list of steps, or a text of JSON or YAML")
        return value

    @field_validator("reason", "trace_id", "tags", "priority", "check", mode="before")
    @classmethod
    def _null_is_as_good_as_absent(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.field_name is not None:
            return cls.model_fields[info.field_name].get_default(call_default_factory=True)
        return value


class BatchItem(SubmissionBody):
    """One plan of a batch, with the key that its own request would carry in a header."""

    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[ -~]+$")] | None = None


class BatchBody(BaseModel):
    """Up to 1,000 plans; each is judged for itself."""

    model_config = ConfigDict(extra="forbid")

    executions: list[Any] = Field(
        max_length=MOST_IN_BATCH,
        min_length=1,
        description="Bodies of POST /executions/, each with an `idempotency_key`?",
    )


StepKey = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]


class PreviewBody(SubmissionBody):
    """What would be submitted. Everything but the plan may be left out."""

    reachability: Annotated[bool, Field(strict=True)] = Field(
        False, description="Have workers connect and sign in to the machines, and wait up to 20 s for what they find."
    )


class ReasonBody(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason = ""


class DecisionBody(BaseModel):
    """An approver's words. `reason` and `comment` are the same thing."""

    model_config = ConfigDict(extra="forbid")

    comment: Reason = ""
    reason: Reason = ""
    step: StepKey | None = Field(
        None, description="What is decided on: a step that it waits before. Without it, whatever waits now."
    )
    wave: int | None = Field(
        None,
        ge=0,
        le=32767,
        description="The wave of that step that is to begin, 0 for the step itself. Without it, whatever waits of the "
        "step: with it, a wave that waits by the time is not decided on instead.",
    )


class WithdrawBody(BaseModel):
    """Why an approval is taken back, and which."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_storable)]
    step: StepKey | None = Field(None, description="The step whose approval it is. Without it, all that you gave.")


class RetryBody(BaseModel):
    """A new execution from an ended one, from its first unfinished step or, with `from_start`, from the beginning."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason = ""
    from_start: bool = False
    hosts: list[Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_storable)]] = Field(
        default_factory=list,
        max_length=1000,
        description="Names of the only hosts to try again; empty: all.",
    )
    only: Literal["unreachable", "failed"] | None = Field(
        None, description="Only hosts that could not be reached, or only those that were and failed all the same."
    )


class ResolveBody(BaseModel):
    """What a person found out about a step whose outcome was unknown."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    step: Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)] = Field(
        description="The step's id in the plan."
    )
    outcome: Literal["succeeded", "failed", "run_again"] = Field(alias="as", description="What is true of it.")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_storable)] = Field(
        description="How it is known."
    )


def submission_of(body: Mapping[str, Any], *, key: str | None = None) -> Submission:
    """Check one body of POST /executions/ and return what the services take.

    Raises pydantic's ValidationError, all faults at once.
    """
    read = SubmissionBody.model_validate(_without_decided(body))
    return _submission(read, key)


def preview_of(body: Mapping[str, Any]) -> tuple[Submission, bool]:
    """Check the body of a preview; return it, and whether the machines are to be tried. Raises ValidationError."""
    read = PreviewBody.model_validate(_without_decided(body))
    return _submission(read, None), read.reachability


def batch_submission_of(body: object) -> Submission:
    """The same for one item of a batch, whose key stands in it."""
    read = BatchItem.model_validate(_without_decided(body))
    return _submission(read, read.idempotency_key)


def _without_decided(body: object) -> object:
    if not isinstance(body, dict) or DECIDED_BY_THE_SERVER.isdisjoint(body):
        return body
    return {name: value for name, value in body.items() if name not in DECIDED_BY_THE_SERVER}


def _submission(read: SubmissionBody, key: str | None) -> Submission:
    return Submission(
        document=read.plan,
        reason=read.reason,
        tags=tuple(read.tags),
        priority=read.priority,
        not_before=read.not_before,
        trace_id=read.trace_id,
        idempotency_key=key,
        check=read.check,
    )
