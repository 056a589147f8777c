"""The tools that only look, run for real on this machine."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executions.tools import Tool

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_port_that_accepts_connections_is_open(run: Run, open_port: int) -> None:
    result = run("tcp_port_check", host="127.0.0.1", port=open_port)
    assert (result.returncode, result.stdout) == (0, f"port {open_port} of 127.0.0.1 is open\n")


def test_a_port_where_nobody_listens_is_not_open(run: Run) -> None:
    port = closed_port()
    result = run("network_tools", action="port_check", target="127.0.0.1", port=port)
    assert result.returncode == 1
    assert result.stderr.startswith(f"port {port} of 127.0.0.1 is not open\n")
    assert result.stdout == ""


CONNECTORS = {
    "bash": shutil.which("bash"),
    "python3": sys.executable,
    "nc": shutil.which("nc") or shutil.which("busybox"),
}


@pytest.mark.parametrize("program", [name for name, found in CONNECTORS.items() if found])
@pytest.mark.parametrize("is_open", [True, False])
def test_a_port_is_checked_with_whatever_there_is(
    tool: Callable[[str], Tool], tmp_path: Path, open_port: int, program: str, is_open: bool
) -> None:
    found = CONNECTORS[program]
    assert found
    (tmp_path / program).symlink_to(found)
    for other in ("timeout", "true"):
        (tmp_path / other).symlink_to(shutil.which(other) or "missing")
    port = open_port if is_open else closed_port()
    argv = tool("tcp_port_check").prepare({"host": "127.0.0.1", "port": port}).argv
    result = subprocess.run(argv, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == (0 if is_open else 1), result.stderr


def test_a_machine_without_any_program_for_it_says_so(tool: Callable[[str], Tool], tmp_path: Path) -> None:
    for inputs, missing in (
        ({"action": "tcp", "target": "127.0.0.1", "port": 1}, "bash, python3, nc"),
        ({"action": "ping", "target": "127.0.0.1"}, "ping"),
        ({"action": "dns", "target": "localhost"}, "getent, nslookup"),
        ({"action": "traceroute", "target": "127.0.0.1"}, "traceroute, tracepath"),
    ):
        argv = tool("network_tools").prepare(inputs).argv
        result = subprocess.run(
            argv, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=20, check=False
        )
        assert (result.returncode, result.stdout) == (127, "")
        assert f"none of: {missing}" in result.stderr


def test_no_answer_within_the_time_is_a_no(tool: Callable[[str], Tool], tmp_path: Path) -> None:
    """A listener whose queue is full does not answer: the connection hangs until the time is up."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        try:
            argv = tool("tcp_port_check").prepare({"host": "127.0.0.1", "port": port, "timeout": 1}).argv
            result = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        finally:
            for filler in fillers:
                filler.close()
    assert (result.returncode, result.stdout) == (1, "")
    assert "no answer within 1 s" in result.stderr


@pytest.mark.skipif(shutil.which("getent") is None, reason="getent is not installed")
def test_a_name_is_resolved_to_one_line_an_address(tool: Callable[[str], Tool]) -> None:
    argv = tool("dns_lookup").prepare({"name": "localhost"}).argv
    result = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 0
    addresses = result.stdout.splitlines()
    assert set(addresses) <= {"127.0.0.1", "::1"}
    assert len(addresses) == len(set(addresses)) >= 1


def test_a_name_that_does_not_resolve_is_a_no(run: Run) -> None:
    result = run("dns_lookup", name="no-such-host.invalid")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("no-such-host.invalid does not resolve\n")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("uptime", r"load average"),
        ("disk", r"Filesystem .*\n(?s:.*) /\n"),
        ("ram", r"Mem(Total)?:"),
        ("cpu", r"(?i)(model name|architecture)"),
        ("load", r"^\d+\.\d+ \d+\.\d+ \d+\.\d+ "),
        ("os", r"^Linux "),
        ("hostname", r"^\S+\n$"),
    ],
)
def test_facts_about_the_machine_are_shown(run: Run, kind: str, expected: str) -> None:
    result = run("info_display", kind=kind)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(expected, result.stdout)


def test_the_disk_of_one_path_is_one_line(run: Run, tmp_path: Path) -> None:
    result = run("info_display", kind="disk", path=str(tmp_path))
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 2
    assert run("info_display", kind="disk", path=str(tmp_path / "no")).returncode != 0


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")
class TestProcesses:
    def test_a_process_is_found_by_the_text_in_its_line(self, run: Run) -> None:
        text = "86399.125"
        sleeper = subprocess.Popen(["sleep", text])
        try:
            result = run("ps", process=text)
            assert result.returncode == 0
            _, *lines = result.stdout.splitlines()
            assert [line.split()[0] for line in lines] == [str(sleeper.pid)]
        finally:
            sleeper.kill()
            sleeper.wait()

    def test_it_never_finds_itself(self, run: Run) -> None:
        result = run("ps", pattern="a text that is nowhere but here")
        assert result.returncode == 1
        assert result.stderr == "no process has that text in its line\n"

    def test_a_shell_that_was_asked_to_start_it_does_not_count(self, tool: Callable[[str], Tool]) -> None:
        line = shlex.join(tool("ps").prepare({"pattern": "another text that is nowhere"}).argv)
        result = subprocess.run(
            ["/bin/sh", "-c", f"{line}; exit $?"], capture_output=True, text=True, timeout=20, check=False
        )
        assert (result.returncode, len(result.stdout.splitlines())) == (1, 1)

    def test_without_a_text_all_are_listed(self, run: Run) -> None:
        result = run("ps")
        assert result.returncode == 0
        assert "PID" in result.stdout.splitlines()[0]
        assert len(result.stdout.splitlines()) > 2


def test_command_and_shell_run_what_they_are_given(run: Run, tmp_path: Path) -> None:
    result = run("command", argv=["sh", "-c", 'printf "%s|%s" "$1" "$A"; exit 3', "sh", "$A"], env={"A": "b"})
    assert (result.returncode, result.stdout) == (3, "$A|b")
    result = run("shell", command="cat | tr a b; pwd", stdin="aa\n", cwd=str(tmp_path))
    assert (result.returncode, result.stdout) == (0, f"bb\n{tmp_path}\n")
