"""The secrets that this process knows: its own, for as long as it runs, and those of executions while they run here.

They are masked wherever this process writes: a log line about one execution may hold the secret of another.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from safety.masking.values import NOTHING, SecretValues

_lock = threading.Lock()
_own: frozenset[str] = frozenset()
_held: Counter[str] = Counter()
_current: SecretValues | None = NOTHING
_with_own: SecretValues = NOTHING


def set_own(values: Iterable[str]) -> None:
    """Say what the process's own secrets are: passwords and keys of its settings."""
    global _own, _current, _with_own
    with _lock:
        _own = frozenset(values)
        _with_own = SecretValues.of(_own)
        _current = None


def hold(values: Iterable[str]) -> None:
    """Mask these values in everything that this process logs, until they are released as often as they were held."""
    global _current
    with _lock:
        _held.update(set(values))
        _current = None


def release(values: Iterable[str]) -> None:
    """The counterpart of `hold`."""
    global _current
    with _lock:
        for value in set(values):
            _held[value] -= 1
            if _held[value] <= 0:
                del _held[value]
        _current = None


@contextmanager
def held(values: Iterable[str]) -> Iterator[None]:
    """Hold values for a while."""
    kept = tuple(values)
    if not kept:
        yield
        return
    hold(kept)
    try:
        yield
    finally:
        release(kept)


def everything() -> SecretValues:
    """All that the process knows now."""
    global _current
    known = _current
    if known is None:
        with _lock:
            known = _current = SecretValues.of(_own | set(_held))
    return known


def all_known(values: SecretValues | Iterable[str]) -> SecretValues:
    """These values and the process's own; those of other executions are not looked for in an execution's output."""
    if isinstance(values, SecretValues):
        return values or _with_own
    given = frozenset(values)
    return SecretValues.of(_own | given) if given else _with_own
