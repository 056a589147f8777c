"""Who may do what, and for how long: tenants, users, tokens, idempotency keys, timeout policies."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models
from django.db.models.functions import Now

DEFAULT_TENANT = "default"


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


class Tenant(models.Model):
    """An organisation whose executions, assets and people are invisible to every other one."""

    name = models.SlugField(max_length=60, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name


class UserManager(DjangoUserManager["User"]):
    """Makes users; one for whom no tenant is named belongs to the tenant `default`."""

    use_in_migrations = False

    def create_user(self, username: str, email: str | None = None, password: str | None = None, **fields: Any) -> User:
        return super().create_user(username, email, password, **self._with_tenant(fields))

    def create_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **fields: Any
    ) -> User:
        return super().create_superuser(username, email, password, **self._with_tenant(fields))

    @staticmethod
    def _with_tenant(fields: dict[str, Any]) -> dict[str, Any]:
        if "tenant" not in fields and "tenant_id" not in fields:
            fields["tenant"] = Tenant.objects.get_or_create(name=DEFAULT_TENANT)[0]
        return fields


class User(AbstractUser):
    """A person or a program. Belongs to one tenant for good."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="users")

    objects: ClassVar[UserManager] = UserManager()

    @property
    def actor(self) -> str:
        """The name that events and records carry."""
        return f"user:{self.username}"


class ApiToken(models.Model):
    """A bearer token of the API. Only its SHA-256 is kept; the value is shown once, when it is made."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    label = models.CharField(max_length=120, blank=True)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.user} ({self.label or 'token'})"


class IdempotencyKey(models.Model):
    """Which execution a request was answered with, and until when the same request gets the same answer.

    `blocks_until` is the whole state: in the past (or minus infinity, after a failed execution) the key is free.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    key = models.CharField(max_length=300)
    execution_id = models.BigIntegerField()
    request_hash = models.CharField(max_length=64)
    blocks_until = models.DateTimeField()
    pk = models.CompositePrimaryKey("tenant_id", "key")

    class Meta:
        indexes = (models.Index(fields=["execution_id"], name="idempotency_execution"),)

    def __str__(self) -> str:
        return self.key


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
