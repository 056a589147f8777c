"""Secrets through real workers: where values get to, where they never are, and what happens when there are none."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Permission

from executions.models import Asset, Event, ExecutionPlan, StepTarget
from executions.services import Submission, approve, cancel, submit
from opsconductor.secret_store import VaultSettings
from safety.accounts import set_roles
from safety.models import AuditRecord, SecretRule, Tenant, User
from safety.secrets import configured_store
from safety.secrets.keeping import remove_secret, store_secret
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    printed,
    shell,
    status_of,
    step_statuses,
    target_of,
)
from tests.installations import wait_until
from tests.safety.secrets.vault_server import ROLE_ID, SECRET_ID, VaultServer

pytestmark = [pytest.mark.django_db(transaction=True)]

Begin = Callable[..., int]
VALUE = "sw0rdfish-§-of-the-test"
TOKEN = "t0ken-of-the-test"
DIGEST = hashlib.sha256(VALUE.encode()).hexdigest()


def secret(path: str, key: str | None = None) -> dict[str, str]:
    return {"type": "secret", "path": path, **({"key": key} if key else {})}


def keep(path: str, value: str = VALUE) -> None:
    store_secret(Tenant.objects.get(name="default"), path, value, by=None)


def step(key: str, tool: str, inputs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": key, "tool": tool, "inputs": inputs, "targets": ["localhost"], **fields}


class Listener(ThreadingHTTPServer):
    """Notes what requests brought."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Noting)
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Noting(BaseHTTPRequestHandler):
    server: Listener

    def log_message(self, format: str, *args: Any) -> None: ...

    def _note(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = _note


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_values_reach_commands_and_requests_and_nothing_else_has_them(
    workers: Workers, begin: Begin, listener: Listener, tmp_path: Path
) -> None:
    """The test looks at a digest of what arrived: whether output is masked is another question."""
    keep("db/orders", "the one before")
    keep("db/orders")
    keep("db/entries", json.dumps({"password": VALUE, "user": "u"}))
    keep("api", TOKEN)
    tenant = Tenant.objects.get(name="default")
    for number in range(3):
        Asset.objects.create(tenant=tenant, name=f"l{number}", connection="local", environment="development")
    digest = 'printf %s "$PW" | sha256sum'
    go_on, running = tmp_path / "go-on", tmp_path / "running"
    holding = f"touch {running}; until test -e {go_on}; do sleep 0.05; done"
    beside = f"until test -e {go_on}; do sleep 0.05; done"
    workers.start(HTTP_ALLOWED_NETWORKS="127.0.0.0/8")
    all_ways = begin(
        step("environment", "shell", {"command": digest, "environment": {"PW": secret("db/orders")}}),
        step("stdin", "command", {"argv": ["sha256sum"], "stdin": secret("db/entries", "password")}),
        step("other", "shell", {"command": 'env | sort; echo "[$PW]"'}),
        step(
            "again",
            "shell",
            {
                "command": f"echo {{{{ steps.stdin.exit_code }}}}; {digest}",
                "environment": {"PW": secret("db/orders")},
            },
        ),
        {"id": "post", "tool": "http", "inputs": {
            "method": "POST", "url": f"{listener.url}/x", "query": {"token": secret("db/orders"), "a": "b c"},
            "headers": {"X-Token": secret("db/entries", "user")},
            "auth": {"type": "bearer", "token": secret("api")},
            "body": {"deep": [{"password": secret("db/entries", "password")}], "n": 1}}},
        {"id": "basic", "tool": "http", "inputs": {
            "url": listener.url, "auth": {"type": "basic", "username": "üser", "password": secret("db/orders")}}},
    )  # fmt: skip
    fans_out = begin(
        {
            "id": "all",
            "tool": "shell",
            "inputs": {"command": 'test -n "$PW"', "environment": {"PW": secret("db/orders")}},
            "targets": ["l0", "l1", "l2"],
        }
    )
    carried_on = begin(
        step("prints", "command", {"argv": ["cat"], "stdin": secret("api")}),
        step("shows", "command", {"argv": ["echo", "{{ steps.prints.stdout }}"]}),
    )
    approve(
        all_ways, by=User.objects.create_superuser("approver", tenant=tenant)
    )  # it posts to what no inventory names
    assert ended(all_ways).status == ended(fans_out).status == "succeeded"
    assert ended(carried_on).status == "failed"  # ps would have shown it
    assert "command line" in target_of(carried_on, "shows").error
    side_by_side = begin(
        step("holds", "shell", {"command": holding, "environment": {"PW": secret("db/orders")}}, depends_on=[]),
        {"id": "beside", "tool": "shell", "inputs": {"command": beside}, "targets": ["l0"], "depends_on": []},
    )
    try:
        wait_until(running.exists, what="the step that holds it")
        lines, environments = _processes(VALUE)
    finally:
        go_on.touch()
    assert ended(side_by_side).status == "succeeded"

    assert printed(all_ways, "environment").split()[0] == DIGEST
    assert printed(all_ways, "stdin").split()[0] == DIGEST
    assert printed(all_ways, "again").split()[:2] == ["0", DIGEST]
    assert printed(all_ways, "other").endswith("[]\n")
    (path, headers, body), (_, basic, _) = listener.seen
    assert parse_qs(urlsplit(path).query) == {"token": [VALUE], "a": ["b c"]}
    assert (headers["Authorization"], headers["X-Token"]) == (f"Bearer {TOKEN}", "u")
    assert json.loads(body) == {"deep": [{"password": VALUE}], "n": 1}
    assert basic["Authorization"] == f"Basic {b64encode(f'üser:{VALUE}'.encode()).decode()}"

    assert lines == []
    assert environments  # it was looked for where it is: in the step's own processes
    assert all(line.startswith((f"touch {running}", "sleep")) for line in environments), environments
    assert_nothing_is_written_down()
    used = AuditRecord.objects.get(action="secret.use", data__execution=fans_out)  # once for all targets
    assert (used.actor, used.allowed, used.object_id, used.door) == ("user:requester", True, "db/orders", "worker")
    assert used.data == {"execution": fans_out, "step": "all", "purpose": "step", "version": "2"}
    assert_nothing_left_behind()


def test_a_secret_that_is_fetched_while_a_step_runs_is_masked_in_the_output_of_that_step_too(
    workers: Workers, begin: Begin, tmp_path: Path
) -> None:
    keep("db/orders")
    running, handed = tmp_path / "running", tmp_path / "handed"
    hand_over = f'printf %s "$PW" > {handed}.new; mv {handed}.new {handed}'
    workers.start()
    execution = begin(
        shell("reads", f"echo begun; touch {running}; until test -e {handed}; do sleep 0.05; done; cat {handed}; echo; "
              f"base64 {handed}", depends_on=[]),
        shell("waits", f"until test -e {running}; do sleep 0.05; done", depends_on=[]),
        step("hands", "shell", {"command": hand_over, "environment": {"PW": secret("db/orders")}},
             depends_on=["waits"]),
    )  # fmt: skip
    assert ended(execution).status == "succeeded"
    assert handed.read_text() == VALUE
    assert printed(execution, "reads") == "begun\n[masked]\n[masked]\n"


def assert_nothing_is_written_down() -> None:
    rows = [
        *ExecutionPlan.objects.values_list("document", flat=True),
        *Event.objects.values_list("data", flat=True),
        *StepTarget.objects.values_list("data", flat=True),
        *AuditRecord.objects.values_list("data", flat=True),
    ]
    assert len(rows) > 20
    kept = [json.dumps(row, ensure_ascii=False) for row in rows]
    assert not [row for row in kept if VALUE in row or TOKEN in row]


def _processes(value: str) -> tuple[list[str], list[str]]:
    """Return the command lines that have the value on them, and those of the processes in whose environment it is."""
    lines, environments = [], []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        shown = line.replace(b"\0", b" ").decode(errors="replace").removeprefix("/bin/sh -c ")
        if value.encode() in line:
            lines.append(shown)
        if value.encode() in environment:
            environments.append(shown)
    return lines, environments


def test_what_may_not_be_had_any_more_fails_the_step_and_nothing_ran(
    workers: Workers, begin: Begin, requester: User, tmp_path: Path
) -> None:
    keep("db/orders")
    keep("web")
    marker = tmp_path / "ran"
    inputs = {"command": f"touch {marker}", "environment": {"PW": secret("db/orders")}}
    gone = begin(step("one", "shell", inputs, retry={"max_attempts": 3, "delay_seconds": 60}), shell("two", ":"))
    ruth = User.objects.create_user("ruth", tenant=requester.tenant)
    set_roles(ruth, ["requester"])
    ruth.user_permissions.set(Permission.objects.filter(codename="execute_modify", content_type__model="asset"))
    plan = {"steps": [step("one", "command", {"argv": ["cat"], "stdin": secret("web")})]}
    ruled_out = submit(Submission(plan), by=ruth).execution_id
    remove_secret(requester.tenant, "db/orders", by=None)
    SecretRule.objects.create(tenant=requester.tenant, prefix="web")
    workers.start()

    execution = ended(gone)
    assert execution.status == "failed"
    assert "There is no secret db/orders" in execution.status_reason
    target = target_of(gone, "one")
    assert (target.error_code, target.attempt) == ("secret_unavailable", 1)  # asking again would be in vain
    assert step_statuses(gone) == {"one": "failed", "two": "skipped"}
    assert not marker.exists()
    refused = AuditRecord.objects.get(action="secret.use", data__execution=gone)
    assert (refused.allowed, refused.code, refused.actor) == (False, "secret_unavailable", "user:requester")

    assert ended(ruled_out).status == "failed"
    assert target_of(ruled_out, "one").error_code == "secret_unavailable"
    assert printed(ruled_out, "one") == ""
    assert not AuditRecord.objects.get(action="secret.use", data__execution=ruled_out).allowed


@pytest.fixture
def vault(settings: Any, workers: Workers) -> Iterator[VaultServer]:
    """Vault as the store of test and workers."""
    server = VaultServer()
    settings.SECRETS_BACKEND = "vault"
    settings.VAULT = VaultSettings(server.address, "secret", "", "", ROLE_ID, SECRET_ID)
    configured_store.cache_clear()
    workers.environment |= {
        "SECRETS_BACKEND": "vault", "VAULT_ADDR": server.address, "VAULT_ROLE": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID,
    }  # fmt: skip
    yield server
    configured_store.cache_clear()
    server.close()


def test_a_sealed_vault_is_waited_for_and_a_cancel_meanwhile_is_quick(
    workers: Workers, begin: Begin, vault: VaultServer, requester: User, listener: Listener
) -> None:
    keep("api", TOKEN)
    vault.behaviour.sealed = True
    workers.start(HTTP_ALLOWED_NETWORKS="127.0.0.0/8")

    def asking(key: str, **fields: object) -> dict[str, object]:
        inputs = {"url": listener.url, "headers": {"X-Token": secret("api")}}
        return {"id": key, "tool": "http", "inputs": inputs, **fields}

    waits = begin(asking("one", timeout_seconds=30))
    given_up = begin(asking("two", timeout_seconds=1.2))
    cancelled = begin(asking("three", timeout_seconds=30))
    assert ended(given_up).status == "failed"  # a second is what the step itself may take
    target = target_of(given_up, "two")
    assert target.error_code == "secret_unavailable"
    assert "sealed" in target.error
    cancel(cancelled, by=requester, reason="enough")
    wait_until(lambda: status_of(cancelled) == "cancelled", seconds=3, what="the cancel")
    assert status_of(waits) == "running"
    vault.behaviour.sealed = False
    assert ended(waits).status == "succeeded"
    assert [headers["X-Token"] for _, headers, _ in listener.seen] == [TOKEN]
    assert target_of(waits, "one").attempt == 1
    assert_nothing_left_behind()


def test_what_an_earlier_step_used_is_masked_by_the_next_worker_too(
    workers: Workers, begin: Begin, tmp_path: Path
) -> None:
    """The worker that fetched it is gone; a later step, which names no secret, shows what the first one left behind."""
    keep("api", TOKEN)
    left, running = tmp_path / "left-behind", tmp_path / "running"
    workers.start(WORKER_PROCESSES="1")
    execution_id = begin(
        step("leaves", "shell", {"command": f'printf %s "$PW" > {left}', "environment": {"PW": secret("api")}}),
        shell("shows", f"if test -e {running}; then cat {left}; else touch {running}; sleep 60; fi", idempotent=True),
    )
    wait_until(running.exists, what="the second step")
    assert workers.kill_one() is not None
    assert ended(execution_id).status == "succeeded"
    assert left.read_text() == TOKEN
    assert printed(execution_id, "shows") == "[masked]"
    uses = AuditRecord.objects.filter(action="secret.use").order_by("pk")
    assert [(one.data["step"], one.data["purpose"]) for one in uses] == [("leaves", "step"), ("leaves", "masking")]


def test_what_cannot_be_hidden_yet_is_not_printed(
    workers: Workers, begin: Begin, vault: VaultServer, tmp_path: Path
) -> None:
    """The store is down when the next worker asks again for what an earlier step used: the step waits for it."""
    keep("api", TOKEN)
    left, running, printing = tmp_path / "left-behind", tmp_path / "running", tmp_path / "printing"
    workers.start(WORKER_PROCESSES="1")
    shows = f"if test -e {running}; then touch {printing}; cat {left}; else touch {running}; sleep 60; fi"
    execution_id = begin(
        step("leaves", "shell", {"command": f'printf %s "$PW" > {left}', "environment": {"PW": secret("api")}}),
        shell("shows", shows, idempotent=True),
    )
    wait_until(running.exists, what="the second step")
    vault.behaviour.sealed = True
    assert workers.kill_one() is not None
    in_vain = AuditRecord.objects.filter(action="secret.use", data__purpose="masking", allowed=False)
    wait_until(lambda: in_vain.count() >= 2, what="two questions in vain")
    assert not printing.exists()
    vault.behaviour.sealed = False
    assert ended(execution_id).status == "succeeded"
    assert printed(execution_id, "shows") == "[masked]"
