"""Our own measurements, by the name that --only takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measurement import Measurement
from benchmarks.ours import (
    cancel,
    events,
    fan_out,
    growth,
    idempotency,
    latency,
    masking,
    queue,
    renewal,
    submit,
    whole,
)
from benchmarks.run import Run


@dataclass(frozen=True, slots=True)
class Ours:
    """A measurement of ours, and the groups of peers whose figures it is compared with."""

    measure: Callable[[Run], list[Measurement]]
    peers: tuple[str, ...] = ()


MEASUREMENTS: dict[str, Ours] = {
    "queue": Ours(queue.measure, peers=("pgqueuer",)),
    "executions": Ours(whole.measure, peers=("celery", "django-q2")),
    "latency": Ours(latency.measure),
    "events": Ours(events.measure),
    "submit": Ours(submit.measure),
    "idempotency": Ours(idempotency.measure),
    "masking": Ours(masking.measure),
    "renewal": Ours(renewal.measure),
    "fan-out": Ours(fan_out.measure, peers=("ansible",)),
    "cancel": Ours(cancel.measure),
    "growth": Ours(growth.measure),
}
