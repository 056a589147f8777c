"""What assets are synced from."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from safety.models import Tenant


class AssetSource(models.Model):
    """Something that owns assets of a tenant, and how the last sync with it went."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, db_index=False)
    name = models.CharField(max_length=60)
    begun_at = models.DateTimeField(db_default=Now(), help_text="When a worker, or a command, last began a sync.")
    synced_at = models.DateTimeField(null=True, help_text="When a sync last came to its end.")
    figures = models.JSONField(default=dict, help_text="How many assets were created, updated, ...: of that sync.")
    error = models.TextField(blank=True, db_default="", help_text="Why the last one did not come to its end.")

    class Meta:
        constraints = (models.UniqueConstraint(fields=["tenant", "name"], name="asset_source_once_per_tenant"),)

    def __str__(self) -> str:
        return self.name
