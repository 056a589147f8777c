"""Whose name a command of the queue leaves in the records."""

from __future__ import annotations

import getpass
import os


def command_actor() -> str:
    """Return `command:LOGIN`: whoever is signed in on this host, or the number where there is no name."""
    try:
        return f"command:{getpass.getuser()}"
    except (KeyError, OSError):  # such as a container's user without an entry
        return f"command:{os.getuid()}"
