"""What is done: executions, their steps and targets, what they printed, and every move they made.

Rows of a running execution are written by the ledger of the worker that holds its lease (engine/ledger.py), before that
and after that by services.py. Nothing else assigns a status.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from executions.approval_models import Approval as Approval
from executions.approval_models import PendingApproval as PendingApproval
from executions.asset_source_models import AssetSource as AssetSource
from executions.connections import Connection as Connection
from executions.connections import connection_choices
from executions.service_models import ServiceStanding as ServiceStanding
from executions.service_models import ServiceTraffic as ServiceTraffic
from executions.states import FINAL_EXECUTION, NOT_UNDONE, ExecutionStatus, StepStatus
from safety import rbac
from safety.models import ActionClass, SlaClass, Tenant, User

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


ROLLBACK = "rollback"  # the kind of a step that undoes another
NOT_WELL = (StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.CANCELLED)


class AssetQuerySet(models.QuerySet["Asset"]):
    def stale(self) -> AssetQuerySet:
        """Those in use that nobody has heard of for ASSET_STALE_DAYS, or that their source does not have any more."""
        return self.filter(_stale())

    def saying_stale(self) -> AssetQuerySet:
        """The same rows, each with `is_stale`."""
        return self.annotate(is_stale=Case(When(_stale(), then=True), default=False))


def _stale() -> Q:
    since = Now() - settings.ASSET_STALE_AFTER
    silent = Q(last_seen_at__lt=since) | Q(last_seen_at__isnull=True, created_at__lt=since)
    return Q(is_active=True) & (Q(missing_since_at__isnull=False) | silent)


class AssetGroup(models.Model):
    """A named set of assets, to target and to give rights on."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="asset_groups")
    name = models.CharField(max_length=120)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["tenant", "name"], name="group_name_once_per_tenant"),)
        permissions = (
            ("execute_read", "Can run read-only plans on its assets"),
            ("execute_modify", "Can run modifying plans on its assets"),
            ("execute_deploy", "Can run deploying plans on its assets"),
            ("approve", "Can approve executions on its assets"),
        )

    def __str__(self) -> str:
        return self.name


class Health(models.TextChoices):
    """What the last check of an asset found."""

    HEALTHY = "healthy"  # it answered, and let us sign in
    UNREACHABLE = "unreachable"  # it did not answer
    REFUSED = "refused"  # it answered, and did not let us in, or is not the machine that is known
    FAILED = "failed"  # the check itself could not be made


