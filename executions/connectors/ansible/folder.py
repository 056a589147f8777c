"""A private folder in memory for one run, that is gone when the run is, whatever became of the worker."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

PREFIX = "opsconductor-ansible-"
IN_MEMORY = Path("/dev/shm")  # noqa: S108  (the folder made there is 0700 and has a name of its own)
_MODE = 0o700


class NoMemoryFolder(Exception):
    """There is no file system in memory here: what a run must know of secrets would be written to a disk."""


class RunFolder:
    """Made and locked in one go. Whoever finds it unlocked may remove it: the worker that made it is dead."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @property
    def shared_memory_prefix(self) -> str:
        """How names of shared memory begin that belongs to the run; on Linux they are files beside the folder."""
        return f"{self.path.name}-"

    @property
    def token(self) -> str:
        """What tells the run from all others."""
        return self.path.name.rpartition("-")[2]

    def write(self, name: str, text: str) -> Path:
        """Put a file there that only this user can read."""
        path = self.path / name
        path.parent.mkdir(mode=_MODE, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def remove(self) -> None:
        """Remove it with all that is in it. Calling it again does nothing."""
        if self._lock >= 0:
            _remove(self.path)
            os.close(self._lock)
            self._lock = -1


def make_folder() -> RunFolder:
    """Raises NoMemoryFolder, OSError."""
    if not _is_in_memory(IN_MEMORY):
        raise NoMemoryFolder(f"{IN_MEMORY} is no file system in memory (tmpfs) here.")
    while True:
        path = IN_MEMORY / f"{PREFIX}{secrets.token_hex(6)}"
        path.mkdir(mode=_MODE)
        lock = _lock(path)
        if lock is not None:
            return RunFolder(path, lock)
        # Somebody who sweeps came between the two lines, and takes it for one that was left behind. Another, then.


def sweep() -> int:
    """Remove what workers of this user left that were killed; return how many folders. Those in use are locked."""
    removed = 0
    for path in _ours():
        if path.is_dir() and (lock := _lock(path)) is not None:
            with contextlib.suppress(OSError):  # the next one tries again
                _remove(path)
            os.close(lock)
            removed += 1
    for path in _ours():  # the shared memory of a run whose folder is gone already
        if not path.is_dir() and not (IN_MEMORY / "-".join(path.name.split("-")[:3])).exists():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return removed


def _ours() -> Iterator[Path]:
    for path in IN_MEMORY.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_uid == os.getuid() and not path.is_symlink():
                yield path


def _lock(path: Path) -> int | None:
    """The lock on a folder that is still there; None when it is another's, or gone.

    The kernel gives the lock back when the process dies, however it dies. A folder that was removed between opening and
    locking it is told by its links: what was locked then has no name any more.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink > 0 and path.exists():
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _remove(path: Path) -> None:
    """The folder last of all, so that a sweep that is cut short leaves something that the next one finds."""
    for segment in IN_MEMORY.glob(f"{path.name}-*"):
        segment.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _is_in_memory(path: Path) -> bool:
    """Whether a folder is the root of a tmpfs, by the kernel's list of mounts."""
    with contextlib.suppress(OSError), open("/proc/self/mounts", encoding="utf-8") as mounts:
        return any(line.split()[1:3] == [str(path), "tmpfs"] for line in mounts)
    return False
