"""What a plan does and how long it may take: action classes, SLA classes, and the time limits of both."""

from __future__ import annotations

from django.db import models


class ActionClass(models.TextChoices):
    """What a plan does to its targets, at most. Later members include the earlier ones."""

    READ = "read"
    MODIFY = "modify"
    DEPLOY = "deploy"


class SlaClass(models.TextChoices):
    """How long an execution is expected to take: below 10 s, below 30 s, longer."""

    FAST = "fast"
    MEDIUM = "medium"
    LONG = "long"


class TimeoutPolicy(models.Model):
    """The time limits, in seconds, of one SLA class and action class."""

    sla_class = models.CharField(max_length=10, choices=SlaClass)
    action_class = models.CharField(max_length=10, choices=ActionClass)
    step_seconds = models.PositiveIntegerField()
    execution_seconds = models.PositiveIntegerField()
    approval_seconds = models.PositiveIntegerField()
    max_attempts = models.PositiveSmallIntegerField()

    class Meta:
        verbose_name_plural = "timeout policies"
        constraints = (
            models.UniqueConstraint(fields=["sla_class", "action_class"], name="one_policy_per_class"),
            models.CheckConstraint(condition=models.Q(max_attempts__gte=1), name="policy_has_an_attempt"),
        )

    def __str__(self) -> str:
        return f"{self.sla_class} {self.action_class}"
