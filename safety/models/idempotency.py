"""Which request was answered with which execution."""

from __future__ import annotations

from django.db import models

from safety.models.people import Tenant


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
