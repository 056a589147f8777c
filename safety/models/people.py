"""Tenants, the users in them, and the tokens that programs sign in with."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import ExpressionWrapper, Q
from django.db.models.functions import Now

from safety.scopes import ALL_SCOPES

DEFAULT_TENANT = "default"


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


def usable_now() -> ExpressionWrapper[Any]:
    """Return what says of a token whether it is neither revoked nor expired, by the clock of the database."""
    alive = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=Now()))
    return ExpressionWrapper(alive, output_field=models.BooleanField())


class ApiToken(models.Model):
    """A bearer token of the API. Only its SHA-256 is kept; the value is shown once, when it is made.

    It does what its scopes and its user both may. `maker` is the token it was made with, if a token made it.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    label = models.CharField(max_length=120, blank=True)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=20), db_default=list(ALL_SCOPES))
    maker = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="made")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(scopes__len__gte=1), name="token_has_a_scope")]

    def __str__(self) -> str:
        return f"{self.user} ({self.label or 'token'})"
