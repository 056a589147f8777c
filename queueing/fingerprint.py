"""What two errors have in common: the text without what differs from case to case.

So a thousand DLQ entries of one fault are one group.
"""

from __future__ import annotations

import hashlib
import re

MOST = 300  # characters of a pattern: what tells faults apart stands in front

# In this order: each takes away what a later one would cut into pieces. Every pattern is a fixed number of classes in a
# row, without alternatives inside a repetition, so the time is linear in the length of the text.
_VARYING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b", "<uuid>"),
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d[:.\d]*(?:Z|[+-]\d\d:?\d\d)?", "<time>"),
        (r"\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+", "<address>"),
        (r"\b[a-z][a-z0-9+.-]{1,20}://[^\s'\"]+", "<url>"),
        (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", "<ip>"),
        (r"\b(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{1,4}\b", "<ip>"),
        (r"'[^'\n]{1,200}'", "'…'"),
        (r'"[^"\n]{1,200}"', '"…"'),
        (r"(?<![\w<])/[\w.+-]+(?:/[\w.+-]+)+", "<path>"),
        (r"\b(?:0x)?(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b", "<hex>"),
        (r"\b[a-zA-Z][\w-]*\d[\w-]*(?:\.[\w-]+)+", "<host>"),
        (r"#?\d+(?:[.,]\d+)*", "<n>"),
    )
)
_SPACE = re.compile(r"\s+")
_LONGEST_READ = 4_000


def pattern_of(error: str) -> str:
    """Return an error without numbers, names in quotes, addresses, paths and times, on one line, at most MOST long."""
    text = error[:_LONGEST_READ]
    for varying, name in _VARYING:
        text = varying.sub(name, text)
    return _SPACE.sub(" ", text).strip()[:MOST]


def fingerprint_of(reason: str, pattern: str) -> str:
    """Return 16 hexadecimal digits that are the same for the same reason and pattern."""
    return hashlib.sha256(f"{reason}\0{pattern}".encode()).hexdigest()[:16]
