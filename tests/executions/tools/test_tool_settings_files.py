"""The tool config_manager, run for real on files of settings."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
SECTIONS = "# top\n[client]\nport = 1\n\n[mysqld]\nport = 3306\n; name = no\n#name = no\nname = yes\n\n[other]\nx=1\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.conf"


def test_a_setting_is_read(run: Run, path: Path) -> None:
    path.write_text("# port=1\nport=8080\n  host =  a b  \nempty=\nurl=a=b\n")
    assert run("config_manager", action="get", path=str(path), key="port").stdout == "8080\n"
    assert run("config_manager", action="get", path=str(path), key="host").stdout == "a b\n"
    assert run("config_manager", action="get", path=str(path), key="empty").stdout == "\n"
    assert run("config_manager", action="get", path=str(path), key="url").stdout == "a=b\n"


def test_a_setting_that_is_not_there_is_an_error_not_an_empty_value(run: Run, path: Path) -> None:
    path.write_text("#port=1\nPort=2\n")
    result = run("config_manager", action="get", path=str(path), key="port")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "port is not set\n")


def test_a_setting_is_replaced_in_its_line_and_in_its_style(run: Run, path: Path) -> None:
    path.write_text("a = 1\n  port\t= 80\nb=2\n")
    result = run("config_manager", action="set", path=str(path), key="port", value="81")
    assert result.stdout == f"set port in {path}\n"
    assert path.read_text() == "a = 1\n  port\t= 81\nb=2\n"


def test_setting_the_value_that_is_there_writes_nothing(run: Run, path: Path) -> None:
    path.write_text("port = 81")
    before = path.stat().st_ino
    result = run("config_manager", action="set", path=str(path), key="port", value="81")
    assert (result.returncode, result.stdout) == (0, f"port in {path} has that value already\n")
    assert (path.read_text(), path.stat().st_ino) == ("port = 81", before)


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("a=1", "=", "a=1\nnew=x\n"),
        ("a = 1\n", "=", "a = 1\nnew = x\n"),
        ("", "=", "new=x\n"),
        ("a: 1\n", ":", "a: 1\nnew: x\n"),
        ("Port 22\n", "space", "Port 22\nnew x\n"),
        ("a=1\r\n", "=", "a=1\r\nnew=x\r\n"),
    ],
)
def test_a_new_setting_goes_to_the_end_in_the_style_of_the_file(
    run: Run, path: Path, text: str, separator: str, expected: str
) -> None:
    path.write_bytes(text.encode())
    assert (
        run("config_manager", action="set", path=str(path), key="new", value="x", separator=separator).returncode == 0
    )
    assert path.read_bytes() == expected.encode()


def test_line_endings_of_windows_stay(run: Run, path: Path) -> None:
    path.write_bytes(b"a=1\r\nport=80\r\n")
    run("config_manager", action="set", path=str(path), key="port", value="81")
    assert path.read_bytes() == b"a=1\r\nport=81\r\n"
    assert run("config_manager", action="get", path=str(path), key="port").stdout == "81\n"


def test_words_separated_by_blanks_are_settings_too(run: Run, path: Path) -> None:
    path.write_text("#PermitRootLogin yes\nPermitRootLogin   yes\nMatch User a=b\n")
    run("config_manager", action="set", path=str(path), key="PermitRootLogin", value="no", separator=" ")
    assert path.read_text() == "#PermitRootLogin yes\nPermitRootLogin   no\nMatch User a=b\n"


def test_a_section_tells_settings_of_the_same_name_apart(run: Run, path: Path) -> None:
    path.write_text(SECTIONS)
    assert run("config_manager", action="get", path=str(path), key="port", section="mysqld").stdout == "3306\n"
    run("config_manager", action="set", path=str(path), key="port", value="3307", section="mysqld")
    assert path.read_text() == SECTIONS.replace("3306", "3307")


def test_a_setting_that_is_there_more_than_once_is_not_guessed_at(run: Run, path: Path) -> None:
    path.write_text(SECTIONS)
    result = run("config_manager", action="set", path=str(path), key="port", value="1")
    assert result.returncode == 1
    assert "2 times" in result.stderr
    assert path.read_text() == SECTIONS


def test_a_new_setting_in_a_file_with_sections_needs_to_say_which(run: Run, path: Path) -> None:
    path.write_text(SECTIONS)
    refused = run("config_manager", action="set", path=str(path), key="new", value="1")
    assert refused.returncode == 1
    assert "name the section" in refused.stderr
    assert path.read_text() == SECTIONS
    run("config_manager", action="set", path=str(path), key="new", value="1", section="mysqld")
    assert path.read_text() == SECTIONS.replace("name = yes\n", "name = yes\nnew = 1\n")


def test_a_section_that_is_not_there_is_added(run: Run, path: Path) -> None:
    path.write_text("[a]\nx=1\n")
    run("config_manager", action="set", path=str(path), key="y", value="2", section="b c")
    assert path.read_text() == "[a]\nx=1\n\n[b c]\ny=2\n"


def test_a_setting_is_deleted_and_a_second_time_nothing_happens(run: Run, path: Path) -> None:
    path.write_text(SECTIONS)
    assert run("config_manager", action="delete", path=str(path), key="name").returncode == 0
    assert path.read_text() == SECTIONS.replace("\nname = yes", "")
    second = run("config_manager", action="delete", path=str(path), key="name")
    assert (second.returncode, second.stdout) == (0, f"name is not set in {path}\n")


def test_mode_and_owner_of_the_file_stay(run: Run, path: Path) -> None:
    path.write_text("a=1\n")
    path.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
    owner = (path.stat().st_uid, path.stat().st_gid)
    run("config_manager", action="set", path=str(path), key="a", value="2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert (path.stat().st_uid, path.stat().st_gid) == owner
    assert path.read_text() == "a=2\n"


@pytest.mark.parametrize("action", ["get", "set", "delete"])
def test_a_file_that_is_not_there_is_an_error(run: Run, path: Path, action: str) -> None:
    inputs = {"value": "1"} if action == "set" else {}
    result = run("config_manager", action=action, path=str(path), key="a", **inputs)
    assert (result.returncode, result.stderr) == (1, f"there is no file {path}\n")
    assert not path.exists()
