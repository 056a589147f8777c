"""The canary test: no trace of a secret anywhere, whichever store it came from, however a step shows it.

One installation whose workers fetch from three stores: its own from the embedded one, and two clusters beside it, for
pools of their own, from Vault and from AWS. Everything logs at DEBUG.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
import requests
from websockets.sync.client import connect

from opsconductor.embedded_postgres.cluster import programs_folder
from tests.installations import MANAGE, LiveInstallation, wait_until
from tests.safety.secrets.canary import canary_of, command_lines_and_environments, found_in, plan_of, ps
from tests.safety.secrets.moto_server import MotoServer
from tests.safety.secrets.vault_server import ROLE_ID, SECRET_ID, VaultServer

STORES = ("embedded", "vault", "aws")
pytestmark = [pytest.mark.timeout(240)]


class Echo(ThreadingHTTPServer):
    """Answers with everything that it was sent: in the body, in a header, and as the reason for a refusal."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echoing)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.seen: list[str] = []


class _Echoing(BaseHTTPRequestHandler):
    server: Echo

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.seen += [
            body,
            *self.headers.values(),
            *(value for _, value in parse_qsl(urlsplit(self.path).query)),
        ]
        said = f"{self.path}\n{self.headers}\n{body}\n".encode()
        self.send_response(200, "OK")
        self.send_header("X-Echo", self.headers.get("X-Secret") or self.headers.get("Authorization") or "none")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


