"""The audit: who did, or was refused, what on which object, from where and when; and the chain that shows a gap.

Rows are only ever inserted. Triggers (safety/sql/audit.sql) refuse everything else, and the role that web and workers
have in the database may not even try (safety/audit/database_role.py).
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from safety.models.people import Tenant


class AuditRecord(models.Model):
    """One thing that somebody did, or was refused. Inserted by safety.audit, in the transaction of the change itself.

    Names nobody and nothing by foreign key: a record outlives what it is about. `action` is one of
    safety.audit.actions.ACTIONS; `actor` is what events carry ("user:alice", "worker:3", "system"). Without a tenant
    it concerns the whole installation, or somebody whose tenant is not known (a failed sign-in).
    """

    tenant = models.ForeignKey(
        Tenant, on_delete=models.DO_NOTHING, null=True, db_constraint=False, db_index=False, related_name="+"
    )
    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=200)
    actor_id = models.BigIntegerField(null=True)
    action = models.CharField(max_length=60)
    object_type = models.CharField(max_length=60, blank=True)
    object_id = models.CharField(max_length=300, blank=True)
    object_name = models.CharField(max_length=300, blank=True)
    allowed = models.BooleanField()
    code = models.CharField(max_length=60, blank=True)
    reason = models.TextField(blank=True)
    door = models.CharField(max_length=20)
    address = models.CharField(max_length=120, blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        indexes = (
            models.Index(fields=["tenant", "-id"], name="audit_of_tenant"),
            models.Index(fields=["object_type", "object_id", "-id"], name="audit_of_object"),
            models.Index(fields=["actor_id", "-id"], name="audit_of_actor", condition=models.Q(actor_id__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.object_name or self.object_id}".rstrip()


class AuditSeal(models.Model):
    """The place of one record in the chain of its tenant (0: of the installation), and the hash up to there.

    Written by the function safety_audit_seal alone. Numbers of a chain have no gap; a seal's hash is the SHA-256 of a
    text that holds the record, the number and the hash before (safety/audit/chain.py has the exact form).
    """

    record = models.OneToOneField(
        AuditRecord, on_delete=models.DO_NOTHING, db_constraint=False, primary_key=True, related_name="seal"
    )
    chain = models.BigIntegerField()
    number = models.BigIntegerField()
    hash = models.CharField(max_length=64)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["chain", "number"], name="seal_number_once_per_chain"),)

    def __str__(self) -> str:
        return f"#{self.number}"


class AuditOutbox(models.Model):
    """A record that no seal is made for yet. Written by a trigger with the record, taken by safety_audit_seal."""

    record = models.OneToOneField(
        AuditRecord, on_delete=models.DO_NOTHING, db_constraint=False, primary_key=True, related_name="+"
    )

    def __str__(self) -> str:
        return str(self.record_id)
