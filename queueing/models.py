"""When and by whom: queue entries, the lines at the assets, workers, the DLQ.

Queueing knows executions by number only. What the states of an entry mean, and who moves it:

    delayed   waits for `available_at` (not_before, or backoff after trouble); moved to ready by `queue_promote`
    ready     may be claimed; moved to leased or blocked by `queue_claim`
    blocked   an earlier entry has, or is in line for, one of its assets; moved to ready by `queue_release`
    leased    one worker has it until `lease_expires_at`, proved by `token`; deleted at finish, or moved to
              delayed by `queue_return` (the worker) and `queue_reap` (its lease ran out)

History is in the events of the execution; an entry that is over is deleted.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class EntryState(models.TextChoices):
    DELAYED = "delayed"
    READY = "ready"
    BLOCKED = "blocked"
    LEASED = "leased"


class QueueEntry(models.Model):
    """An execution that waits for a worker, or is held by one."""

    execution_id = models.BigIntegerField(primary_key=True)
    tenant_id = models.BigIntegerField()
    state = models.CharField(max_length=8, choices=EntryState)
    priority = models.PositiveSmallIntegerField()
    available_at = models.DateTimeField()
    place = models.DateTimeField(
        help_text="available_at + (priority - 1) x ageing: the order in which entries are claimed."
    )
    token = models.BigIntegerField(null=True, help_text="Number of the lease; also the fencing number of its locks.")
    attempt = models.PositiveIntegerField(db_default=0)
    attempts_left = models.IntegerField(
        help_text="Counted down at claim; given back when a worker shuts down in order."
    )
    worker_id = models.BigIntegerField(null=True)
    leased_at = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    returned_at = models.DateTimeField(null=True, help_text="When it last came back from a worker.")
    cancel_reason = models.TextField(null=True, help_text="Set while leased: the worker is asked to stop.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "queue entries"
        constraints = (
            models.CheckConstraint(
                condition=Q(
                    state="leased", token__isnull=False, worker_id__isnull=False, lease_expires_at__isnull=False
                )
                | (~Q(state="leased") & Q(token__isnull=True)),
                name="leased_if_and_only_if_token",
            ),
            models.CheckConstraint(condition=Q(priority__gte=1, priority__lte=10), name="priority_from_1_to_10"),
        )
        indexes = (
            # The claim reads this one and nothing else to find work.
            models.Index(fields=["place", "execution_id"], condition=Q(state="ready"), name="entry_ready"),
            models.Index(fields=["available_at"], condition=Q(state="delayed"), name="entry_delayed"),
            # Renewal, reaping and the fleet page. Never add lease_expires_at here: renewals would stop being HOT.
            models.Index(fields=["worker_id"], condition=Q(state="leased"), name="entry_leased"),
        )

    def __str__(self) -> str:
        return f"entry of execution {self.execution_id}"


class AssetLine(models.Model):
    """The mutex row of one asset: only ever locked, never changed. Made with the asset's first request."""

    asset_id = models.BigIntegerField(primary_key=True)

    def __str__(self) -> str:
        return f"line at asset {self.asset_id}"


class LockState(models.TextChoices):
    IDLE = "idle"  # its entry is delayed: not in line
    QUEUED = "queued"
    HELD = "held"


class AssetLock(models.Model):
    """A request for the lock of one asset and, once granted, the lock itself."""

    execution_id = models.BigIntegerField()
    asset_id = models.BigIntegerField()
    place = models.DateTimeField()
    exclusive = models.BooleanField()
    state = models.CharField(max_length=6, choices=LockState)
    fence = models.BigIntegerField(null=True, help_text="Grows with every grant, never repeats; given to connectors.")
    held_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["execution_id", "asset_id"], name="one_request_per_asset"),
            # The last line of defence: whatever the claim believes, two writers cannot both be recorded.
            models.UniqueConstraint(
                fields=["asset_id"], condition=Q(state="held", exclusive=True), name="one_exclusive_holder_per_asset"
            ),
            models.CheckConstraint(
                condition=Q(state="held", fence__isnull=False) | (~Q(state="held") & Q(fence__isnull=True)),
                name="held_if_and_only_if_fenced",
            ),
        )
        indexes = (
            models.Index(fields=["asset_id", "place", "execution_id"], condition=Q(state="queued"), name="lock_line"),
            models.Index(
                fields=["asset_id", "place", "execution_id"],
                condition=Q(state="queued", exclusive=True),
                name="lock_line_exclusive",
            ),
            models.Index(fields=["asset_id"], condition=Q(state="held"), name="lock_held"),
        )

    def __str__(self) -> str:
        return f"{self.state} lock of execution {self.execution_id} on asset {self.asset_id}"


