"""What compiling a plan gives: the document that is stored and run, and the facts that policy asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

from executions.connectors.ansible.contents import StoredFiles
from executions.plans.secret_values import SecretReference
from executions.plans.vocabulary import OnFailure

ActionClass = Literal["read", "modify", "deploy"]
GRAVITY: dict[str, int] = {"read": 0, "modify": 1, "deploy": 2}


class StoredTarget(TypedDict):
    """A machine of a step; `row` holds the fields that templates of the step name.

    port: None for the usual one of its connection; absent in a plan of an earlier release.
    sign_in: user name, domain, path of the credential, digest of the host keys; absent where nobody signs in, and in a
    plan of an earlier release.
    """

    asset_id: int
    name: str
    hostname: str | None
    ip_address: str | None
    port: NotRequired[int | None]
    sign_in: NotRequired[list[str]]
    connection: str
    environment: str
    criticality: str
    row: dict[str, object]


class Selector(TypedDict):
    """Something that a plan names and that stands for several machines, with those that it stood for at submit.

    kind: group or tag, with its `name`; or query, with the `filters` of an asset-query.
    """

    kind: Literal["group", "tag", "query"]
    name: str
    filters: dict[str, object]
    asset_ids: list[int]


class StoredRetry(TypedDict):
    max_attempts: int
    delay_seconds: float


class StoredSuccess(TypedDict):
    """`stdout_matches` is a pattern of RE2, searched for anywhere in the output."""

    exit_codes: list[int]
    stdout_matches: str | None


class StoredRollback(TypedDict):
    """What undoes a step, on those of its targets where it was carried out. Fields as those of a step; a plan of an
    earlier release has tool and inputs alone."""

    tool: str
    inputs: dict[str, Any]
    action_class: ActionClass
    retry: StoredRetry
    timeout_seconds: float | None
    idempotent: bool
    success: StoredSuccess
    estimated_duration: float
    max_output_bytes: int
    files: NotRequired[StoredFiles]


class StoredGate(TypedDict):
    """What is asked between two waves. `max_failures` is a count, or a share such as "20%", of the wave's targets.

    approval: a person has to let the next wave begin; absent where nobody has.
    """

    pause_seconds: float
    max_failures: int | str
    approval: NotRequired[bool]


class StoredFanOut(TypedDict):
    """`max_failures` is a count, or a share such as "20%". waves, gate: as the plan says them, where it says them."""

    max_concurrent: int
    max_failures: int | str
    waves: NotRequired[list[int | str]]
    gate: NotRequired[StoredGate]


class StoredStep(TypedDict):
    """A step ready to run. `depends_on` is complete: globs expanded, implied order made explicit.

    resolved: values of templates over asset-query rows, fixed at submit, by expression.
    Times are seconds; timeout_seconds is the step's own, None when it names none.
    waves: how many targets each wave has, in the order of `targets`; absent when all go as one.
    """

    id: str
    position: int
    description: str
    tool: str
    action_class: ActionClass
    inputs: dict[str, Any]
    depends_on: list[str]
    targets: list[StoredTarget]
    resolved: dict[str, object]
    on_failure: OnFailure
    retry: StoredRetry
    timeout_seconds: float | None
    default_timeout_seconds: float
    idempotent: bool
    irreversible: bool
    requires_approval: bool
    success: StoredSuccess
    rollback: StoredRollback | None
    fan_out: StoredFanOut
    estimated_duration: float
    max_output_bytes: int
    not_checked: list[str]
    waves: NotRequired[list[int]]
    files: NotRequired[StoredFiles]  # of the installation, that it takes in; absent where it takes in none
    run_as: NotRequired[str]  # the user on the target; absent where it is whoever the credential names
    check: NotRequired[bool]  # it is only checked; absent where it is really run
    unchecked: NotRequired[str]  # why check mode skips it


class GroupShare(TypedDict):
    """How many of a group's machines in use the plan changes."""

    name: str
    members: int
    changed: int


class StoredReference(TypedDict):
    path: str
    key: str | None


class StoredPlan(TypedDict):
    """The plan as it is stored and shown. `not_checked` lists, as sentences, what nobody evaluates.

    pool, region: which workers it is for; an empty region is any. selectors: through which groups, tags and queries its
    targets were found.
    """

    title: str
    environment: str | None
    labels: dict[str, str]
    pool: str
    region: str
    version: int
    steps: list[StoredStep]
    selectors: list[Selector]
    rollback_plan: list[object]
    safety_checks: list[object]
    observability: dict[str, object]
    not_checked: list[str]
    check: NotRequired[bool]  # nothing is changed; absent where it is
    secrets: NotRequired[list[StoredReference]]  # every secret that it names, where it names any
    group_shares: NotRequired[list[GroupShare]]  # of large groups, where it changes several machines of one


@dataclass(frozen=True, slots=True)
class TargetUse:
    """How gravely a plan uses one machine, over all its steps and their rollbacks; exclusive unless it only reads."""

    asset_id: int
    name: str
    exclusive: bool
    action_class: ActionClass
    environment: str


@dataclass(frozen=True, slots=True)
class ApprovalFacts:
    """What the approval policy decides from.

    requires_approval_steps  ids of the steps that ask for an approval of their own
    environments             of all targets, and the one the plan itself names; sorted
    criticalities            of all targets; sorted
    """

    has_irreversible: bool
    step_count: int
    requires_approval_steps: tuple[str, ...]
    environments: tuple[str, ...]
    criticalities: tuple[str, ...]
    target_count: int


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """An accepted plan.

    document           what is stored, and read by the engine
    canonical, hash    what the plan does, as bytes, and their SHA-256 in hex: the same for every copy of the plan,
                       whatever its step ids, key order, title and times
    request_hash       the same over what was asked for alone: without what the installation's files are
    estimated_seconds  along the critical path
    targets            by asset id
    secret_refs        every secret that the plan names, sorted
    """

    document: StoredPlan
    canonical: bytes
    hash: str
    request_hash: str
    title: str
    action_class: ActionClass
    estimated_seconds: float
    targets: dict[int, TargetUse]
    approval_facts: ApprovalFacts
    secret_refs: tuple[SecretReference, ...]


def gravest(classes: list[ActionClass]) -> ActionClass:
    """The gravest of some action classes; read when there are none."""
    return max(classes, key=GRAVITY.__getitem__, default="read")