class Asset(models.Model):
    """A machine or an endpoint that plans can name. Field names are those of the asset service."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="assets")
    name = models.CharField(max_length=255)
    hostname = models.CharField(max_length=255, blank=True)
    ip_address = models.GenericIPAddressField(null=True, blank=True)
    description = models.TextField(blank=True)
    connection = models.CharField(max_length=40, choices=connection_choices)
    port = models.PositiveIntegerField(null=True, blank=True)
    username = models.CharField(max_length=120, blank=True)
    domain = models.CharField(max_length=120, blank=True)
    credential = models.CharField(max_length=255, blank=True, help_text="The path of a secret, never the secret.")
    host_key = models.TextField(blank=True)
    device_type = models.CharField(max_length=60, blank=True)
    os_type = models.CharField(max_length=30, blank=True)
    os_version = models.CharField(max_length=60, blank=True)
    status = models.CharField(max_length=30, default="active")
    environment = models.CharField(
        max_length=30, default="production", help_text="production asks for the most approval."
    )
    criticality = models.CharField(max_length=20, default="medium")
    service_type = models.CharField(max_length=30, blank=True)
    is_secure = models.BooleanField(null=True, blank=True, help_text="As its owner says; nothing here depends on it.")
    credential_type = models.CharField(
        max_length=30, blank=True, default="", db_default="", help_text="As its owner says; the credential decides."
    )
    secondary_service_type = models.CharField(max_length=30, blank=True, default="", db_default="")
    secondary_port = models.PositiveIntegerField(null=True, blank=True)
    additional_services = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    owner = models.CharField(max_length=120, blank=True)
    support_contact = models.CharField(max_length=120, blank=True)
    tags = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    groups = models.ManyToManyField(AssetGroup, related_name="assets", blank=True)
    is_active = models.BooleanField(default=True)
    external_id = models.CharField(max_length=120, blank=True, help_text="Its id in an external asset service.")
    source = models.CharField(
        max_length=60, blank=True, db_default="", editable=False, help_text="What it is synced from; empty: kept here."
    )
    missing_since_at = models.DateTimeField(
        null=True, editable=False, help_text="Since when its source does not have it."
    )
    last_seen_at = models.DateTimeField(
        null=True, editable=False, help_text="When it last answered, or its source last had it."
    )
    health = models.CharField(max_length=12, blank=True, choices=Health, db_default="", editable=False)
    health_code = models.CharField(max_length=60, blank=True, db_default="", editable=False)
    health_message = models.TextField(blank=True, db_default="", editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    response_ms = models.PositiveIntegerField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = AssetQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["tenant", "name"], name="asset_name_once_per_tenant"),
            models.UniqueConstraint(
                fields=["tenant", "external_id"],
                condition=~Q(external_id=""),
                name="asset_external_id_once_per_tenant",
            ),
        )
        indexes = (
            models.Index(fields=["tenant", "hostname"], name="asset_hostname"),
            models.Index(fields=["tenant", "ip_address"], name="asset_ip_address"),
            models.Index(fields=["tenant", "source"], name="asset_source", condition=~Q(source="")),
        )
        permissions = (
            ("execute_read", "Can run read-only plans on it"),
            ("execute_modify", "Can run modifying plans on it"),
            ("execute_deploy", "Can run deploying plans on it"),
        )

    def __str__(self) -> str:
        return self.name


class ExecutionQuerySet(models.QuerySet["Execution"]):
    def visible_to(self, user: User | AnonymousUser) -> ExecutionQuerySet:
        """Those that the user may see, in its own tenant: by a role, as the requester, or by a right given on them."""
        return self.filter(rbac.visible_executions(user))

    def with_check(self) -> ExecutionQuerySet:
        """With `is_check`: true where the plan is only checked, so that nothing is changed; None where it is not."""
        return self.annotate(is_check=F("plan__document__check"))

    def unfinished(self) -> ExecutionQuerySet:
        return self.exclude(status__in=FINAL_EXECUTION)


def removal_notice(events_pruned_at: datetime | None) -> str:
    """Return `Execution.removal_notice`, for those who have only the time."""
    if events_pruned_at is None:
        return ""
    return f"Events and output were removed on {events_pruned_at.astimezone(UTC):%Y-%m-%d} by retention."


class Execution(models.Model):
    """One requested run of a plan against targets, by somebody."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, db_index=False)
    actor = models.ForeignKey(User, on_delete=models.PROTECT, related_name="executions")
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries")
    title = models.CharField(max_length=300)
    status = models.CharField(max_length=16, choices=ExecutionStatus)
    status_reason = models.TextField(blank=True, db_default="", help_text="Why it is in this state, in one sentence.")
    error_code = models.CharField(max_length=60, blank=True, db_default="")
    plan_hash = models.CharField(max_length=64)
    targets_hash = models.CharField(
        max_length=64, blank=True, db_default="", help_text="Of the machines as approvers are shown them."
    )
    action_class = models.CharField(max_length=10, choices=ActionClass)
    sla_class = models.CharField(max_length=10, choices=SlaClass)
    approval_level = models.PositiveSmallIntegerField()
    priority = models.PositiveSmallIntegerField()
    environment = models.CharField(max_length=30, blank=True, db_default="")
    reason = models.TextField(blank=True, db_default="")
    tags = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    trace_id = models.CharField(max_length=120, blank=True, db_default="")
    not_before = models.DateTimeField(null=True, blank=True)
    execution_seconds = models.PositiveIntegerField(help_text="The time limit, counted from the start.")
    step_seconds = models.PositiveIntegerField(help_text="The time limit of a step that names none.")
    max_attempts = models.PositiveSmallIntegerField()
    last_seq = models.BigIntegerField(db_default=0, help_text="Number of its newest event or output chunk.")
    created_at = models.DateTimeField(db_default=Now())
    approval_expires_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    events_pruned_at = models.DateTimeField(
        null=True, blank=True, help_text="When retention removed its events and output."
    )

    objects = ExecutionQuerySet.as_manager()

    class Meta:
        permissions = (("cancel", "Can cancel it"),)
        constraints = (
            models.CheckConstraint(
                condition=Q(status__in=sorted(FINAL_EXECUTION), finished_at__isnull=False)
                | (~Q(status__in=sorted(FINAL_EXECUTION)) & Q(finished_at__isnull=True)),
                name="finished_if_and_only_if_final",
            ),
            models.CheckConstraint(condition=Q(status__in=ExecutionStatus.values), name="execution_status_known"),
        )
        indexes = (
            # Lists: newest first within a tenant. No index on status: it would cost every move its HOT update.
            models.Index(F("tenant"), F("id").desc(), name="execution_newest"),
        )

    def __str__(self) -> str:
        return f"#{self.pk} {self.title}"

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_EXECUTION

    @property
    def removal_notice(self) -> str:
        """The sentence to show instead of events and output that retention has removed; empty while they are there."""
        return removal_notice(self.events_pruned_at)


