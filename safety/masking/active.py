"""The rules in force: the built-in patterns until the first look into the table, then what its rows say.

Nothing is asked per line: a process looks into the table now and then (`refresh_if_old`), at a place of its choice
where it may wait for the database, and everything that masks uses what was found last. A database that does not answer,
or a row that cannot be used, changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import re2

from safety.masking.patterns import PATTERNS, Pattern
from safety.masking.rules import Rules

log = logging.getLogger(__name__)

REFRESH_SECONDS = 3.0

_rules = Rules([pattern for pattern in PATTERNS if pattern.on])
_lock = threading.Lock()
_looked_at = 0.0
_found: object = None


def rules() -> Rules:
    """What is masked now."""
    return _rules


def use(patterns: Sequence[Pattern]) -> None:
    """Mask these patterns from now on. Raises re2.error when one is none; the old ones then stay."""
    global _rules
    _rules = Rules(patterns)


def refresh_if_old(load: Callable[[], tuple[object, Sequence[Pattern]]]) -> None:
    """Let `load` look into the table, unless that was done within the last three seconds.

    It returns what the rows say, to compare, and the patterns. Whatever it raises of the database goes to the caller.
    """
    global _looked_at, _found
    now = time.monotonic()
    if now - _looked_at < REFRESH_SECONDS or not _lock.acquire(blocking=False):
        return
    try:
        _looked_at = now  # also when it fails: not with every request anew
        found, patterns = load()
        if found != _found:
            use(patterns)
            _found = found
    except re2.error:
        log.exception("The masking rules of the database cannot be used; the last ones stay in force.")
    finally:
        _lock.release()


def expire() -> None:
    """Look again at the next occasion, however short ago the last look was."""
    global _looked_at
    _looked_at = 0.0