@dataclass(slots=True)
class Evidence:
    """What was collected, by where it was found; `printed` is what each execution is said to have printed."""

    traces: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    printed: dict[str, str] = field(default_factory=dict)
    echoed: list[str] = field(default_factory=list)
    environments: dict[str, list[bytes]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    folder = tmp_path_factory.mktemp("canary")
    with ExitStack() as ends:
        yield _Collection(folder, ends).collect()


class _Collection:
    def __init__(self, folder: Path, ends: ExitStack) -> None:
        self.folder = folder
        self.ends = ends
        self.go_on = folder / "go-on"
        self.evidence = Evidence()
        self.echo = Echo()
        threading.Thread(target=self.echo.serve_forever, args=(0.05,), daemon=True).start()
        ends.callback(self.echo.shutdown)
        self.site = LiveInstallation(folder / "var", WORKER_POOLS="embedded", WORKER_PROCESSES="1", LOG_LEVEL="DEBUG")
        self.http = requests.Session()
        self.executions: dict[str, int] = {}

    def collect(self) -> Evidence:
        self.site.start()
        self.ends.callback(self.site.stop)
        clusters = self._start_other_clusters()
        self._sign_in()
        self._store_canaries()
        made = self.site.run_manage("create_token", "approver", "--create", "--role", "approver")
        self.approver = {"Authorization": f"Bearer {made.stdout.split()[-1]}"}
        watchers = [watcher for store in STORES for watcher in self._begin(store)]
        wait_until(lambda: all(self._waiting(store).exists() for store in STORES), seconds=90, what="the waiting steps")
        self._look_at_processes()
        self._read(self._pages_of_executions(), "while it runs")
        self.go_on.touch()
        wait_until(lambda: all(map(self._has_ended, self.executions.values())), seconds=60, what="the ends")
        for watcher in watchers:
            watcher.join(timeout=20)
        self._read([*self._pages(), *self._pages_of_executions(), *self._calls()], "afterwards")
        self._dump()
        for cluster in clusters:
            cluster.terminate()
            cluster.wait(timeout=40)
        self.site.stop()
        for log in [*self.folder.rglob("*.log"), *self.folder.rglob("*.log.*")]:
            self.evidence.traces[f"the log {log.relative_to(self.folder)}"] = log.read_bytes()
        self.evidence.traces["what serve wrote"] = self.site.output.encode()
        self.evidence.echoed = self.echo.seen
        return self.evidence

    # -- the installation ---------------------------------------------------------------------------------------------

    def _start_other_clusters(self) -> list[subprocess.Popen[bytes]]:
        vault, moto = VaultServer(), MotoServer()
        self.ends.callback(vault.close)
        self.ends.callback(moto.close)
        vault.put("opsconductor/default/canary/vault", {"value": canary_of("vault")})
        client = boto3.session.Session(
            moto.environment["AWS_ACCESS_KEY_ID"], moto.environment["AWS_SECRET_ACCESS_KEY"]
        ).client("secretsmanager", region_name="eu-west-1", endpoint_url=moto.address)
        client.create_secret(Name="opsconductor/default/canary/aws", SecretString=canary_of("aws"))
        settings = {
            "vault": {"VAULT_ADDR": vault.address, "VAULT_ROLE": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID},
            "aws": {"AWS_REGION": "eu-west-1", **moto.environment},
        }
        return [self._start_cluster(store, given) for store, given in settings.items()]

    def _start_cluster(self, store: str, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{store}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, MANAGE, "worker"],
                env={**self.site.environment, **settings, "SECRETS_BACKEND": store, "WORKER_POOLS": store},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.ends.callback(process.kill)  # does nothing once it has ended
        return process

    def _store_canaries(self) -> None:
        """The web looks into the embedded store: of the others' secrets it finds others' values there."""
        values = {"embedded": canary_of("embedded"), "vault": "not this one", "aws": "nor this"}
        url = f"{self.site.base_url}/admin/safety/secret/add/"
        for name, value in values.items():
            form = {"path": f"canary/{name}", "value": value, "csrfmiddlewaretoken": self._csrf}
            answer = self.http.post(url, data=form, headers={"Referer": url}, timeout=30)
            assert answer.url.endswith("/admin/safety/secret/"), answer.text
            self.evidence.traces[f"the answer to storing {name}"] = answer.content

    def _sign_in(self) -> None:
        url = f"{self.site.base_url}/login/"
        self.http.get(url, timeout=20)
        form = {"username": "admin", "password": self.site.admin_password, "csrfmiddlewaretoken": self._csrf}
        answer = self.http.post(url, data=form, headers={"Referer": url}, timeout=20)
        assert answer.url.endswith("/executions/"), answer.url

    @property
    def _csrf(self) -> str:
        return str(self.http.cookies["csrftoken"])

    def _post(self, path: str, body: object) -> requests.Response:
        headers = {"X-CSRFToken": self._csrf, "Referer": self.site.base_url}
        return self.http.post(f"{self.site.base_url}{path}", json=body, headers=headers, timeout=30)

    # -- executions ---------------------------------------------------------------------------------------------------

    def _waiting(self, store: str) -> Path:
        return self.folder / f"waiting-{store}"

    def _begin(self, store: str) -> list[threading.Thread]:
        """Submit the plan of a store, and follow it by socket and stream to its end."""
        asset = {"name": f"host-{store}", "connection": "local", "environment": "development"}
        asset |= {"credential": f"canary/{store}"}
        assert self._post("/api/v1/assets/", asset).status_code == 201
        plan = plan_of(store, asset["name"], self.echo.url, self._waiting(store), self.go_on)
        answer = self._post("/api/v1/executions/", {"plan": plan})
        assert answer.status_code == 202, answer.text
        number = self.executions[store] = answer.json()["id"]
        approving = f"{self.site.base_url}/api/v1/executions/{number}/approve/"  # it posts to what no inventory names
        assert requests.post(approving, json={}, headers=self.approver, timeout=30).status_code == 200
        preview = self._post("/api/v1/executions/preview/", {"plan": plan})
        self.evidence.traces[f"the preview of {store}"] = preview.content
        watchers = [
            threading.Thread(target=follow, args=(store, number), daemon=True)
            for follow in (self._socket, self._stream)
        ]
        for watcher in watchers:
            watcher.start()
        return watchers

    def _socket(self, store: str, number: int) -> None:
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        address = f"{self.site.base_url.replace('http', 'ws')}/ws/executions/{number}/?after=0"
        frames = []
        with connect(address, additional_headers={"Cookie": cookies, "Origin": self.site.base_url}) as socket:
            for frame in socket:
                frames.append(frame if isinstance(frame, bytes) else frame.encode())
        self.evidence.traces[f"the socket of {store}"] = b"\n".join(frames)

    def _stream(self, store: str, number: int) -> None:
        address = f"{self.site.base_url}/api/v1/executions/{number}/events/stream"
        with requests.get(address, cookies=self.http.cookies, stream=True, timeout=60) as answer:
            self.evidence.traces[f"the stream of {store}"] = b"".join(answer.iter_content(4096))

    def _has_ended(self, number: int) -> bool:
        answer = self.http.get(f"{self.site.base_url}/api/v1/executions/{number}/", timeout=20).json()
        return answer["status"] not in ("queued", "running", "pending_approval")

    # -- where it is looked for ---------------------------------------------------------------------------------------

    def _look_at_processes(self) -> None:
        lines, environments = [], []
        for _, line, environment in command_lines_and_environments():
            lines.append(line)
            if str(self.folder).encode() not in line and not line.startswith(b"sleep"):
                environments.append(environment)  # of every process but those of the steps that wait
            for store in STORES:
                if canary_of(store).encode() in environment:
                    self.evidence.environments.setdefault(store, []).append(line)
        self.evidence.traces["command lines"] = b"\n".join(lines)
        self.evidence.traces["ps"] = ps()
        self.evidence.traces["environments of other processes"] = b"\n".join(environments)

    def _read(self, paths: Iterable[str], when: str) -> None:
        for path in paths:
            answer = self.http.get(f"{self.site.base_url}{path}", timeout=30, stream=path.endswith("stream"))
            assert answer.status_code < 500, (path, answer.status_code)
            self.evidence.traces[f"{path} {when}"] = b"" if path.endswith("stream") else answer.content
            answer.close()
        for store, number in self.executions.items():
            detail = self.http.get(f"{self.site.base_url}/api/v1/executions/{number}/", timeout=20).json()
            self.evidence.statuses[store] = detail["status"]
            output = self.http.get(f"{self.site.base_url}/api/v1/executions/{number}/output/", timeout=20)
            self.evidence.printed[store] = output.text

    def _pages_of_executions(self) -> Iterator[str]:
        yield "/metrics"
        for number in self.executions.values():
            for part in ("", "fragments/", "hosts/", "feed/", "log/", "log/?download=1"):
                yield f"/executions/{number}/{part}"
            for part in ("", "steps/", "plan/", "events/", "output/"):
                yield f"/api/v1/executions/{number}/{part}"

    def _pages(self) -> Iterator[str]:
        yield from ("/executions/", "/executions/new/", "/executions/assets/", "/readyz", "/healthz", "/admin/")
        home = self.http.get(f"{self.site.base_url}/admin/", timeout=30).text
        yield from sorted(set(re.findall(r'href="(/admin/[a-z_]+/[a-z_]+/)"', home)))
        for number in (1, 2, 3):
            for model in ("executions/execution", "executions/asset", "safety/secret"):
                yield f"/admin/{model}/{number}/change/"
                yield f"/admin/{model}/{number}/history/"
        steps = self.http.get(f"{self.site.base_url}/admin/executions/step/", timeout=30).text
        yield from sorted(set(re.findall(r"/admin/executions/step/\d+/change/", steps)))[:20]

    def _calls(self) -> Iterator[str]:
        """Every GET of the API, for each of the executions."""
        schema = self.http.get(f"{self.site.base_url}/api/schema/?format=json", timeout=60)
        paths = json.loads(schema.content)["paths"]
        for path in sorted(path for path, methods in paths.items() if "get" in methods):
            for number in self.executions.values():
                yield re.sub(r"\{[a-z_]+\}", str(number), path)

    def _dump(self) -> None:
        """The whole database as text; what is binary there, pg_dump writes in hexadecimal."""
        socket = (self.site.var_dir / "postgres.socket").read_text().strip()
        url = f"postgresql://opsconductor@/opsconductor?host={socket}"
        done = subprocess.run([programs_folder() / "pg_dump", url], capture_output=True, timeout=120, check=True)
        self.evidence.traces["the dump of the database"] = done.stdout


@pytest.mark.parametrize("store", STORES)
def test_no_trace_of_a_secret_is_found_anywhere(evidence: Evidence, store: str) -> None:
    value = canary_of(store)
    assert found_in(evidence.traces, value) == []
    # And it was there to be found: it was used, shown in every way, and masked.
    assert evidence.statuses[store] == "succeeded"
    assert any(value in said for said in evidence.echoed)
    assert hashlib.sha256(value.encode()).hexdigest() in evidence.printed[store]
    assert evidence.printed[store].count("[masked]") > 10
    assert evidence.environments[store]
    names = (
        "the dump of the database",
        f"the socket of {store}",
        f"the stream of {store}",
        "command lines",
        "/metrics",
    )
    for name in names:
        assert any(len(trace) > 500 for at, trace in evidence.traces.items() if at.startswith(name)), name
    assert len(evidence.traces) > 150
    assert "/admin/safety/secret/ afterwards" in evidence.traces


@pytest.mark.parametrize("store", STORES)
def test_only_the_step_itself_has_it_in_its_environment(evidence: Evidence, store: str) -> None:
    assert all(b"waiting-" in line or line.startswith(b"sleep") for line in evidence.environments[store])
