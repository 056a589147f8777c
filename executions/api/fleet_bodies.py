"""What the calls on queue, workers and locks take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from executions.api.bodies import Id, Reason

# As the plans' labels are named (executions/plans/routing.py), and a little wider: what a worker serves is free text.
HostName = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\s\x00]+$")]
Count = Annotated[int, Field(ge=0, le=100_000, strict=True)]


class ScaleBody(BaseModel):
    """How many worker processes all clusters together are to have."""

    model_config = ConfigDict(extra="forbid")

    processes: Count = Field(description="Worker processes of all clusters together; 1 or more.")
    reason: Reason = ""
    dry_run: bool = Field(False, description="Only say what would change.")


class AutoscaleBody(BaseModel):
    """Whether clusters decide by themselves how many worker processes they have, and between which numbers."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["on", "dry_run", "off"] = Field(description="dry_run: they only write down what they would do.")
    min: Count | None = Field(None, description="Processes of each cluster at least; as it was when left out.")
    max: Count | None = Field(None, description="Processes of each cluster at most; as it was when left out.")
    reason: Reason = ""


class DrainWorkersBody(BaseModel):
    """Which workers: those with these ids, those of a host, those that are both; all of them when nothing is said."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Id] | None = Field(None, min_length=1, max_length=1000)
    host: HostName | None = None
    reason: Reason = ""
