"""How a peer script hands back its figures: one line of JSON on standard output."""

from __future__ import annotations

import json
import time
from collections.abc import Callable


def report(**figures: object) -> None:
    """Print the figures as the script's result. The names are those of `PeerRates`."""
    print("RESULT " + json.dumps(figures), flush=True)


def rate_of(jobs: int, work: Callable[[], object]) -> float:
    """Run `work`, which handles `jobs` jobs; return jobs per second."""
    began = time.perf_counter()
    work()
    return jobs / (time.perf_counter() - began)
