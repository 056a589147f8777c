"""The worker pool as operators steer it: how many workers, by hand or by autoscaling, and which of them drain.

Doors (commands, admin, API) call these verbs; `by` is the name that the records carry. The clusters look at what is
written here a few times a second (queueing/broker.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Q, Sum
from django.db.models.functions import Now

from queueing.models import (
    Autoscale,
    Cluster,
    EntryState,
    QueueControl,
    QueueEntry,
    ScalingDecision,
    Worker,
    WorkerState,
)
from safety import audit

# Of one cluster, as WORKER_MAX_PROCESSES allows.
MOST_PROCESSES = 256

_MOST_NAMED = 5


class PoolRefused(Exception):
    """What was asked of the pool cannot be done. The text says why, `how_to_fix` what to do."""

    def __init__(self, code: str, message: str, how_to_fix: str) -> None:
        super().__init__(message)
        self.code = code
        self.how_to_fix = how_to_fix


@dataclass(frozen=True, slots=True)
class Scaled:
    """What a scaling asked for: worker processes before and after, over so many clusters."""

    before: int
    after: int
    clusters: int


@dataclass(frozen=True, slots=True)
class Manned:
    """A cluster and its workers, those that run suspects apart left out.

    alive     at work, draining ones included; stopping: told to end, and handing back what they run
    draining  of those alive, how many claim nothing
    silent    the cluster itself has missed two beats
    """

    cluster: Cluster
    alive: int
    stopping: int
    draining: int
    running: int
    slots: int
    silent: bool

    def as_dict(self) -> dict[str, Any]:
        """As API and commands show it: `processes` is how many it is to have, `max_processes` its room.

        drained: its host was drained as a whole, so every worker that it starts drains.
        """
        cluster = self.cluster
        return {
            "cluster": cluster.name,
            "host": cluster.host,
            "pid": cluster.pid,
            "version": cluster.version,
            "pools": cluster.pools,
            "regions": cluster.regions,
            "processes": cluster.processes,
            "max_processes": cluster.max_processes,
            "alive": self.alive,
            "stopping": self.stopping,
            "draining": self.draining,
            "drained": cluster.draining,
            "running": self.running,
            "slots": self.slots,
            "started_at": cluster.started_at,
            "last_beat_at": cluster.last_beat_at,
            "silent": self.silent,
        }


def manned_clusters() -> list[Manned]:
    """Return the clusters that have not ended, silent ones included, oldest first. Three statements."""
    active = Q(state=WorkerState.ACTIVE)
    counts: dict[str, dict[str, Any]] = {
        row["cluster"]: dict(row)
        for row in Worker.objects.filter(stopped_at=None, isolation=False)
        .values("cluster")
        .annotate(
            alive=Count("pk", filter=active),
            stopping=Count("pk", filter=~active),
            idle=Count("pk", filter=active & Q(draining=True)),
            running_now=Sum("running"),
            slots_now=Sum("slots", filter=active),
        )
    }
    beating = set(
        Cluster.objects.filter(stopped_at=None, last_beat_at__gt=Now() - settings.SILENT_AFTER).values_list(
            "pk", flat=True
        )
    )
    return [
        Manned(
            cluster,
            alive=row.get("alive", 0),
            stopping=row.get("stopping", 0),
            draining=row.get("idle", 0),
            running=row.get("running_now") or 0,
            slots=row.get("slots_now") or 0,
            silent=cluster.pk not in beating,
        )
        for cluster in Cluster.objects.filter(stopped_at=None).order_by("started_at", "name")
        for row in (counts.get(cluster.name, {}),)
    ]


def sizing() -> dict[str, Any]:
    """Return what operators decided on the number of worker processes, as API and commands show it.

    min and max are for each cluster; `processes` is for all of them together, None: each has its own number.
    """
    control = QueueControl.objects.get()
    return {
        "autoscale": control.autoscale,
        "min": control.min_processes,
        "max": control.max_processes,
        "processes": control.processes,
    }


def decision_as_dict(decision: ScalingDecision) -> dict[str, Any]:
    """Return one decision as API and commands show it; `applied` is false for what a dry run would have done."""
    return {
        "id": decision.pk,
        "at": decision.at,
        "cluster": decision.cluster,
        "host": decision.host,
        "before": decision.before,
        "after": decision.after,
        "reason": decision.reason,
        "by": decision.by,
        "applied": decision.applied,
        "depth": decision.depth,
        "waiting_seconds": decision.waiting_seconds,
        "running": decision.running,
        "slots": decision.slots,
    }


def live_clusters() -> list[Cluster]:
    """Return the clusters that have beaten within the last lease, oldest first."""
    return list(
        Cluster.objects.filter(stopped_at=None, last_beat_at__gt=Now() - settings.LEASE).order_by("started_at", "name")
    )


def scale(processes: int, *, by: str, reason: str = "", dry_run: bool = False) -> Scaled:
    """Have so many worker processes over all clusters together, shared out evenly; ends autoscaling.

    The share of a cluster that comes or goes later is worked out anew by the others. Those that are too many hand back
    what they run between two steps and end; nothing is lost. Raises PoolRefused: too_few_processes,
    too_many_processes, no_cluster.
    """
    if processes < 1:
        raise PoolRefused(
            "too_few_processes",
            f"{processes} worker processes would run nothing.",
            "Ask for 1 or more; to stop work use `manage.py drain`.",
        )
    with transaction.atomic():
        control = QueueControl.objects.select_for_update().get()
        clusters = live_clusters()
        room = sum(cluster.max_processes for cluster in clusters)
        if not clusters:
            raise PoolRefused(
                "no_cluster", "No host runs workers.", "Start `manage.py worker` on a host, or `make serve`."
            )
        if processes > room:
            raise PoolRefused(
                "too_many_processes",
                f"{len(clusters)} hosts have room for {room} worker processes, not {processes}.",
                "Ask for fewer, raise WORKER_MAX_PROCESSES where `manage.py worker` starts, or add a host.",
            )
        rooms = [cluster.max_processes for cluster in clusters]
        # What was asked for last counts, also where a cluster has not looked at it yet.
        shares = (
            [cluster.processes for cluster in clusters]
            if control.processes is None
            else share_out(control.processes, rooms)
        )
        if not dry_run:
            QueueControl.objects.filter(pk=control.pk).update(processes=processes, autoscale=Autoscale.OFF)
            ScalingDecision.objects.bulk_create(
                ScalingDecision(
                    cluster=cluster.name, host=cluster.host, before=before, after=after, by=by, applied=True,
                    reason=f"Scaled to {processes} in all.{_because(reason)}",
                    depth=0, waiting_seconds=0, running=0, slots=0,
                )
                for cluster, before, after in zip(clusters, shares, share_out(processes, rooms), strict=True)
                if before != after
            )  # fmt: skip
            audit.record("pool.scale", actor=by, reason=reason, data={"from": sum(shares), "to": processes})
    return Scaled(sum(shares), processes, len(clusters))


def share_out(processes: int, rooms: list[int]) -> list[int]:
    """Return each cluster's share, as fleet.SHARE works it out: one each, again and again, where there is room."""
    shares = [0] * len(rooms)
    left = processes
    while left > 0 and any(share < room for share, room in zip(shares, rooms, strict=True)):
        for number, room in enumerate(rooms):
            if left > 0 and shares[number] < room:
                shares[number] += 1
                left -= 1
    return shares