class ExecutionPlan(models.Model):
    """The plan of an execution as it was compiled and approved. Written once, apart from the narrow row that moves."""

    execution = models.OneToOneField(Execution, on_delete=models.CASCADE, primary_key=True, related_name="plan")
    document = models.JSONField()

    def __str__(self) -> str:
        return f"plan of #{self.execution_id}"


class StepQuerySet(models.QuerySet["Step"]):
    def unanswered(self) -> StepQuerySet:
        """Those of which a person has to say what became of them (`Step.waits_for_answer`)."""
        not_undone = Q(kind=ROLLBACK, status__in=NOT_WELL) & ~Q(error_code=NOT_UNDONE)
        return self.filter(Q(status=StepStatus.UNKNOWN) | not_undone)


class Step(models.Model):
    """One ordered unit of an execution; or, of the kind rollback, what undoes the step of the same key."""

    # No index of their own where a constraint or index of Meta begins with the same column.
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="steps", db_index=False)
    position = models.PositiveIntegerField()
    key = models.CharField(max_length=200, help_text="The step's id in the plan.")
    tool = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    kind = models.CharField(max_length=8, db_default="step", help_text="step or rollback")
    waves = ArrayField(
        models.PositiveIntegerField(), null=True, blank=True, editable=False,
        help_text="How many targets each wave has, by position; null when all go as one.",
    )  # fmt: skip
    status = models.CharField(max_length=9, choices=StepStatus, db_default=StepStatus.PENDING)
    error_code = models.CharField(max_length=60, blank=True, db_default="")
    error = models.TextField(blank=True, db_default="")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = StepQuerySet.as_manager()

    class Meta:
        ordering = ("position",)
        constraints = (
            models.UniqueConstraint(fields=["execution", "position"], name="step_position_once"),
            models.CheckConstraint(condition=Q(status__in=StepStatus.values), name="step_status_known"),
        )

    def __str__(self) -> str:
        return f"{self.key} of #{self.execution_id}"

    @property
    def waits_for_answer(self) -> bool:
        """Whether its outcome is unknown, or it was to undo something and did not, which nobody has let stand."""
        return self.status == StepStatus.UNKNOWN or (
            self.kind == ROLLBACK and self.status in NOT_WELL and self.error_code != NOT_UNDONE
        )


class StepTarget(models.Model):
    """One step on one target. A step of a tool that needs no target has one row whose `name` is empty."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="step_targets", db_index=False)
    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="targets", db_index=False)
    position = models.PositiveIntegerField()
    asset = models.ForeignKey(Asset, on_delete=models.SET_NULL, null=True, db_constraint=False)
    name = models.CharField(max_length=255, blank=True)
    status = models.CharField(max_length=9, choices=StepStatus, db_default=StepStatus.PENDING)
    attempt = models.PositiveIntegerField(db_default=0)
    exit_code = models.IntegerField(null=True, blank=True)
    error_code = models.CharField(max_length=60, blank=True, db_default="")
    error = models.TextField(blank=True, db_default="")
    stop_confirmed = models.BooleanField(null=True, blank=True)
    stdout_bytes = models.BigIntegerField(db_default=0)
    stderr_bytes = models.BigIntegerField(db_default=0)
    truncated = models.BooleanField(db_default=False)
    stdout = models.TextField(blank=True, db_default="", help_text="The end of it, for the steps that refer to it.")
    data = models.JSONField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("position",)
        constraints = (
            models.UniqueConstraint(fields=["step", "position"], name="step_target_position_once"),
            models.CheckConstraint(condition=Q(status__in=StepStatus.values), name="step_target_status_known"),
        )
        indexes = (models.Index(fields=["execution"], name="step_target_execution"),)

    def __str__(self) -> str:
        return f"{self.name or 'no target'} in step {self.step_id}"


class Event(models.Model):
    """One move or remark of an execution. `seq` runs from 1 without a gap, in one series with its output chunks."""

    pk = models.CompositePrimaryKey("execution_id", "seq")
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    seq = models.BigIntegerField()
    at = models.DateTimeField(db_default=Now())
    kind = models.CharField(max_length=60)
    actor = models.CharField(max_length=200)
    reason = models.TextField(blank=True)
    data = models.JSONField(null=True)

    def __str__(self) -> str:
        return f"{self.kind} ({self.seq})"


class OutputChunk(models.Model):
    """A piece of what a target printed. Shares the series of `seq` with the events of its execution."""

    pk = models.CompositePrimaryKey("execution_id", "seq")
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    seq = models.BigIntegerField()
    step_target = models.ForeignKey(StepTarget, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    at = models.DateTimeField(db_default=Now())
    stream = models.CharField(max_length=6)
    text = models.TextField()

    class Meta:
        indexes = (models.Index(fields=["step_target", "seq"], name="output_of_target"),)

    def __str__(self) -> str:
        return f"{self.stream} ({self.seq})"
