"""What people decide about executions, and what waits for them to decide."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from executions.approval_points import Point, points_of
from safety.models import User


class ApprovalQuerySet(models.QuerySet["Approval"]):
    def standing(self) -> ApprovalQuerySet:
        """Those that approve and were not withdrawn. Whether their givers may still approve is another question."""
        return self.filter(approved=True, withdrawn_at__isnull=True)


class Approval(models.Model):
    """One person's decision on an execution, or on one of its steps, bound to the plan and the targets that were shown.

    `step` is the step's id in the plan, empty for a decision on the plan as a whole; `wave` the number of the wave of
    it that it is about, 0 for the step itself. Never deleted: one that does not count any more says when and why.
    """

    execution = models.ForeignKey("executions.Execution", on_delete=models.CASCADE, related_name="approvals")
    by = models.ForeignKey(User, on_delete=models.PROTECT)
    step = models.CharField(max_length=200, blank=True, db_default="")
    wave = models.PositiveSmallIntegerField(db_default=0)
    plan_hash = models.CharField(max_length=64)
    targets_hash = models.CharField(max_length=64, blank=True, db_default="")
    approved = models.BooleanField()
    comment = models.TextField(blank=True)
    decided_at = models.DateTimeField(db_default=Now())
    withdrawn_at = models.DateTimeField(null=True, blank=True, help_text="Since when it does not count any more.")
    withdrawn_reason = models.TextField(blank=True, db_default="")

    objects = ApprovalQuerySet.as_manager()

    class Meta:
        app_label = "executions"
        constraints = (
            models.UniqueConstraint(
                fields=["execution", "step", "wave", "by"],
                condition=Q(withdrawn_at__isnull=True),
                name="one_decision_per_approver_and_point",
            ),
        )

    def __str__(self) -> str:
        return f"{'approved' if self.approved else 'rejected'} by {self.by}"

    @property
    def point(self) -> Point:
        """What it decides on."""
        return Point(self.step, self.wave)


class PendingApproval(models.Model):
    """An execution that waits for people. Made in the transaction that has it wait, deleted in the one that ends that.

    So lists of what waits need no index on the status of executions. `steps`: ids of the steps that it stopped before;
    none when the plan as a whole is to be approved. `waves`: beside each the wave that is to begin, 0 for the step
    itself; absent where a process of the release before this one wrote it. `attempt`, `attempts_left` and `losses` are
    what its queue entry knew when it was given up for the wait; it comes back with them.
    """

    execution = models.OneToOneField(
        "executions.Execution", on_delete=models.CASCADE, primary_key=True, related_name="pending_approval"
    )
    steps = ArrayField(models.CharField(max_length=200), default=list, db_default=[], blank=True)
    waves = ArrayField(models.PositiveSmallIntegerField(), default=list, db_default=[], blank=True)
    asked_at = models.DateTimeField(db_default=Now())
    attempt = models.PositiveIntegerField(db_default=0)
    attempts_left = models.IntegerField(null=True, blank=True)
    losses = models.PositiveSmallIntegerField(db_default=0)
    notice_due_at = models.DateTimeField(
        null=True, blank=True, db_default=Now(), help_text="When those who may approve are to be told by e-mail."
    )
    notice_tries = models.PositiveSmallIntegerField(db_default=0)
    notice_error = models.TextField(blank=True, db_default="")

    class Meta:
        app_label = "executions"

    def __str__(self) -> str:
        return f"approval of #{self.execution_id}" + (f": {', '.join(map(str, self.points))}" if self.steps else "")

    @property
    def points(self) -> list[Point]:
        """What it waits for; none when that is the plan as a whole."""
        return points_of(self.steps, self.waves)