def autoscale(mode: str, *, minimum: int, maximum: int, by: str, reason: str = "") -> None:
    """Have each cluster decide between so many worker processes (on), only say what it would (dry_run), or neither.

    A cluster with less room than the minimum has as many as it has room for. Raises PoolRefused: bad_limits.
    """
    if not 1 <= minimum <= maximum <= MOST_PROCESSES:
        raise PoolRefused(
            "bad_limits",
            f"The minimum {minimum} must be at least 1 and no more than the maximum {maximum}; that may be"
            f" {MOST_PROCESSES} at most.",
            "Give both, for example a minimum of 2 and a maximum of 6.",
        )
    changes = {"autoscale": Autoscale(mode), "min_processes": minimum, "max_processes": maximum}
    if mode == Autoscale.ON:
        changes["processes"] = None  # what was scaled by hand is the start; a dry run leaves it in force
    with transaction.atomic():
        QueueControl.objects.update(**changes)
        audit.record("pool.autoscale", actor=by, reason=reason, data=changes)
        ScalingDecision.objects.bulk_create(
            ScalingDecision(
                cluster=cluster.name, host=cluster.host, before=cluster.processes, after=cluster.processes, by=by,
                reason=f"Autoscaling {mode.replace('_', ' ')}, between {minimum} and {maximum}.{_because(reason)}",
                applied=True, depth=0, waiting_seconds=0, running=0, slots=0,
            )
            for cluster in live_clusters()
        )  # fmt: skip


