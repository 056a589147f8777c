"""What the tests of the tools share: the shipped catalog, and running a tool for real on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executions.tools import Catalog, Tool, load_catalog

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_catalog()


@pytest.fixture(scope="session")
def tool(catalog: Catalog) -> Callable[[str], Tool]:
    """A tool of the shipped catalog by name."""

    def find(name: str) -> Tool:
        found = catalog.get(name)
        assert found is not None, f"the catalog has no {name}"
        return found

    return find


BUSYBOX = shutil.which("busybox")


@pytest.fixture(scope="session", params=["system", "busybox"] if BUSYBOX else ["system"])
def programs_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """None: the programs of this machine. Otherwise a directory with busybox's alone, where busybox is installed."""
    if request.param == "system" or BUSYBOX is None:
        yield None
        return
    folder = tmp_path_factory.mktemp("busybox")
    for name in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        (folder / name).symlink_to(BUSYBOX)
    yield folder


@pytest.fixture
def run(tool: Callable[[str], Tool], programs_path: Path | None) -> Run:
    """Prepare a tool's inputs and run what comes out, with this machine's programs and with busybox's."""

    return _runner(tool, programs_path, check=False)


@pytest.fixture
def run_check(tool: Callable[[str], Tool], programs_path: Path | None) -> Run:
    """The same in check mode."""
    return _runner(tool, programs_path, check=True)


def _runner(tool: Callable[[str], Tool], programs_path: Path | None, *, check: bool) -> Run:
    def run_tool(name: str, /, **inputs: Any) -> subprocess.CompletedProcess[str]:
        checked, problems = tool(name).check(inputs)
        assert problems == []
        invocation = tool(name).prepare(checked, timeout_seconds=10, check=check)
        argv = list(invocation.argv)
        environment = {**os.environ, **invocation.environment}
        if programs_path is not None:
            environment["PATH"] = str(programs_path)
            if argv[0] == "/bin/sh":
                argv[0] = str(programs_path / "sh")
        ended = subprocess.run(
            argv,
            input=invocation.stdin or b"",
            capture_output=True,
            env=environment,
            cwd=invocation.working_directory,
            timeout=20,
            check=False,
        )
        # Decoded here, as text mode would turn \r\n into \n.
        out, err = (data.decode(errors="surrogateescape") for data in (ended.stdout, ended.stderr))
        return subprocess.CompletedProcess(ended.args, ended.returncode, out, err)

    return run_tool
