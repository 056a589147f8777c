"""Lengths of time as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta


def span(length: timedelta | float | None) -> str:
    """Return a length (seconds, if it is a number) in at most two units: "40 ms", "1.2 s", "3 min 20 s"."""
    if length is None:
        return ""
    seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole = int(seconds)
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def between(start: datetime | None, end: datetime | None) -> timedelta | None:
    """Return end - start, or None when one of them is missing."""
    return end - start if start and end else None
