"""How long to wait before asking a service again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
LONGEST_RETRY_AFTER_SECONDS = 30.0  # a service that asks for more is asked no more by this request


def backoff_seconds(attempt: int) -> float:
    """Return the pause after failed attempt number `attempt` (from 1): 0.2 s, doubling, at most 5 s; half of it chance.

    So callers that failed together do not come back together.
    """
    longest = min(FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 30), LONGEST_PAUSE_SECONDS)
    return longest * random.uniform(0.5, 1.0)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return what the header Retry-After asks for, in seconds or as a date; None when it says nothing of use.

    A date is compared with the answer's own Date, where there is one: our clocks need not agree.
    """
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    at = _moment(text)
    if at is None:
        return None
    now = _moment(headers.get("Date") or "") or datetime.now(UTC)
    return max(0.0, (at - now).total_seconds())


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
