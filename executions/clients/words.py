"""Words of the two services, and what they mean here. The one place where they are mapped.

A word that nobody knows never means success, never lowers what has to be approved, and never makes a machine a target.
"""

from __future__ import annotations

import re
from typing import Literal

from django.conf import settings

from executions.inventory_files import CONNECTION_OF_SERVICE, WORDS

# -- asset service

NO_TARGET = frozenset({"inactive", "decommissioned"})
LOCAL = "local"
NO_CONNECTION = "unknown"  # of an asset whose service says not how it is reached: no connector has this name
_CONNECTION = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")


def connection_of(service_type: str) -> str:
    """Return how an asset is reached. A service that is none of ours stays: an added connector may reach it.

    Never `local`: that is the worker's own machine, and no machine of a service.
    """
    word = service_type.lower()
    if word == LOCAL:
        return NO_CONNECTION
    return CONNECTION_OF_SERVICE.get(word) or (word if _CONNECTION.fullmatch(word) else NO_CONNECTION)


def is_target(*, is_active: bool | None, status: str) -> bool:
    """What is not said to be inactive or decommissioned may be named as a target."""
    return is_active is not False and status.lower() not in NO_TARGET


def environment_of(word: str) -> str:
    """Return the environment. A foreign word counts as production, which asks for the most approval."""
    known = WORDS["environment"] | set(settings.DEVELOPMENT_ENVIRONMENTS)
    return word.lower() if word.lower() in known else "production"


def criticality_of(word: str) -> str:
    """Return the criticality. A foreign word counts as critical, which asks for the most approval."""
    return word.lower() if word.lower() in WORDS["criticality"] else "critical"


# -- automation service

Ending = Literal["succeeded", "failed", "skipped", "foreign"]

_ENDINGS: dict[str, Ending] = {
    "success": "succeeded",
    "completed": "succeeded",
    "failed": "failed",
    "skipped": "skipped",
}

# A version that has no SSH answers exit code 0 and this, alone.
_PLACEHOLDER = re.compile(r"\w+ execution (?:is )?not (?:yet )?implemented\W*", re.IGNORECASE)


def ending_of(status: str) -> Ending:
    """Return how the automation service says that something ended."""
    return _ENDINGS.get(status.strip().lower(), "foreign")


def is_placeholder(text: str) -> bool:
    """Whether all that a command is said to have printed is that it was never run."""
    return _PLACEHOLDER.fullmatch(text.strip()) is not None