class WorkerState(models.TextChoices):
    ACTIVE = "active"
    DRAINING = "draining"  # claims nothing more, ends when what it runs has ended
    STOPPED = "stopped"  # ended in order
    LOST = "lost"  # died or fell silent; its leases were taken away


class Worker(models.Model):
    """One worker process, from its registration to its end."""

    cluster = models.CharField(max_length=40, help_text="The django-q2 cluster that started it.")
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=40)
    state = models.CharField(max_length=8, choices=WorkerState, db_default=WorkerState.ACTIVE)
    slots = models.PositiveIntegerField()
    running = models.PositiveIntegerField(db_default=0)
    finished = models.BigIntegerField(db_default=0)
    rss_bytes = models.BigIntegerField(db_default=0)
    ledger_group = models.BigIntegerField(db_default=0, help_text="Number of its last committed group of writes.")
    started_at = models.DateTimeField(db_default=Now())
    last_beat_at = models.DateTimeField(db_default=Now())
    stopped_at = models.DateTimeField(null=True, blank=True)
    note = models.TextField(blank=True, db_default="")

    class Meta:
        indexes = (models.Index(fields=["cluster"], condition=Q(stopped_at__isnull=True), name="worker_live"),)

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}"


class QueueControl(models.Model):
    """The one row that says whether the queue takes in and hands out work."""

    draining = models.BooleanField(db_default=False)
    changed_at = models.DateTimeField(db_default=Now())
    changed_by = models.CharField(max_length=200, blank=True, db_default="")
    reason = models.TextField(blank=True, db_default="")

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="one_control_row"),)

    def __str__(self) -> str:
        return "draining" if self.draining else "open"


class DeadReason(models.TextChoices):
    """Why an entry is in the DLQ. The list is closed: each has its advice in queueing/dead_letters.py."""

    OUTCOME_UNKNOWN = "outcome_unknown"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    ENGINE_ERROR = "engine_error"


class DeadLetterState(models.TextChoices):
    OPEN = "open"
    REQUEUED = "requeued"
    RESOLVED = "resolved"
    DISCARDED = "discarded"


class DeadLetter(models.Model):
    """An execution that the system will not try again by itself. A person decides."""

    execution_id = models.BigIntegerField()
    tenant_id = models.BigIntegerField()
    reason = models.CharField(max_length=30, choices=DeadReason)
    error = models.TextField(blank=True)
    attempts = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=DeadLetterState, db_default=DeadLetterState.OPEN)
    created_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=200, blank=True, db_default="")
    close_reason = models.TextField(blank=True, db_default="")

    class Meta:
        verbose_name = "DLQ entry"
        verbose_name_plural = "DLQ entries"
        constraints = (
            models.UniqueConstraint(
                fields=["execution_id"], condition=Q(state="open"), name="one_open_dlq_entry_per_execution"
            ),
            models.CheckConstraint(
                condition=Q(state="open", closed_at__isnull=True) | (~Q(state="open") & Q(closed_at__isnull=False)),
                name="open_if_and_only_if_not_closed",
            ),
        )
        indexes = (models.Index(fields=["tenant_id", "-id"], name="dead_letter_list"),)

    def __str__(self) -> str:
        return f"DLQ entry of execution {self.execution_id}: {self.reason}"