def _because(reason: str) -> str:
    return f" {reason}" if reason else ""


def drain_workers(*, by: str, reason: str = "", ids: Iterable[int] | None = None, host: str = "") -> int:
    """Have workers claim nothing more; what they run goes on. All of them, or some by id or host; return how many.

    They stay, and so does the drain: who takes the place of one that ends meanwhile drains as well. Of a host, or of
    all, so do those that are started besides, until their cluster is started anew.
    Raises PoolRefused: unknown_worker, unknown_host; then nothing is changed.
    """
    return _set_draining(True, by=by, reason=reason, ids=ids, host=host)


def undrain_workers(*, by: str, reason: str = "", ids: Iterable[int] | None = None, host: str = "") -> int:
    """Have workers claim again. Return how many were draining. Raises PoolRefused as `drain_workers` does."""
    return _set_draining(False, by=by, reason=reason, ids=ids, host=host)


def _set_draining(draining: bool, *, by: str, reason: str, ids: Iterable[int] | None, host: str) -> int:
    which = Q(stopped_at=None)
    wanted = set(ids or ())
    if ids is not None:
        which &= Q(pk__in=wanted)
        _insist_on_workers(wanted)
    if host:
        which &= Q(host=host)
        _insist_on_host(host)
    note = f"Draining, by {by}{f': {reason}' if reason else ''}." if draining else ""
    with transaction.atomic(), connection.cursor() as cursor:
        if ids is None:
            # First the clusters, whose rows every worker locks that registers: it either finds the drain there, or is
            # found by the next statement.
            clusters = Cluster.objects.filter(stopped_at=None, **({"host": host} if host else {}))
            clusters.update(draining=draining)
        changed = Worker.objects.filter(which, state=WorkerState.ACTIVE, draining=not draining).update(
            draining=draining, note=note
        )
        if not draining:
            # Those that have ended, or are about to, would hand their drain on to whoever takes their place.
            heirs = Q(pk__in=wanted) if ids is not None else Q(host=host) if host else Q()
            Worker.objects.filter(heirs, draining=True).update(draining=False)
        cursor.execute("SELECT pg_notify('opsconductor_control', 'drain'), pg_notify('opsconductor_queue', '')")
        audit.record(
            "worker.drain" if draining else "worker.undrain", actor=by, object_type="host" if host else "",
            object_id=host, object_name=host, reason=reason,
            data={"changed": changed, "workers": None if ids is None else sorted(wanted)},
        )  # fmt: skip
    return changed


def _insist_on_workers(ids: Collection[int]) -> None:
    there = Worker.objects.filter(stopped_at=None, pk__in=ids).values_list("pk", flat=True)
    if missing := sorted(set(ids) - set(there)):
        named = ", ".join(map(str, missing[:_MOST_NAMED]))
        raise PoolRefused(
            "unknown_worker",
            f"No worker {named} is there: it has ended, or never was.",
            "`manage.py scale_workers --show` and GET /api/v1/workers/ list those that are.",
        )


def _insist_on_host(host: str) -> None:
    workers = Worker.objects.filter(stopped_at=None).values_list("host", flat=True)
    clusters = Cluster.objects.filter(stopped_at=None).values_list("host", flat=True)
    there = sorted({*workers, *clusters})
    if host not in there:
        named = ", ".join(there[:_MOST_NAMED]) or "none"
        raise PoolRefused(
            "unknown_host", f"No worker runs on the host {host}.", f"Name one as workers do; there are: {named}."
        )


def running_on(*, ids: Iterable[int] | None = None, host: str = "") -> int:
    """Return how many executions are leased to workers, all of them or some by id or host.

    Also to such as have ended: until its lease is over, what a worker left may still run.
    """
    leased = QueueEntry.objects.filter(state=EntryState.LEASED)
    if ids is not None:
        leased = leased.filter(worker_id__in=list(ids))
    if host:
        leased = leased.filter(worker_id__in=Worker.objects.filter(host=host).values("pk"))
    return leased.count()


def silent_workers() -> list[Worker]:
    """Return the workers that have missed two beats: they are dead, frozen or cut off."""
    return list(
        Worker.objects.filter(stopped_at=None, last_beat_at__lt=Now() - settings.SILENT_AFTER).order_by("last_beat_at")
    )
