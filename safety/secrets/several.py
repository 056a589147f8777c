"""Asking an external store for several secrets: at once, since each is a request of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from safety.secrets.stores import StoredSecret
from safety.secrets.unavailable import SecretUnavailable

AT_ONCE = 8

Answer = StoredSecret | SecretUnavailable


def read_each(read: Callable[[str], StoredSecret], paths: Iterable[str]) -> dict[str, Answer]:
    """Return what `read` gives for each path, or the SecretUnavailable that it raised."""

    def answer(path: str) -> Answer:
        try:
            return read(path)
        except SecretUnavailable as trouble:
            return trouble

    wanted = list(paths)
    if len(wanted) == 1:
        return {wanted[0]: answer(wanted[0])}
    with ThreadPoolExecutor(min(AT_ONCE, len(wanted) or 1), "secrets") as pool:
        return dict(zip(wanted, pool.map(answer, wanted), strict=True))
