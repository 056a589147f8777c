"""The connector of the guide: its page and its files are the same, and a plan runs through it in a real worker."""

from __future__ import annotations

import json
import shutil
import socketserver
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from executions.connectors.registry import connections
from executions.models import Asset
from safety.models import User
from tests.docs.pages import ROOT, text_of
from tests.executions.engine.conftest import Workers, requester, workers  # noqa: F401
from tests.installations import MANAGE

EXAMPLE = ROOT / "examples" / "connectors" / "lines"
PAGE = "docs/how-to/write-a-connector.md"


@pytest.mark.parametrize("name", ["pyproject.toml", "opsconductor_lines.py", "tools/outlet.yaml"])
def test_the_page_shows_the_files_as_they_are(name: str) -> None:
    language = {"toml": "toml", "py": "python", "yaml": "yaml"}[name.rsplit(".", 1)[1]]
    assert f"```{language}\n{(EXAMPLE / name).read_text()}```\n" in text_of(PAGE)


class Strip(socketserver.ThreadingTCPServer):
    """A power strip: remembers which outlets are off, and what it was told."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.off: set[str] = set()
        self.told: list[str] = []


class Session(socketserver.StreamRequestHandler):
    server: Strip

    def handle(self) -> None:
        for line in self.rfile:
            text = line.decode().strip()
            self.server.told.append(text)
            _, outlet, action = text.split()
            if outlet == "13":
                return  # hangs up without an answer
            if outlet == "48":
                self.wfile.write(b"ERR no such outlet\n")
                continue
            if action == "off":
                self.server.off.add(outlet)
            state = "off" if outlet in self.server.off else "on"
            self.wfile.write(f"outlet {outlet} is {state}\nOK\n".encode())


@pytest.fixture
def strip() -> Iterator[Strip]:
    server = Strip()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The settings of processes that have the package installed, as pip leaves it, and its tool."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    described = project["project"]
    packages, tools = tmp_path / "packages", tmp_path / "tools"
    info = packages / f"{described['name'].replace('-', '_')}-{described['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {described['name']}\nVersion: {described['version']}\n"
    )
    points = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in described["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points))
    for module in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(EXAMPLE / f"{module}.py", packages)
    shutil.copytree(EXAMPLE / "tools", tools)
    tools.chmod(0o755)
    return {"PYTHONPATH": str(packages), "TOOLS_DIR": str(tools)}


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MANAGE), *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def switch(key: str, action: str, outlet: int, **fields: object) -> dict[str, object]:
    inputs = {"action": action, "outlet": outlet}
    return {"id": key, "tool": "outlet", "inputs": inputs, "targets": ["strip-1"], "on_failure": "continue", **fields}


@pytest.mark.django_db(transaction=True)
def test_a_plan_runs_through_the_connector_of_the_example(
    workers: Workers,  # noqa: F811
    requester: User,  # noqa: F811
    installed: dict[str, str],
    strip: Strip,
    tmp_path: Path,
) -> None:
    assert "lines" not in connections()  # not in this process, where it is not installed
    environment = {**workers.environment, **installed}
    (tmp_path / "strips.csv").write_text(
        f"name,ip_address,port,connection,environment\nstrip-1,127.0.0.1,{strip.server_address[1]},lines,development\n"
    )
    imported = manage(environment, "import_assets", str(tmp_path / "strips.csv"))
    assert imported.returncode == 0, imported.stderr
    assert Asset.objects.get(name="strip-1").connection == "lines"

    steps = [
        switch("look", "status", 3),
        switch("off", "off", 3),
        switch("refused", "on", 48),
        switch("lost", "off", 13),
    ]
    (tmp_path / "plan.json").write_text(json.dumps({"steps": steps}))
    workers.start(WORKER_PROCESSES="1", **installed)
    ended = manage(environment, "run_plan", str(tmp_path / "plan.json"), "--json", "--as", requester.username)
    result = json.loads(ended.stdout.splitlines()[-1])
    targets = {step["id"]: step["targets"][0] for step in result["steps"]}
    assert (targets["look"]["status"], targets["look"]["stdout"]) == ("succeeded", "outlet 3 is on\nOK\n")
    assert (targets["off"]["status"], targets["off"]["exit_code"]) == ("succeeded", 0)
    assert (targets["refused"]["status"], targets["refused"]["stderr"]) == ("failed", "ERR no such outlet\n")
    assert (targets["lost"]["status"], targets["lost"]["error_code"]) == ("failed", "connection_lost")
    assert strip.told == ["outlet 3 status", "outlet 3 off", "outlet 3 status", "outlet 48 on", "outlet 13 off"]
    assert strip.off == {"3"}


def test_a_connector_that_claims_what_another_does_stops_the_start_with_a_sentence(
    installed: dict[str, str], tmp_path: Path
) -> None:
    module = Path(installed["PYTHONPATH"]) / "opsconductor_lines.py"
    module.write_text(module.read_text().replace('[("lines", "lines")]', '[("command", "local")]'))
    environment = {
        "PATH": "/usr/bin:/bin",
        "VAR_DIR": str(tmp_path),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "SECRET_KEY": "of-tests-that-contact-nothing",
        **installed,
    }
    refused = manage(environment, "tools")
    assert refused.returncode == 1
    assert refused.stderr.startswith("The connector lines (opsconductor_lines) claims command on local, which another")
    module.write_text("import nothing_of_that_name\n")
    refused = manage(environment, "tools")
    assert refused.stderr.startswith("The connector lines (opsconductor_lines) cannot be loaded: ModuleNotFoundError")
