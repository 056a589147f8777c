"""What a path of a secret may look like. Checked wherever one comes in, so that none can leave its tenant."""

from __future__ import annotations

import re

LONGEST_PATH = 200
_PATH = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,100}")

PATH_RULE = (
    "The path of a secret is made of letters, digits, dots, underscores and hyphens between slashes, "
    f"without '..' and without a slash at either end, at most {LONGEST_PATH} characters."
)
KEY_RULE = "The key of a secret is made of letters, digits, dots, underscores and hyphens."


def check_path(path: object) -> str:
    """Return `path`. Raises ValueError with the rule: `..`, absolute paths and control characters are no paths."""
    if (
        not isinstance(path, str)
        or len(path) > LONGEST_PATH
        or not _PATH.fullmatch(path)
        or any(set(part) == {"."} for part in path.split("/"))
    ):
        raise ValueError(PATH_RULE)
    return path


def check_key(key: object) -> str:
    """Return `key`, the name of one entry of a secret that holds several. Raises ValueError with the rule."""
    if not (isinstance(key, str) and _KEY.fullmatch(key)):
        raise ValueError(KEY_RULE)
    return key
