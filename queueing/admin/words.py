"""How the live pages say things: sentences with a look, figures that lead somewhere, counts, lengths of time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence. status: the colour, as for executions; icon: a symbol of static/icons.svg; link: where to look."""

    status: str
    icon: str
    text: str
    link: str = ""


def bad(text: str, link: str = "") -> Said:
    return Said("failed", "cross", text, link)


def warning(text: str, link: str = "") -> Said:
    return Said("needs_attention", "alert", text, link)


def note(text: str, link: str = "") -> Said:
    return Said("queued", "dot", text, link)


def well(text: str) -> Said:
    return Said("succeeded", "check", text)


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure with where it leads. bars: (label, number, width from 1 to 100), shown below it."""

    label: str
    value: str
    sentence: str
    link: str
    status: str = ""
    bars: tuple[tuple[str, int, int], ...] = ()


def span(seconds: float) -> str:
    """Return a length of time as people say it: "22 s", "3 min", "1.5 h", "2 d"."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86400:.0f} d"


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 worker", "1,200 workers"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
