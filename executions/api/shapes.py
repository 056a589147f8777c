"""What the calls answer, as types: the schema is made of them, and the tests hold the answers against it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from executions.states import ExecutionStatus, StepStatus
from safety.models import ActionClass, SlaClass


class Shape(BaseModel):
    model_config = ConfigDict(extra="allow")


class ErrorEntry(Shape):
    """One thing that is wrong, and what to do about it."""

    code: str
    path: str
    message: str
    how_to_fix: str


class ProblemDetails(Shape):
    """RFC 9457. `type` names a page that explains the code."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    how_to_fix: str
    instance: str
    errors: list[ErrorEntry]


class AcceptedExecution(Shape):
    """The execution was taken in, and is kept whatever happens."""

    id: int
    status: ExecutionStatus
    approval_level: int
    sla_class: SlaClass
    links: dict[str, str]


class BatchAnswer(Shape):
    """The answer to one plan of a batch: an accepted execution (200, 202) or a problem, by `status_code`."""

    status_code: int


class BatchAnswers(Shape):
    results: list[BatchAnswer]


class Preview(Shape):
    """What a submit would do; when not `acceptable`, `errors` says why and the rest may be absent."""

    acceptable: bool
    errors: list[ErrorEntry]
    title: str = ""
    plan_hash: str = ""
    check: bool = False
    action_class: ActionClass = ActionClass.READ
    sla_class: SlaClass = SlaClass.FAST
    approval_level: int = 0
    approvals_needed: int = 0
    approval_reasons: list[str] = []
    steps_to_approve: list[str] = []
    gates: list[dict[str, Any]] = []
    approvers: list[str] = []
    timeouts: dict[str, int] = {}
    locks: list[dict[str, Any]] = []
    permissions: list[dict[str, Any]] = []
    secrets: list[dict[str, Any]] = []
    blast_radius: dict[str, Any] = {}
    machines: list[dict[str, Any]] = []
    warnings: list[str] = []
    reachability: dict[str, Any] = {}
    steps: list[dict[str, Any]] = []
    not_checked: list[str] = []


class ExecutionSummary(Shape):
    """An execution in a list."""

    id: int
    title: str
    status: ExecutionStatus
    final: bool
    status_reason: str
    error_code: str | None
    actor: str
    action_class: ActionClass
    sla_class: SlaClass
    approval_level: int
    priority: int
    environment: str
    reason: str
    tags: list[str]
    trace_id: str
    plan_hash: str
    parent: int | None
    created_at: datetime
    not_before: datetime | None
    approval_expires_at: datetime | None
    started_at: datetime | None
    deadline_at: datetime | None
    finished_at: datetime | None
    events_pruned_at: datetime | None
    duration_seconds: float | None
    last_seq: int
    links: dict[str, str]


class TargetState(Shape):
    """A step on one target. `stdout` and `stderr` are the end of each, `more_output` says that there is more."""

    target: str | None
    step_target: int
    asset: int | None
    wave: int | None
    status: StepStatus
    unreachable: bool
    attempt: int
    exit_code: int | None
    error_code: str | None
    error: str | None
    stdout: str
    stderr: str
    stdout_bytes: int
    stderr_bytes: int
    truncated: bool
    more_output: bool
    stop_confirmed: bool | None
    data: Any
    started_at: datetime | None
    finished_at: datetime | None


class TargetCounts(Shape):
    """How targets stand, each counted once: `failed` were reached, `unreachable` could not be talked to at all."""

    total: int
    ok: int
    failed: int
    unreachable: int
    timed_out: int
    unknown: int
    skipped: int
    cancelled: int
    running: int
    pending: int


class WaveState(Shape):
    """One wave of a step, numbered from 1."""

    wave: int
    counts: TargetCounts


class StepState(Shape):
    """A step: `id` is the plan's own, `step` the number of its row. `waves` is null when all its targets go as one. Of
    the `kind` rollback: it undoes the step of that id."""

    id: str
    step: int
    position: int
    kind: str
    tool: str
    description: str
    status: StepStatus
    error_code: str | None
    error: str | None
    started_at: datetime | None
    finished_at: datetime | None
    counts: TargetCounts
    waves: list[WaveState] | None
    targets: list[TargetState]


