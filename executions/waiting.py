"""Why an execution is in the state it is in, as a sentence: the answer that every page gives."""

from __future__ import annotations

from collections.abc import Sequence

from executions.models import Asset, Execution
from executions.states import ExecutionStatus
from queueing import control
from queueing.control import Waiting

E = ExecutionStatus


def waiting_sentence(execution: Execution) -> str:
    """Return what a queued execution waits for; an empty text when it is not waiting in the queue."""
    if execution.status != E.QUEUED:
        return ""
    waiting = control.waiting(execution.pk)
    return "A worker has just taken it." if waiting is None else sentence(waiting)


def sentence(waiting: Waiting) -> str:
    """Return one reason to wait as a sentence, with the name of the asset that it is about."""
    return sentences([waiting])[0]


def sentences(reasons: Sequence[Waiting]) -> list[str]:
    """Return reasons to wait as sentences. One statement for the names of all assets."""
    assets = {waiting.asset_id for waiting in reasons if waiting.asset_id is not None}
    names = dict(Asset.objects.filter(pk__in=assets).values_list("pk", "name")) if assets else {}
    return [_sentence(waiting, names.get(waiting.asset_id or 0, "an asset")) for waiting in reasons]


def _sentence(waiting: Waiting, name: str) -> str:
    by = f" ({waiting.by})" if waiting.by else ""
    match waiting.kind:
        case "lock":
            return (
                f"Waiting for the lock on {name}, held by #{waiting.other} for {_span(waiting.seconds)}; "
                f"{_position(waiting)} in line."
            )
        case "line":
            return f"Waiting for its turn at {name}, behind #{waiting.other}: {_position(waiting)} in line."
        case "not_before":
            return f"Not before {waiting.until:%Y-%m-%d %H:%M:%S} UTC."
        case "backoff":
            return f"An attempt was lost with its worker; the next begins at {waiting.until:%H:%M:%S} UTC."
        case "draining":
            return f"The queue is draining{by}: nothing starts until an operator resumes it."
        case "paused":
            return f"The pool {waiting.pool} is paused{by}: nothing of it starts until an operator resumes it."
        case "no_worker":
            return "No worker is running. Start one with `make serve` or `manage.py worker`."
        case "not_served":
            return (
                f"No worker serves {_labels(waiting)}. Start one with these labels, or undrain those that serve them."
            )
        case "apart":
            return "A worker died while it ran this; it waits to be run apart from others."
    if waiting.position and waiting.position > 1:
        return f"Waiting for a free worker: {_position(waiting)} in line."
    return "Waiting for a free worker."


def _labels(waiting: Waiting) -> str:
    pool = f"pool {waiting.pool}"
    return f"{pool} in region {waiting.region}" if waiting.region else pool


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _position(waiting: Waiting) -> str:
    position = waiting.position or 1
    return f"beyond the {_ordinal(position - 1)}" if waiting.beyond else _ordinal(position)


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
