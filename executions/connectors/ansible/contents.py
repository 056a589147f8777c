"""What stands in the folder of playbooks: its digest, and a copy of just what was digested.

A playbook takes in roles, variables, plugins and files from anywhere in its folder, so the whole folder is what a plan
is bound to. Links are followed, and count as what they lead to. `.git` and `__pycache__` are left out of the digest and
of the copy that is run: so nothing is run that was not digested.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from executions.connectors.ansible.playbooks import NoPlaybook

MOST_FILES = 20_000
MOST_BYTES = 100 * 1024 * 1024  # a run has its own copy, in memory
MOST_PARTS = 100
LEFT_OUT = frozenset({".git", "__pycache__"})
_DEEPEST = 40
_SETTLED_SECONDS = 2.0  # a file that was changed later than that may be changed again within the same tick of its clock
_TOO_MUCH = "Keep there what playbooks need alone: roles, variables, templates. Large files belong elsewhere."

Stamp = tuple[int, int, int, int, int]


class StoredFiles(TypedDict):
    """What the files were when a plan was accepted; digests are SHA-256 in hex.

    digest: of all files. playbook: of the one that is named. count: how many files. parts: of each entry of the folder
    itself, to say which of them changed; empty when there are more than can be kept.
    """

    digest: str
    playbook: str
    count: int
    parts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: the way to it below the folder with `/`, where it really is, and what the system says of it."""

    name: str
    path: str
    status: os.stat_result

    @property
    def stamp(self) -> Stamp:
        of = self.status
        return of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns

    @property
    def is_executable(self) -> bool:
        return bool(self.status.st_mode & stat.S_IXUSR)


@dataclass(frozen=True, slots=True)
class Contents:
    """All files of the folder, as they were read. `files`: the SHA-256 of each, by its name."""

    digest: str
    parts: Mapping[str, str]
    files: Mapping[str, str]

    def of(self, playbook: str) -> StoredFiles:
        """Return what is kept with a step that runs this playbook. Raises NoPlaybook when it is not among them."""
        if playbook not in self.files:
            raise NoPlaybook(f"{playbook!r} is not in the folder of playbooks", "Put it there, or correct the name.")
        parts = dict(self.parts) if len(self.parts) <= MOST_PARTS else {}
        return {"digest": self.digest, "playbook": self.files[playbook], "count": len(self.files), "parts": parts}


class Reader:
    """Reads the folder again and again, and a file only when it has changed: by its place, size and times.

    Not for deciding whether something may run: that reads everything.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Stamp, str]] = {}

    def read(self, folder: Path) -> Contents:
        """Raises NoPlaybook: more than can be bound, or something that cannot be read."""
        found: dict[str, tuple[str, bool]] = {}
        known: dict[str, tuple[Stamp, str]] = {}
        for entry in entries_of(folder):
            before = self._known.get(entry.path)
            if before is not None and before[0] == entry.stamp:
                digest = before[1]
            else:
                digest = hashlib.sha256(_bytes_of(entry)).hexdigest()
            changed = max(entry.status.st_mtime, entry.status.st_ctime)
            if time.time() - changed > _SETTLED_SECONDS:
                known[entry.path] = entry.stamp, digest
            found[entry.name] = digest, entry.is_executable
        self._known = known
        return _contents(found)


def copy(folder: Path, into: Path) -> Contents:
    """Copy the folder to `into`, which is not there yet, and return what was copied: each file is read once, and what
    is digested is what is written. Raises NoPlaybook, OSError."""
    found: dict[str, tuple[str, bool]] = {}
    into.mkdir(mode=0o700)
    for entry in entries_of(folder):
        content = _bytes_of(entry)
        path = into / entry.name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o700 if entry.is_executable else 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        found[entry.name] = hashlib.sha256(content).hexdigest(), entry.is_executable
    return _contents(found)


def entries_of(folder: Path) -> Iterator[Entry]:
    """Every file of the folder, links followed, but for what is left out. Raises NoPlaybook."""
    count = size = 0
    for entry in _walk(str(folder), "", ()):
        count, size = count + 1, size + entry.status.st_size
        if count > MOST_FILES or size > MOST_BYTES:
            most = f"{MOST_FILES:,} files and {MOST_BYTES // 1024 // 1024} MiB"
            raise NoPlaybook(f"is in a folder with more than what a plan can be bound to, {most}", _TOO_MUCH)
        yield entry


def changes(before: StoredFiles, now: Contents, playbook: str) -> str:
    """Return a sentence that says what is other than it was; empty when nothing is."""
    if before["digest"] == now.digest:
        return ""
    said = []
    if now.files.get(playbook) != before["playbook"]:
        said.append(f"{playbook} itself")
    parts = before["parts"]
    if parts:
        differ = sorted(name for name in parts.keys() | now.parts.keys() if parts.get(name) != now.parts.get(name))
        said += [name for name in differ if name != playbook][:5]
    beside = f" Other than then: {', '.join(said)}." if said else ""
    return (
        f"The files that the playbook {playbook} may take in are not those that the plan was submitted with:"
        f" {before['count']} then, {len(now.files)} now.{beside}"
    )


def _walk(path: str, name: str, above: tuple[tuple[int, int], ...]) -> Iterator[Entry]:
    """`above`: the folders on the way here. A link to one of them would never end, and adds nothing."""
    try:
        with os.scandir(path) as found:
            names = sorted(entry.name for entry in found)
        here = os.stat(path)
    except OSError as error:
        raise _unreadable(name or "the folder", error) from None
    if (here.st_dev, here.st_ino) in above or len(above) > _DEEPEST:
        return
    for one in names:
        if one in LEFT_OUT:
            continue
        below, inner = os.path.join(path, one), f"{name}/{one}" if name else one
        try:
            status = os.stat(below)
        except FileNotFoundError:  # a link to nothing
            continue
        except OSError as error:
            raise _unreadable(inner, error) from None
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(below, inner, (*above, (here.st_dev, here.st_ino)))
        elif stat.S_ISREG(status.st_mode):
            yield Entry(inner, below, status)


def _bytes_of(entry: Entry) -> bytes:
    """Its content, of no more bytes than were said: one that grows meanwhile is not what is asked for."""
    try:
        with open(entry.path, "rb") as file:
            content = file.read(entry.status.st_size + 1)
    except OSError as error:
        raise _unreadable(entry.name, error) from None
    if len(content) > entry.status.st_size:
        raise NoPlaybook(f"has {entry.name!r} beside it, which is being written", "Try again when that is done.")
    return content


def _contents(found: Mapping[str, tuple[str, bool]]) -> Contents:
    whole = hashlib.sha256()
    parts: dict[str, hashlib._Hash] = {}
    for name in sorted(found):
        digest, is_executable = found[name]
        # A name has no NUL, so no two different folders give the same bytes.
        line = b"%s%s%s\0" % (digest.encode(), b"x" if is_executable else b"-", os.fsencode(name))
        whole.update(line)
        parts.setdefault(name.partition("/")[0], hashlib.sha256()).update(line)
    return Contents(
        whole.hexdigest(),
        {os.fsencode(name).decode(errors="replace"): part.hexdigest() for name, part in parts.items()},
        {name: digest for name, (digest, _) in found.items()},
    )


def _unreadable(name: str, error: OSError) -> NoPlaybook:
    return NoPlaybook(
        f"may take in {name!r}, which cannot be read: {error.strerror}",
        "Make all of the folder readable for web processes and workers, or take it out of there.",
    )
