"""Where a change comes from: through which door, and from which address. The doors say it; the audit writes it down.

Who it was is an argument of every verb (`by=`) and never found here. A door that serves many at once (HTTP, sockets)
says it for what runs within `origin(...)`; a process that is itself the door (a command, a worker) for all it does.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum


class Door(StrEnum):
    API = "api"
    PAGE = "page"
    ADMIN = "admin"
    SOCKET = "socket"
    SSO = "sso"
    COMMAND = "command"
    WORKER = "worker"
    SYSTEM = "system"


@dataclass(slots=True)
class Origin:
    """`refusal_is_recorded`: what was refused within it is in the audit already, and need not be written again."""

    door: Door
    address: str = ""
    refusal_is_recorded: bool = False


_current: ContextVar[Origin | None] = ContextVar("origin", default=None)
_process = Origin(Door.SYSTEM)


@contextmanager
def origin(door: Door | str, address: str = "") -> Iterator[Origin]:
    """What runs within comes through this door, from this address."""
    here = Origin(Door(door), address)
    token = _current.set(here)
    try:
        yield here
    finally:
        _current.reset(token)


def current_origin() -> Origin:
    """Return the origin of what runs now: the innermost `origin(...)`, or else that of the whole process."""
    return _current.get() or _process


def set_process_origin(door: Door | str) -> None:
    """This whole process is a door: its address is who started it and on which host."""
    global _process
    _process = Origin(Door(door), _person_and_host())


def _person_and_host() -> str:
    try:
        person = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        person = "?"
    return f"{person}@{socket.gethostname()}"
