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

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from queueing.labels import DEFAULT_POOL

EVERYTHING = ["*"]  # what a worker serves that was told nothing


class EntryState(models.TextChoices):
    DELAYED = "delayed"
    READY = "ready"
    BLOCKED = "blocked"
    LEASED = "leased"


def label(**options: Any) -> models.CharField[Any, Any]:
    """A field for the name of a pool or a region: compared byte by byte, since it leads the index of every claim."""
    return models.CharField(max_length=63, db_collation="C", **options)


class QueueEntry(models.Model):
    """An execution that waits for a worker, or is held by one."""

    execution_id = models.BigIntegerField(primary_key=True)
    tenant_id = models.BigIntegerField()
    pool = label(db_default=DEFAULT_POOL, help_text="Only workers that serve this pool claim it.")
    region = label(
        blank=True, db_default="", help_text="Only workers that serve this region claim it; empty: any does."
    )
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
    losses = models.PositiveSmallIntegerField(
        db_default=0, help_text="How often the process that ran it died by itself. Above 0 it is run apart from others."
    )
    worker_id = models.BigIntegerField(null=True)
    leased_at = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True, help_text="Since when it waits for nothing but a worker.")
    returned_at = models.DateTimeField(null=True, help_text="When it last came back from a worker.")
    cancel_reason = models.TextField(null=True, help_text="Set while leased: the worker is asked to stop.")
    revoked_at = models.DateTimeField(
        null=True, help_text="Since when its lease is to end: soon it is renewed no more."
    )
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
            # The claim reads this one and nothing else to find work: a line for each pool, region and tenant.
            models.Index(
                fields=["pool", "region", "tenant_id", "place", "execution_id"],
                condition=Q(state="ready", losses=0),
                name="entry_line",
            ),
            models.Index(fields=["place"], condition=Q(state="ready", losses__gt=0), name="entry_suspect"),
            # What is due next, and what has waited longest.
            models.Index(fields=["state", "available_at"], condition=~Q(state="leased"), name="entry_waiting"),
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


class Pool(models.Model):
    """A pool that was paused at some time. A pool needs no row to be used."""

    name = label(primary_key=True)
    paused = models.BooleanField(db_default=False)
    changed_at = models.DateTimeField(db_default=Now())
    changed_by = models.CharField(max_length=200, blank=True, db_default="")
    reason = models.TextField(blank=True, db_default="")

    def __str__(self) -> str:
        return f"{self.name} ({'paused' if self.paused else 'open'})"


class Cluster(models.Model):
    """One `manage.py worker` on a host: the parent of worker processes, from its start to its end."""

    name = models.CharField(max_length=40, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=40)
    pools = ArrayField(label(), db_default=EVERYTHING, help_text='Pools that it serves; "*" is all of them.')
    regions = ArrayField(label(), db_default=EVERYTHING, help_text='Regions that it serves; "*" is all of them.')
    processes = models.PositiveSmallIntegerField(help_text="How many worker processes it is to have now.")
    initial_processes = models.PositiveSmallIntegerField(help_text="How many it has when nobody decides otherwise.")
    max_processes = models.PositiveSmallIntegerField(help_text="More than these it cannot have.")
    draining = models.BooleanField(
        db_default=False, help_text="Its host was drained: every worker that it starts drains as well."
    )
    started_at = models.DateTimeField(db_default=Now())
    last_beat_at = models.DateTimeField(db_default=Now())
    stopped_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (models.Index(fields=["host"], condition=Q(stopped_at__isnull=True), name="cluster_live"),)

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}"


class WorkerState(models.TextChoices):
    ACTIVE = "active"
    STOPPING = "stopping"  # claims nothing more, hands back what it runs between two steps, ends
    STOPPED = "stopped"  # ended in order
    LOST = "lost"  # died or fell silent; its leases were taken away


class Worker(models.Model):
    """One worker process, from its registration to its end.

    A draining worker claims nothing and goes on with what it runs; it stays, and is undrained. Should it end meanwhile,
    the one that takes its place drains as well.
    """

    cluster = models.CharField(max_length=40, help_text="The cluster that started it.")
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=40)
    pools = ArrayField(label(), db_default=EVERYTHING, help_text='Pools that it serves; "*" is all of them.')
    regions = ArrayField(label(), db_default=EVERYTHING, help_text='Regions that it serves; "*" is all of them.')
    capabilities = ArrayField(
        models.CharField(max_length=40), db_default=[], help_text="What its connectors can reach."
    )
    isolation = models.BooleanField(db_default=False, help_text="It runs only what a worker has died of before.")
    state = models.CharField(max_length=8, choices=WorkerState, db_default=WorkerState.ACTIVE)
    draining = models.BooleanField(db_default=False)
    blamed = models.BooleanField(
        db_default=False, help_text="It died by itself: something that it ran may be the cause."
    )
    slots = models.PositiveIntegerField()
    running = models.PositiveIntegerField(db_default=0)
    finished = models.BigIntegerField(db_default=0)
    failed = models.BigIntegerField(db_default=0, help_text="Of those it finished, how many did not succeed.")
    loop_lag_ms = models.PositiveIntegerField(
        db_default=0, help_text="How late its event loop turned at worst, lately."
    )
    renewal_ms = models.PositiveIntegerField(db_default=0, help_text="How long its last renewal of leases took.")
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