class StepApproval(Shape):
    """A step that needs an approval of its own: whose it has; `waiting`: the execution waits for it now."""

    id: str
    by: list[str]
    waiting: bool


class WaveApproval(Shape):
    """A wave of a step before which a person is asked: how many targets it has, whose approval it has; `waiting`: the
    execution waits for it now."""

    id: str
    wave: int
    targets: int
    by: list[str]
    waiting: bool


class ApprovalState(Shape):
    """How many have to agree, who has, and why; `waits_for` is null when it does not wait for approval."""

    level: int
    needed: int
    given: int
    by: list[str]
    reasons: list[str]
    waits_for: Literal["plan", "steps", "waves"] | None
    steps: list[StepApproval]
    waves: list[WaveApproval]


class Decision(Shape):
    """What one person decided: on the plan, or on the step, or the wave of it, that it names."""

    by: str
    step: str | None
    wave: int | None
    approved: bool
    comment: str
    decided_at: datetime
    withdrawn_at: datetime | None
    withdrawn_reason: str | None


class Undone(Shape):
    """A step that was undone, or was to be: on which of its targets it was, and on which not. A target without a name
    is null."""

    id: str
    status: StepStatus
    undone: list[str | None]
    not_undone: list[str | None]


class ExecutionDetail(ExecutionSummary):
    """The whole of an execution."""

    tenant: str
    check: bool
    time_limits: dict[str, int]
    approval: ApprovalState | None
    approvals: list[Decision]
    errors: list[ErrorEntry]
    notice: str | None
    rolled_back: list[Undone]
    steps: list[StepState]


class Page(Shape):
    """One page of a list; `next` and `previous` are links, or null."""

    next: str | None
    previous: str | None


class ExecutionPage(Page):
    results: list[ExecutionSummary]


class WaitingExecution(ExecutionSummary):
    """An execution that waits for approval; `changes` says what its machines have become since: then it is void."""

    approval: ApprovalState
    approvals: list[Decision]
    changes: list[str]


class WaitingPage(Page):
    results: list[WaitingExecution]


class WaitingCount(Shape):
    mine: int


class Steps(Shape):
    results: list[StepState]


class FeedItem(Shape):
    """An event, or a piece of output (`kind` is output)."""

    seq: int
    at: datetime
    kind: str
    actor: str
    reason: str
    data: dict[str, Any]


class Feed(Shape):
    """Events and output after a cursor. Ask again with `after=next_after`; `complete`: nothing will come any more.

    `notice` says that, and when, retention has removed them; it is null while they are there.
    """

    results: list[FeedItem]
    more: bool
    next_after: int
    last_seq: int
    complete: bool
    next: str | None
    notice: str | None


class OutputPiece(Shape):
    seq: int
    at: datetime
    step: str
    target: str | None
    step_target: int
    stream: Literal["stdout", "stderr"]
    text: str


class Output(Shape):
    """Output after a cursor."""

    results: list[OutputPiece]
    more: bool
    next_after: int
    complete: bool
    next: str | None
    notice: str | None


class Status(Shape):
    """What became of it."""

    id: int
    status: ExecutionStatus
    links: dict[str, str]


class AssetShape(Shape):
    id: int
    name: str
    connection: str
    groups: list[str]


class ToolShape(Shape):
    """A tool of the catalog."""

    name: str
    summary: str
    also_known_as: list[str]
    connector: str
    action_class: str
    needs_target: bool
    idempotent: bool
    irreversible: bool
    production_safe: bool
    default_timeout_seconds: float
    estimated_duration: float
    max_output_bytes: int
    check_mode: str
    source: str | None
    replaces: str | None
    parameters: list[dict[str, Any]]


class Tools(Page):
    results: list[ToolShape]


class CodeShape(Shape):
    """What a code of a problem means."""

    code: str
    status: int
    title: str
    way_out: str
