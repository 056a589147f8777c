"""The worker pool as operators steer it: how many workers, by hand or by autoscaling, and which of them drain.

Doors (commands, admin, API) call these verbs; `by` is the name that the records carry. The clusters look at what is
written here a few times a second (queueing/broker.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from queueing.models import Autoscale, Cluster, QueueControl, ScalingDecision, Worker, WorkerState


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
        before = sum(cluster.processes for cluster in clusters)
        if not dry_run:
            QueueControl.objects.filter(pk=control.pk).update(processes=processes, autoscale=Autoscale.OFF)
            _record(clusters, processes, by=by, reason=reason or f"Scaled to {processes} in all.")
    return Scaled(before, processes, len(clusters))


def _record(clusters: list[Cluster], processes: int, *, by: str, reason: str) -> None:
    shares = share_out(processes, [cluster.max_processes for cluster in clusters])
    ScalingDecision.objects.bulk_create(
        ScalingDecision(
            cluster=cluster.name, host=cluster.host, before=cluster.processes, after=share, reason=reason, by=by,
            applied=True, depth=0, waiting_seconds=0, running=0, slots=0,
        )
        for cluster, share in zip(clusters, shares, strict=True) if share != cluster.processes
    )  # fmt: skip


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

    Raises PoolRefused: bad_limits.
    """
    if not 1 <= minimum <= maximum:
        raise PoolRefused(
            "bad_limits",
            f"The minimum {minimum} must be at least 1 and no more than the maximum {maximum}.",
            "Give both, for example a minimum of 2 and a maximum of 6.",
        )
    with transaction.atomic():
        QueueControl.objects.update(
            autoscale=Autoscale(mode), min_processes=minimum, max_processes=maximum, processes=None
        )
        ScalingDecision.objects.bulk_create(
            ScalingDecision(
                cluster=cluster.name, host=cluster.host, before=cluster.processes, after=cluster.processes, by=by,
                reason=reason or f"Autoscaling {mode.replace('_', ' ')}, between {minimum} and {maximum}.",
                applied=True, depth=0, waiting_seconds=0, running=0, slots=0,
            )
            for cluster in live_clusters()
        )  # fmt: skip


def drain_workers(*, by: str, reason: str = "", ids: Iterable[int] | None = None, host: str = "") -> int:
    """Have workers claim nothing more; what they run goes on. All of them, or some by id or host; return how many.

    They stay, and so does the drain: who takes the place of one that ends meanwhile drains as well.
    """
    return _set_draining(True, by=by, reason=reason, ids=ids, host=host)


def undrain_workers(*, by: str, reason: str = "", ids: Iterable[int] | None = None, host: str = "") -> int:
    """Have workers claim again. Return how many were draining."""
    return _set_draining(False, by=by, reason=reason, ids=ids, host=host)


def _set_draining(draining: bool, *, by: str, reason: str, ids: Iterable[int] | None, host: str) -> int:
    which = Q(stopped_at=None, state=WorkerState.ACTIVE, draining=not draining)
    if ids is not None:
        which &= Q(pk__in=list(ids))
    if host:
        which &= Q(host=host)
    note = f"Draining, by {by}{f': {reason}' if reason else ''}." if draining else ""
    with transaction.atomic(), connection.cursor() as cursor:
        changed = Worker.objects.filter(which).update(draining=draining, note=note)
        cursor.execute("SELECT pg_notify('opsconductor_control', 'drain'), pg_notify('opsconductor_queue', '')")
    return changed


def silent_workers() -> list[Worker]:
    """Return the workers that have missed two beats: they are dead, frozen or cut off."""
    return list(
        Worker.objects.filter(stopped_at=None, last_beat_at__lt=Now() - settings.SILENT_AFTER).order_by("last_beat_at")
    )
