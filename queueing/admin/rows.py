"""What the tables of the Fleet page show of a worker and of a line, and how its state looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.urls import reverse

from queueing.admin.live import address
from queueing.health import LATE_LOOP, Health
from queueing.models import Pool, Worker, WorkerState


@dataclass(frozen=True, slots=True)
class Measure:
    """One of the three figures of a worker's health; `title` says it as a sentence."""

    name: str
    value: str
    good: bool
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    """A worker as the table shows it; `health` is None for one that has ended."""

    worker: Worker
    health: Health | None

    @property
    def look(self) -> tuple[str, str, str]:
        """Return status, icon and word."""
        worker = self.worker
        if worker.state == WorkerState.STOPPED:
            return "cancelled", "stop", "Stopped"
        if worker.state == WorkerState.LOST or self.health is None:
            return "failed", "cross", "Lost"
        if self.health.silent:
            return "timed_out", "hourglass", "Silent"
        if worker.state == WorkerState.STOPPING:
            return "cancelling", "stop", "Stopping"
        if worker.draining:
            return "pending_approval", "half", "Draining"
        return ("succeeded", "check", "Active") if self.health.healthy else ("needs_attention", "alert", "Unwell")

    @property
    def order(self) -> tuple[int, str, int]:
        """Worst first."""
        words = ("Silent", "Unwell", "Stopping", "Draining", "Active")
        word = self.look[2]
        return (words.index(word) if word in words else len(words)), self.worker.host, self.worker.pid

    @property
    def can_drain(self) -> bool:
        return self.worker.stopped_at is None and self.worker.state == WorkerState.ACTIVE

    @property
    def measures(self) -> list[Measure]:
        """Beating, loop turning, renewing in time."""
        if self.health is None:
            return []
        worker, (beats, loop, renews) = self.worker, self.health.said
        late = settings.LEASE / 3
        return [
            Measure("beat", "silent" if self.health.silent else "in time", not self.health.silent, beats),
            Measure("loop", _late(worker.loop_lag_ms), timedelta(milliseconds=worker.loop_lag_ms) <= LATE_LOOP, loop),
            Measure("renewal", _late(worker.renewal_ms), timedelta(milliseconds=worker.renewal_ms) <= late, renews),
        ]

    @property
    def failure_percent(self) -> float | None:
        worker = self.worker
        return 100 * worker.failed / worker.finished if worker.finished else None

    @property
    def filled(self) -> int:
        """Part of the slots in use, in percent."""
        return min(100, round(100 * self.worker.running / self.worker.slots)) if self.worker.slots else 0

    @property
    def running_link(self) -> str:
        return address(reverse("admin:queueing_queueentry_changelist"), worker=self.worker.pk)


@dataclass(frozen=True, slots=True)
class LineRow:
    """What waits for workers with one pair of labels, who serves them, and whether the pool is paused and by whom."""

    pool: str
    region: str
    waiting: int
    seconds: float
    running: int
    serving: int
    paused: Pool | None

    @property
    def link(self) -> str:
        return address(reverse("admin:queueing_queueentry_changelist"), pool=self.pool, region=self.region)

    @property
    def look(self) -> tuple[str, str, str]:
        if self.paused:
            return "pending_approval", "half", "Paused"
        if not self.serving:
            return ("failed", "cross", "Not served") if self.waiting else ("cancelled", "stop", "Nobody serves it")
        return "succeeded", "check", "Served"


def _late(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
