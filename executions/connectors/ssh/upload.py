"""Puts a file in place over SFTP in one move: readers see the old content or the new, never half of either."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass

import asyncssh

from executions.connectors.base import ErrorCode, Outcome, Upload

_BLOCK_BYTES = 256 * 1024
_CLEANING_SECONDS = 5.0

_MAY_NOT = (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect)
_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError)


class NoSftp(Exception):
    """The server has no SFTP, or one without the move that replaces. Nothing was touched."""


class _Problem(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


@dataclass(slots=True)
class Placing:
    """One file on its way. `is_moving`: the move was asked for, and from then on nobody can take it back."""

    sftp: asyncssh.SFTPClient
    upload: Upload
    may_move: Callable[[], bool]
    is_moving: bool = False
    is_there: bool = False
    beside: bytes = b""
    open_file: asyncssh.SFTPClientFile | None = None

    async def run(self) -> Outcome:
        """Raises NoSftp. The file beside is removed on every way out."""
        try:
            return await self._place()
        except _Problem as problem:
            return problem.outcome
        except asyncssh.SFTPOpUnsupported:
            raise NoSftp from None
        except (asyncssh.SFTPError, asyncssh.Error, OSError) as error:
            return await self._explained(error)
        finally:
            if self.beside and not self.is_there:
                # A server that hangs answers this no more than the rest; the end of the session then ends it, too.
                await asyncio.wait({asyncio.ensure_future(self._clean_up())}, timeout=_CLEANING_SECONDS)

    async def _clean_up(self) -> None:
        with contextlib.suppress(asyncssh.Error, OSError):
            if self.open_file is not None:
                await self.open_file.close()
        with contextlib.suppress(asyncssh.Error, OSError):
            await self.sftp.remove(self.beside)

    async def _place(self) -> Outcome:
        if not self.upload.path.startswith("/") or "\0" in self.upload.path:
            raise _Problem(_refused(f"the path {self.upload.path!r} is not absolute"))
        path = await self._followed(self.upload.path.encode("utf-8", "surrogateescape"))
        before = await self._attributes_of(path)
        folder = path.rpartition(b"/")[0] or b"/"
        self.beside = folder.rstrip(b"/") + b"/.opsconductor." + secrets.token_hex(8).encode()
        # Nobody else may open it, from the first moment on.
        file = self.open_file = await self.sftp.open(self.beside, "xb", asyncssh.SFTPAttrs(permissions=0o600))
        fresh = await file.stat()
        for start in range(0, len(self.upload.content), _BLOCK_BYTES):
            await file.write(self.upload.content[start : start + _BLOCK_BYTES])
        with contextlib.suppress(asyncssh.SFTPOpUnsupported):
            await file.fsync()
        await file.close()
        self.open_file = None
        await self._compare()
        await self._dress(before, fresh)
        if not self.may_move():
            sentence = "Not put in place: the worker's right to act had ended before. Another worker may take it."
            raise _Problem(Outcome(None, ErrorCode.NOT_STARTED, sentence))
        self.is_moving = True
        await self.sftp.posix_rename(self.beside, path)
        self.is_there = True
        return Outcome(0, data={"bytes": len(self.upload.content)})

    async def _followed(self, path: bytes) -> bytes:
        """A symbolic link is followed: the file that it leads to is replaced."""
        if not await self.sftp.islink(path):
            return path
        if not await self.sftp.exists(path):
            raise _Problem(_refused(f"{self.upload.path} is a symbolic link that leads nowhere"))
        return bytes(await self.sftp.realpath(path))

    async def _attributes_of(self, path: bytes) -> asyncssh.SFTPAttrs | None:
        try:
            before = await self.sftp.stat(path)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return None
        if before.permissions is not None and not stat.S_ISREG(before.permissions):
            raise _Problem(_refused(f"{self.upload.path} is a directory, or no regular file"))
        return before

    async def _compare(self) -> None:
        """Read back what arrived: nothing is moved into place that is not what was sent."""
        digest = hashlib.sha256()
        async with self.sftp.open(self.beside, "rb") as file:
            while block := await file.read(_BLOCK_BYTES):
                assert isinstance(block, bytes)
                digest.update(block)
        if digest.digest() != hashlib.sha256(self.upload.content).digest():
            sentence = f"What arrived of {self.upload.path} is not what was sent. What was there is as it was."
            raise _Problem(Outcome(None, ErrorCode.CHECKSUM_MISMATCH, sentence))

    async def _dress(self, before: asyncssh.SFTPAttrs | None, fresh: asyncssh.SFTPAttrs) -> None:
        """Owner and mode as they were, the mode as it is wanted; for a new file as by the server's umask."""
        if before is not None and (before.uid, before.gid) != (fresh.uid, fresh.gid):
            assert before.uid is not None
            assert before.gid is not None
            try:
                await self.sftp.chown(self.beside, before.uid, before.gid)
            except _MAY_NOT:
                sentence = (
                    f"{self.upload.path} belongs to somebody else, and its owner could not be kept. It stays as it was."
                )
                raise _Problem(Outcome(None, ErrorCode.PERMISSION_DENIED, sentence)) from None
        if self.upload.mode:
            mode = int(self.upload.mode, 8)
        elif before is not None and before.permissions is not None:
            mode = stat.S_IMODE(before.permissions)
        else:
            mode = await self._mode_of_new_files()
        await self.sftp.chmod(self.beside, mode)

    async def _mode_of_new_files(self) -> int:
        """Only a file that was made without asking for a mode shows the server's umask: an empty one does."""
        empty = self.beside + b".mode"
        async with self.sftp.open(empty, "xb") as file:
            try:
                made = await file.stat()
            finally:
                await self.sftp.remove(empty)
        return stat.S_IMODE(made.permissions or 0o600)

    async def _explained(self, error: Exception) -> Outcome:
        path = self.upload.path
        if isinstance(error, (*_LOST, OSError)):
            if self.is_moving:
                sentence = f"The connection was lost while {path} was put in place: whether it is, nobody knows."
                return Outcome(None, ErrorCode.CONNECTION_LOST, sentence)
            sentence = f"The connection was lost before {path} was put in place. What was there is as it was."
            return Outcome(None, ErrorCode.UNREACHABLE, sentence)
        if isinstance(error, _MAY_NOT):
            sentence = f"The account may not write {path} there. Give it the right, or the step run_as."
            return Outcome(None, ErrorCode.PERMISSION_DENIED, sentence)
        if isinstance(error, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath):
            return _refused(f"there is no directory for {path}")
        if await self._is_full():
            sentence = f"There is no room for {path} on the target. What was there is as it was. Make room, then retry."
            return Outcome(None, ErrorCode.DISK_FULL, sentence)
        return _refused(f"the server refused to write {path}: {str(error)[:200]}")

    async def _is_full(self) -> bool:
        """The protocol, in the version that OpenSSH speaks, calls a full disk a failure like any other."""
        with contextlib.suppress(asyncssh.Error, OSError):
            disk = await self.sftp.statvfs(self.beside.rpartition(b"/")[0] or b"/")
            return disk.bavail * disk.frsize < max(len(self.upload.content), 1)
        return False


def _refused(sentence: str) -> Outcome:
    """As the program for machines without SFTP says it: exit code 1."""
    return Outcome(1, None, f"{sentence[0].upper()}{sentence[1:]}.")
