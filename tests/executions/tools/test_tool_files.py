"""The tools copy and file_manager, run for real on files of this machine."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from executions.tools import Tool

Run = Callable[..., "subprocess.CompletedProcess[str]"]
AS_ROOT = os.geteuid() == 0


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_copy_writes_exactly_the_content(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "motd"
    content = "grüß dich\r\n\n\ttab, no newline at the end"
    assert run("copy", path=str(path), content=content).returncode == 0
    assert path.read_bytes() == content.encode()


def test_a_new_file_gets_the_mode_asked_for(run: Run, tmp_path: Path) -> None:
    run("copy", path=str(tmp_path / "key"), content="x", mode="0600")
    assert mode_of(tmp_path / "key") == 0o600


def test_a_new_file_without_a_mode_follows_the_umask(run: Run, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        run("copy", path=str(tmp_path / "a"), content="x")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a") == 0o640


def test_a_replaced_file_keeps_its_mode_unless_told_otherwise(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o4751)
    run("copy", path=str(path), content="new")
    assert (path.read_text(), mode_of(path)) == ("new", 0o4751)
    run("file_manager", action="write", path=str(path), content="newer", mode="604")
    assert (path.read_text(), mode_of(path)) == ("newer", 0o604)


@pytest.mark.skipif(not AS_ROOT, reason="only root can give files away")
def test_a_replaced_file_keeps_its_owner(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    assert run("copy", path=str(path), content="new").returncode == 0
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


def test_a_symbolic_link_stays_and_its_file_is_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("there/file")
    assert run("copy", path=str(link), content="new").returncode == 0
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "new"


def test_readers_never_see_half_a_file(tool: Callable[[str], Tool], run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a"
    old, new = "o" * 3_000_000, "n" * 3_000_000
    path.write_text(old)
    seen: set[str] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for content in (new, old, new):
            assert run("copy", path=str(path), content=content).returncode == 0
    finally:
        stop.set()
        reader.join()
    assert seen <= {old, new}
    assert path.read_text() == new


def test_a_command_that_is_ended_leaves_the_old_content_and_nothing_beside_it(
    tool: Callable[[str], Tool], tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    invocation = tool("copy").prepare({"path": str(path), "content": "new"})
    process = subprocess.Popen(invocation.argv, stdin=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdin is not None
        process.stdin.write(b"half of")
        process.stdin.flush()
        pause = threading.Event()
        while not any(one.name != "a" and one.stat().st_size for one in tmp_path.iterdir()):
            assert process.poll() is None
            pause.wait(0.01)
        os.killpg(process.pid, 15)
        assert process.wait(timeout=10) == 143
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_copy_from_a_file_of_the_target_takes_its_mode_without_its_privileges(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"\x00\xff binary")
    source.chmod(0o4710)
    assert run("copy", path=str(tmp_path / "a"), source=str(source)).returncode == 0
    assert (tmp_path / "a").read_bytes() == b"\x00\xff binary"
    assert mode_of(tmp_path / "a") == 0o710


@pytest.mark.parametrize("problem", ["directory", "no_folder", "dangling", "fifo", "no_source", "directory_as_source"])
def test_what_cannot_be_written_is_refused_with_a_sentence(run: Run, tmp_path: Path, problem: str) -> None:
    path, inputs = tmp_path / "a", {"content": "x"}
    if problem == "directory":
        path.mkdir()
    elif problem == "no_folder":
        path = tmp_path / "missing" / "a"
    elif problem == "dangling":
        path.symlink_to(tmp_path / "gone" / "far")
    elif problem == "fifo":
        os.mkfifo(path)
    elif problem == "no_source":
        inputs = {"source": str(tmp_path / "missing")}
    else:
        inputs = {"source": str(tmp_path)}
    result = run("copy", path=str(path), **inputs)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") >= 1
    assert not any(one.name.startswith(".opsconductor") for one in tmp_path.iterdir())


def test_writing_twice_is_writing_once(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        result = run("file_manager", action="create", path=str(tmp_path / "a"), content="x\n")
        assert result.stdout == f"wrote {tmp_path / 'a'}, 2 bytes\n"
    assert (tmp_path / "a").read_text() == "x\n"


def test_appending_adds_at_the_end_and_makes_the_file(run: Run, tmp_path: Path) -> None:
    for text in ("a\n", "b\n"):
        assert run("file_manager", action="append", path=str(tmp_path / "log"), content=text).returncode == 0
    assert (tmp_path / "log").read_text() == "a\nb\n"


def test_appending_where_no_directory_is_fails(run: Run, tmp_path: Path) -> None:
    assert run("file_manager", action="append", path=str(tmp_path / "x" / "log"), content="a").returncode != 0


def test_reading_gives_the_content_and_fails_without_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    assert run("file_manager", action="read", path=str(tmp_path / "a")).stdout == "content"
    assert run("file_manager", action="read", path=str(tmp_path / "b")).returncode != 0
    assert run("file_manager", action="read", path=str(tmp_path)).returncode == 1


def test_deleting_twice_is_deleting_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    assert run("file_manager", action="delete", path=str(tmp_path / "a")).stdout.startswith("deleted")
    second = run("file_manager", action="delete", path=str(tmp_path / "a"))
    assert (second.returncode, second.stdout) == (0, f"{tmp_path / 'a'} was not there\n")


def test_a_directory_is_deleted_only_when_asked_for(run: Run, tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    refused = run("file_manager", action="delete", path=str(tmp_path / "d"))
    assert refused.returncode == 1
    assert "set recursive" in refused.stderr
    assert (tmp_path / "d" / "e").is_dir()
    assert run("file_manager", action="delete", path=str(tmp_path / "d"), recursive=True).returncode == 0
    assert not (tmp_path / "d").exists()


def test_deleting_a_link_to_a_directory_leaves_the_directory(run: Run, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    assert run("file_manager", action="delete", path=str(tmp_path / "link")).returncode == 0
    assert (tmp_path / "d").is_dir()
    assert not (tmp_path / "link").is_symlink()


def test_the_root_directory_is_never_deleted(tool: Callable[[str], Tool], tmp_path: Path) -> None:
    """With an rm that only writes down that it was called."""
    log = tmp_path / "log"
    (tmp_path / "rm").write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    (tmp_path / "rm").chmod(0o755)
    (tmp_path / "root").symlink_to("/")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for path in ("/", "//", "/.", f"{tmp_path}/root/", f"{tmp_path}/root/."):
        argv = tool("file_manager").prepare({"action": "delete", "path": path, "recursive": True}).argv
        result = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=False)
        assert (result.returncode, result.stderr) == (1, "the root directory is not deleted\n")
    assert not log.exists()


def test_making_a_directory_makes_those_above_and_sets_the_mode_of_the_last(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        assert run("file_manager", action="mkdir", path=str(tmp_path / "a" / "b"), mode="0700").returncode == 0
    assert mode_of(tmp_path / "a" / "b") == 0o700


def test_the_mode_is_changed_for_all_below_only_when_asked_for(run: Run, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_text("x")
    (tmp_path / "d" / "a").chmod(0o600)
    run("file_manager", action="chmod", path=str(tmp_path / "d"), mode="0755")
    assert (mode_of(tmp_path / "d"), mode_of(tmp_path / "d" / "a")) == (0o755, 0o600)
    run("file_manager", action="chmod", path=str(tmp_path / "d"), mode="0750", recursive=True)
    assert (mode_of(tmp_path / "d"), mode_of(tmp_path / "d" / "a")) == (0o750, 0o750)


def test_whether_something_exists_is_the_exit_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("gone")
    assert run("file_manager", action="exists", path=str(tmp_path)).returncode == 0
    assert run("file_manager", action="exists", path=str(tmp_path / "dangling")).returncode == 0
    assert run("file_manager", action="exists", path=str(tmp_path / "no")).returncode == 1


def test_listing_and_looking_at_a_file_name_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("x")
    assert ".hidden" in run("file_manager", action="list", path=str(tmp_path)).stdout
    assert ".hidden" in run("file_manager", action="stat", path=str(tmp_path / ".hidden")).stdout
    assert run("file_manager", action="stat", path=str(tmp_path / "no")).returncode != 0


def test_copying_replaces_the_destination_and_keeps_its_mode(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    (tmp_path / "b").chmod(0o640)
    assert run("file_manager", action="copy", path=str(tmp_path / "a"), destination=str(tmp_path / "b")).returncode == 0
    assert ((tmp_path / "b").read_text(), mode_of(tmp_path / "b")) == ("new", 0o640)


def test_moving_replaces_only_when_asked_for_and_never_goes_into_a_directory(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    (tmp_path / "d").mkdir()
    a, b, d = str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "d")
    assert run("file_manager", action="move", path=a, destination=b).returncode == 1
    assert run("file_manager", action="move", path=a, destination=d, overwrite=True).returncode == 1
    assert (tmp_path / "b").read_text() == "old"
    assert run("file_manager", action="move", path=a, destination=b, overwrite=True).returncode == 0
    assert (tmp_path / "b").read_text() == "new"
    assert run("file_manager", action="move", path=a, destination=b, overwrite=True).returncode == 1
