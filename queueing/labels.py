"""Names of pools and regions: what plans ask for, workers serve and operators pause."""

from __future__ import annotations

import re

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")

DEFAULT_POOL = "default"
RULE = "1 to 63 of a-z, 0-9, '.', '_' and '-', such as eu-2, with a letter or digit at both ends"


def is_label(name: str) -> bool:
    """Whether a pool or region can have this name; RULE says it in words."""
    return _NAME.fullmatch(name) is not None