class Autoscale(models.TextChoices):
    OFF = "off"
    DRY_RUN = "dry_run"  # decides and writes the decision down, changes nothing
    ON = "on"


class QueueControl(models.Model):
    """The one row that says whether the queue takes in and hands out work, and how many workers there are to be."""

    draining = models.BooleanField(db_default=False)
    changed_at = models.DateTimeField(db_default=Now())
    changed_by = models.CharField(max_length=200, blank=True, db_default="")
    reason = models.TextField(blank=True, db_default="")
    processes = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Worker processes of all clusters together; empty: each has its own number."
    )
    autoscale = models.CharField(max_length=7, choices=Autoscale, db_default=Autoscale.OFF)
    min_processes = models.PositiveSmallIntegerField(db_default=1, help_text="Autoscaling: at least, for each cluster.")
    max_processes = models.PositiveSmallIntegerField(db_default=8, help_text="Autoscaling: at most, for each cluster.")

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(id=1), name="one_control_row"),
            models.CheckConstraint(
                condition=Q(min_processes__gte=1, max_processes__gte=F("min_processes")), name="control_min_below_max"
            ),
        )

    def __str__(self) -> str:
        return "draining" if self.draining else "open"


class ScalingDecision(models.Model):
    """One change of the number of a cluster's worker processes, or one that autoscaling would have made; and why."""

    at = models.DateTimeField(db_default=Now())
    cluster = models.CharField(max_length=40)
    host = models.CharField(max_length=255)
    before = models.PositiveSmallIntegerField()
    after = models.PositiveSmallIntegerField()
    reason = models.TextField()
    by = models.CharField(max_length=200, help_text="autoscale, or who asked for it.")
    applied = models.BooleanField(help_text="No: autoscaling ran dry.")
    depth = models.PositiveIntegerField(help_text="Entries that the cluster could have claimed then.")
    waiting_seconds = models.FloatField(help_text="How long the oldest of them had waited.")
    running = models.PositiveIntegerField()
    slots = models.PositiveIntegerField()

    class Meta:
        indexes = (models.Index(fields=["-at"], name="scaling_newest"),)

    def __str__(self) -> str:
        return f"{self.host}: {self.before} to {self.after}"


class AttemptEnd(models.TextChoices):
    """How an attempt ended that did not end its execution."""

    HANDED_BACK = "handed_back"  # its worker shut down in order, between two steps
    LEASE_EXPIRED = "lease_expired"  # its worker fell silent, or was cut off
    WORKER_DIED = "worker_died"  # the process ended by itself: something that it ran may be the cause
    DEAD = "dead"  # it put the execution into the DLQ


class Attempt(models.Model):
    """One attempt that did not end its execution: written when it ended, never edited.

    The attempt that finished an execution has its events, and no row here.
    """

    execution_id = models.BigIntegerField()
    tenant_id = models.BigIntegerField()
    number = models.PositiveIntegerField(help_text="From 1, counted at claim.")
    token = models.BigIntegerField()
    worker_id = models.BigIntegerField()
    worker = models.CharField(max_length=300, help_text="host/pid")
    leased_at = models.DateTimeField()
    ended_at = models.DateTimeField(db_default=Now())
    end = models.CharField(max_length=13, choices=AttemptEnd)
    error = models.TextField(blank=True)

    class Meta:
        # Numbers begin anew when an execution is requeued from the DLQ; tokens never repeat.
        constraints = (models.UniqueConstraint(fields=["execution_id", "token"], name="attempt_of_a_lease_once"),)

    def __str__(self) -> str:
        return f"attempt {self.number} of execution {self.execution_id}"


class DeadReason(models.TextChoices):
    """Why an entry is in the DLQ. The list is closed: each has its advice in queueing/dead_letters.py."""

    OUTCOME_UNKNOWN = "outcome_unknown"
    ROLLBACK_FAILED = "rollback_failed"
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
    pattern = models.TextField(blank=True, db_default="", help_text="The error without what differs from case to case.")
    fingerprint = models.CharField(max_length=16, blank=True, db_default="", help_text="Hash of reason and pattern.")
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
        indexes = (
            models.Index(fields=["tenant_id", "-id"], name="dead_letter_list"),
            # Chips, groups and filters of the DLQ page look at what is open only.
            models.Index(
                fields=["tenant_id", "reason", "fingerprint", "id"], condition=Q(state="open"), name="dead_letter_open"
            ),
            # How many are new, and how old the oldest is.
            models.Index(fields=["tenant_id", "created_at"], condition=Q(state="open"), name="dead_letter_open_since"),
            models.Index(fields=["execution_id"], name="dead_letter_of_execution"),
        )

    def __str__(self) -> str:
        return f"DLQ entry of execution {self.execution_id}: {self.reason}"


