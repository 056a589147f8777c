"""Secrets of the embedded store, and who may use which secrets of whatever store."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import models
from django.db.models.functions import Now

from safety.models.people import Tenant


class Secret(models.Model):
    """One secret of a tenant, encrypted (safety/secrets/encryption.py). Its value is shown nowhere again.

    version      counts the values stored at this path; only the newest is kept
    sealed_with  names the key, one of FIELD_ENCRYPTION_KEYS
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="secrets", db_index=False)
    path = models.CharField(max_length=200)
    version = models.PositiveIntegerField()
    sealed = models.BinaryField(editable=False)
    sealed_with = models.CharField(max_length=12, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    resealed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["tenant", "path"], name="secret_path_once_per_tenant"),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="secret_version_from_one"),
        )

    def __str__(self) -> str:
        return self.path


class SecretRule(models.Model):
    """Who may name the secrets at or below `prefix` in a plan: members of these groups, and administrators.

    The longest prefix that fits a secret decides; a secret that none fits is open to everybody who may submit in the
    tenant. The empty prefix fits every secret. A rule without groups leaves them to administrators.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="secret_rules", db_index=False)
    prefix = models.CharField(max_length=200, blank=True)
    groups = models.ManyToManyField(Group, related_name="+", blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["tenant", "prefix"], name="secret_rule_once_per_prefix"),)

    def __str__(self) -> str:
        return self.prefix or "every secret"
