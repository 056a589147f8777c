"""Files over SFTP: in place in one move, whole, with owner and mode as they were, and nothing left beside them."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from executions.connectors import ErrorCode, Invocation, Outcome, Stop, Target, Upload
from executions.connectors.ssh import SshConnector
from executions.tools import Tool, get_catalog
from tests.executions.connectors.recording import RecordingSink
from tests.executions.connectors.ssh.servers import Doorkeeper, served
from tests.sshd import Sshd


def copy_tool() -> Tool:
    tool = get_catalog().get("copy")
    assert tool is not None
    return tool


async def put(
    connector: SshConnector,
    target: Target,
    path: Path,
    content: str,
    *,
    mode: str | None = None,
    stop: Stop | None = None,
) -> tuple[Outcome, RecordingSink]:
    """As a plan does: the tool copy."""
    inputs: dict[str, Any] = {"path": str(path), "content": content, **({"mode": mode} if mode else {})}
    sink = RecordingSink()
    invocation = copy_tool().prepare(inputs)
    outcome = await connector.run(invocation, target, sink=sink, stop=stop or Stop(), fence=1)
    return outcome, sink


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


async def test_a_file_is_put_in_place_with_the_mode_that_is_wanted(
    connector: SshConnector, sshd: Sshd, tmp_path: Path
) -> None:
    content = "line\n" * 200_000 + "ü without a newline"
    outcome, sink = await put(connector, sshd.target(), tmp_path / "a b'c$(id)", content, mode="0640")

    assert outcome.exit_code == 0, outcome.error
    assert names(tmp_path) == ["a b'c$(id)"]
    file = tmp_path / "a b'c$(id)"
    assert file.read_text() == content
    assert file.stat().st_mode & 0o7777 == 0o640
    assert sink.stdout == f"wrote {file}\n"


async def test_what_is_there_is_replaced_with_its_mode_and_owner_through_links(
    connector: SshConnector, sshd: Sshd, tmp_path: Path
) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o604)
    link.symlink_to(real)
    number = real.stat().st_ino
    if os.getuid() == 0:
        os.chown(real, 65534, 65534)
    owner = real.stat().st_uid
    outcome, _ = await put(connector, sshd.target(), link, "new")

    assert outcome.exit_code == 0, outcome.error
    assert (real.read_text(), link.is_symlink()) == ("new", True)
    assert (real.stat().st_mode & 0o7777, real.stat().st_uid) == (0o604, owner)
    assert real.stat().st_ino != number, "it was written over, so readers could see half of it"
    assert names(tmp_path) == ["link", "real"]


async def test_what_cannot_be_written_is_told_and_leaves_all_as_it_was(
    connector: SshConnector, sshd: Sshd, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for path, says in (
        (tmp_path / "folder", "is a directory"),
        (tmp_path / "nowhere", "leads nowhere"),
        (tmp_path / "no" / "file", "no directory"),
        (Path("C:\\temp\\a"), "not absolute"),
    ):
        outcome, _ = await put(connector, sshd.target(), path, "x")
        assert (outcome.exit_code, outcome.error_code) == (1, None)
        assert says in (outcome.error or "")
    outcome, _ = await put(connector, sshd.target(), Path("/proc/x"), "x")
    assert outcome.exit_code != 0
    assert names(tmp_path) == ["folder", "nowhere"]
    assert names(tmp_path / "folder") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk of its own needs root and the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_has_its_own_code_and_what_was_there_stays(
    connector: SshConnector, sshd: Sshd, small_disk: Path
) -> None:
    file = small_disk / "file"
    file.write_text("old")
    outcome, _ = await put(connector, sshd.target(), file, "x" * 500_000)

    assert outcome.error_code == ErrorCode.DISK_FULL, outcome.error
    assert (file.read_text(), names(small_disk)) == ("old", ["file"])


class LyingServer(asyncssh.SFTPServer):
    """Changes a byte on the way to the disk."""

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        written: int = await _now(super().write(file_obj, offset, data.replace(b"a", b"b")))
        return written


class DenyingServer(asyncssh.SFTPServer):
    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & asyncssh.FXF_WRITE:
            raise asyncssh.SFTPPermissionDenied("no")
        return await _now(super().open(path, pflags, attrs))


async def _now(value: Any) -> Any:
    return await value if asyncio.iscoroutine(value) else value


@pytest.fixture
async def odd(request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    async with served(Doorkeeper, sftp_factory=request.param) as server:
        yield server.target()


@pytest.mark.parametrize(
    ("odd", "code"),
    [
        (LyingServer, ErrorCode.CHECKSUM_MISMATCH),
        (DenyingServer, ErrorCode.PERMISSION_DENIED),
    ],
    indirect=["odd"],
)
async def test_what_goes_wrong_on_the_way_never_reaches_the_file(
    connector: SshConnector, odd: Target, tmp_path: Path, code: ErrorCode
) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    outcome, _ = await put(connector, odd, file, "aaaa")

    assert outcome.error_code == code, outcome.error
    assert (file.read_text(), names(tmp_path)) == ("old", ["file"])


async def test_without_sftp_the_command_puts_it_in_place(connector: SshConnector, tmp_path: Path) -> None:
    file = tmp_path / "file"
    async with served() as server:
        outcome, _ = await put(connector, server.target(), file, "text", mode="0600")
        await connector.close()

    assert outcome.exit_code == 0, outcome.error
    assert (file.read_text(), file.stat().st_mode & 0o7777) == ("text", 0o600)


class SlowServer(asyncssh.SFTPServer):
    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        await asyncio.sleep(3600)
        return 0


@pytest.mark.parametrize("odd", [SlowServer], indirect=True)
async def test_a_stop_before_the_move_leaves_the_old_file(connector: SshConnector, odd: Target, tmp_path: Path) -> None:
    file, stop = tmp_path / "file", Stop()
    file.write_text("old")
    running = asyncio.ensure_future(put(connector, odd, file, "new", stop=stop))
    async with asyncio.timeout(10):
        while len(names(tmp_path)) < 2:  # noqa: ASYNC110 - the server's folder is looked at
            await asyncio.sleep(0.01)
    stop.request("user")
    async with asyncio.timeout(60):  # the server is silent for an hour
        outcome, _ = await running

    assert (outcome.error_code, outcome.stop_confirmed) == (ErrorCode.STOPPED, True)
    assert file.read_text() == "old"


def test_only_a_real_run_with_content_is_an_upload() -> None:
    copy = copy_tool()

    assert copy.prepare({"path": "/a", "content": "x", "mode": "0600"}).upload == Upload("/a", b"x", "0600")
    assert copy.prepare({"path": "/a", "source": "/b"}).upload is None
    assert copy.prepare({"path": "/a", "content": "x"}, check=True).upload is None
    assert isinstance(copy.prepare({"path": "/a", "content": "x"}), Invocation)


async def test_a_connection_lost_on_the_way_leaves_the_old_file(connector: SshConnector, tmp_path: Path) -> None:
    with closing(Sshd(tmp_path / "own")) as server:
        folder = tmp_path / "folder"
        folder.mkdir()
        running = asyncio.ensure_future(put(connector, server.target(), folder / "file", "x" * 5_000_000))
        async with asyncio.timeout(10):
            while not names(folder) and not running.done():  # noqa: ASYNC110 - the folder is looked at
                await asyncio.sleep(0)
        server.drop_connections()
        outcome, _ = await running

    if outcome.exit_code != 0:  # it may have been quicker
        assert outcome.error_code in (ErrorCode.UNREACHABLE, ErrorCode.CONNECTION_LOST)
