"""How well a worker is: whether it beats, its event loop turns, and its leases are renewed in time.

What a worker cannot know of itself, such as that it is frozen, shows in its beats; the rest it says with each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.db.models.functions import Now

from queueing.models import Worker

# A cancel and a time limit are to reach a running step within a second, and go through the loop.
LATE_LOOP = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a worker that has not ended; `said` has a sentence each on its beats, its loop, its renewals.

    silent  it has missed two beats: it is dead, frozen or cut off, and what is said of its loop is old
    """

    healthy: bool
    silent: bool
    said: tuple[str, str, str]


def health_of(worker: Worker, silent_for: timedelta) -> Health:
    """Judge a worker that last beat `silent_for` ago by the database's clock."""
    # Two renewals follow each other by a third of a lease: one that takes longer is late for the next.
    late_renewal = settings.LEASE / 3
    lag, renewal = timedelta(milliseconds=worker.loop_lag_ms), timedelta(milliseconds=worker.renewal_ms)
    silent = silent_for > settings.SILENT_AFTER
    beats = (
        f"Silent for {silent_for.total_seconds():.0f} s: it is dead, frozen or cut off."
        if silent
        else f"It beat {max(0.0, silent_for.total_seconds()):.1f} s ago."
    )
    loop = (
        f"Its event loop was {lag.total_seconds():.1f} s late: too much runs at once, or something blocks it."
        if lag > LATE_LOOP
        else "Its event loop turns in time."
    )
    renews = (
        f"Its last renewal of leases took {renewal.total_seconds():.1f} s: the database is slow, or far."
        if renewal > late_renewal
        else "Its leases are renewed in time."
    )
    return Health(not silent and lag <= LATE_LOOP and renewal <= late_renewal, silent, (beats, loop, renews))


def with_health(rows: QuerySet[Worker]) -> list[tuple[Worker, Health | None]]:
    """Return workers with their health, None for those that have ended. One statement, by the database's clock."""
    silent_for = ExpressionWrapper(Now() - F("last_beat_at"), output_field=DurationField())
    return [
        (row, health_of(row, row.silent_for) if row.stopped_at is None else None)
        for row in rows.annotate(silent_for=silent_for)
    ]
