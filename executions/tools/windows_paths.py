"""Paths of Windows, with a drive or of a share, written so that they show the very file that is meant."""

from __future__ import annotations

import re

from executions.tools.problems import Unfit

_LONGEST = 32_000
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SHARE = re.compile(r"[\\/]{2}[^\\/?.:]")  # not \\?\ and \\.\, which are devices
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f<>:"|?*]')
# Devices, whatever follows the first dot of the name.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)", re.IGNORECASE)


def is_windows_path(path: str) -> bool:
    """Whether it is an absolute path as Windows writes it."""
    return _DRIVE.match(path) is not None or path.startswith("\\\\") or _SHARE.match(path) is not None


def check_windows_path(path: str) -> str:
    """Return the path. Raises Unfit for what leads elsewhere than it looks: streams, devices, dots at the end."""
    if _DRIVE.match(path) is None and _SHARE.match(path) is None:
        raise Unfit("is not an absolute path of Windows", r"Write the whole path, such as C:\folder\file.")
    if len(path) > _LONGEST:
        raise Unfit("is longer than a path can be", f"Give at most {_LONGEST:,} characters.")
    names = re.split(r"[\\/]+", path[2:])
    if ".." in names:
        raise Unfit("has a `..` in it", "Write the path that it leads to.")
    for name in names:
        if _NOT_IN_NAMES.search(name) or name != name.rstrip(". ") or _DEVICE.fullmatch(name.partition(".")[0].strip()):
            raise Unfit("has a name in it that Windows takes for something else", "Write the name of a plain file.")
    return path