class BatchVerb(models.TextChoices):
    REQUEUE = "requeue"
    DISCARD = "discard"


class RequeueFrom(models.TextChoices):
    AS_IT_IS = "as_it_is"  # it goes on where it stopped
    FAILED_STEP = "failed_step"  # what failed, and what nobody knows the outcome of, is run again


class BatchState(models.TextChoices):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class DeadLetterBatch(models.Model):
    """One decision on many DLQ entries: those that a filter selected at its start, and what became of each.

    It is carried out in slices, by whoever takes its row first: a command, a request, a worker. So it goes on when the
    process that began it dies. It is the record of the decision, too, and is kept as long as one of its entries.
    """

    tenant_id = models.BigIntegerField()
    actor_id = models.BigIntegerField(help_text="The user whose rights count, at every slice.")
    by = models.CharField(max_length=200)
    verb = models.CharField(max_length=7, choices=BatchVerb)
    start_from = models.CharField(max_length=11, choices=RequeueFrom, db_default=RequeueFrom.AS_IT_IS)
    reason = models.TextField(blank=True)
    filter = models.JSONField(help_text="The conditions that selected the entries.")
    per_second = models.PositiveIntegerField(
        null=True, help_text="Entries a second at most; empty: as fast as it goes."
    )
    paced_until = models.DateTimeField(
        db_default=Now(), help_text="The time for which the entries that are done have used up the pace."
    )
    matched = models.PositiveIntegerField()
    counts = models.JSONField(default=dict, help_text="Outcome -> number of entries.")
    state = models.CharField(max_length=9, choices=BatchState, db_default=BatchState.RUNNING)
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.CharField(max_length=200, blank=True, db_default="", help_text="Who cancelled it.")

    class Meta:
        verbose_name = "DLQ batch"
        verbose_name_plural = "DLQ batches"
        constraints = (
            models.CheckConstraint(
                condition=Q(state="running", ended_at__isnull=True) | (~Q(state="running") & Q(ended_at__isnull=False)),
                name="batch_running_if_and_only_if_not_ended",
            ),
            models.CheckConstraint(condition=Q(per_second__isnull=True) | Q(per_second__gte=1), name="batch_pace"),
        )
        indexes = (
            models.Index(fields=["tenant_id", "-id"], name="batch_list"),
            models.Index(fields=["paced_until"], condition=Q(state="running"), name="batch_running"),
        )

    def __str__(self) -> str:
        return f"{self.get_verb_display()} {self.matched} DLQ entries"

    @property
    def done(self) -> int:
        """How many of the entries have their outcome."""
        return sum(self.counts.values())


class ItemOutcome(models.TextChoices):
    """What became of one entry of a batch."""

    WAITING = "waiting"
    REQUEUED = "requeued"
    DISCARDED = "discarded"
    MOVED_ON = "moved_on"  # somebody had decided already
    UNKNOWN_OUTCOME = "unknown_outcome"  # a person has to say first what became of a step
    FORBIDDEN = "forbidden"
    FAILED = "failed"  # a fault of ours; the log has it


class DeadLetterBatchItem(models.Model):
    """One entry of a batch. The entry's row may be gone: the database then removes this one, too."""

    batch = models.ForeignKey(DeadLetterBatch, on_delete=models.CASCADE, related_name="items", db_index=False)
    # The constraint of this column is made by hand in migration 0007, with ON DELETE CASCADE.
    entry = models.ForeignKey(DeadLetter, on_delete=models.DO_NOTHING, related_name="decisions", db_constraint=False)
    execution_id = models.BigIntegerField()
    outcome = models.CharField(max_length=15, choices=ItemOutcome, db_default=ItemOutcome.WAITING)
    done_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["batch", "entry"], name="entry_once_per_batch"),
            models.CheckConstraint(
                condition=Q(outcome="waiting", done_at__isnull=True)
                | (~Q(outcome="waiting") & Q(done_at__isnull=False)),
                name="item_waiting_if_and_only_if_not_done",
            ),
        )
        indexes = (
            models.Index(fields=["batch", "id"], condition=Q(outcome="waiting"), name="batch_item_waiting"),
            models.Index(fields=["batch", "outcome", "id"], name="batch_item_results"),
        )

    def __str__(self) -> str:
        return f"entry {self.entry_id} of batch {self.batch_id}: {self.outcome}"
