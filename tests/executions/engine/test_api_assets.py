"""Steps that ask an asset with connection api, by a real worker: address, credential, and what its JSON says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from executions.models import Asset, Event, Execution, OutputChunk
from executions.services import Refused, Submission, submit
from safety.models import AuditRecord, Tenant, User
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import Workers, assert_nothing_left_behind, ended, target_of

pytestmark = [pytest.mark.django_db(transaction=True)]

TOKEN = "t0ken-of-the-test"


class Shop(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Shop

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        body = json.dumps({"status": {"db": "up"}, "echo": TOKEN}).encode()
        if self.path == "/long":
            body = json.dumps({"status": {"db": "up"}, "more": "x" * 1_100_000}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def shop(transactional_db: None, requester: User) -> Iterator[Shop]:
    server = Shop()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tenant = Tenant.objects.get(name="default")
    Asset.objects.create(
        tenant=tenant, name="shop", hostname="127.0.0.1", port=server.server_address[1], connection="api",
        service_type="http", environment="development", credential="api/shop",
    )  # fmt: skip
    store_secret(tenant, "api/shop", json.dumps({"bearer_token": TOKEN}), by=None)
    yield server
    server.shutdown()
    server.server_close()


def ask(key: str, url: str = "/health", **inputs: Any) -> dict[str, Any]:
    return {
        "id": key,
        "tool": "http_check",
        "inputs": {"url": url, **inputs},
        "targets": ["shop"],
        "on_failure": "continue",
    }


def test_an_api_is_asked_with_its_own_credential_and_judged_by_its_json(
    workers: Workers, shop: Shop, requester: User
) -> None:
    up = {"path": "status.db", "equals": "up"}
    plan = {
        "steps": [
            ask("good", expect_json=[up, {"path": "/status/cache", "exists": False}]),
            ask("bad", expect_json={"path": "status.db", "equals": "down"}),
            ask("long", "/long", expect_json=up),
            ask("stranger", auth={"type": "none"}, expect_status=401),
        ]
    }
    execution_id = submit(Submission(plan), by=requester).execution_id
    workers.start(WORKER_PROCESSES="1", HTTP_ALLOWED_NETWORKS="127.0.0.0/8")

    assert ended(execution_id).status == "succeeded"  # the failures are allowed
    assert target_of(execution_id, "good").status == "succeeded"
    bad = target_of(execution_id, "bad")
    assert (bad.status, bad.error_code, bad.exit_code) == ("failed", "criteria_not_met", 0)
    assert bad.error == 'The answer\'s JSON is not as expected: status.db is a text other than "down".'
    long = target_of(execution_id, "long")
    assert (long.status, long.error_code) == ("failed", "criteria_not_met")
    assert target_of(execution_id, "stranger").status == "succeeded"
    assert shop.seen == [
        ("/health", f"Bearer {TOKEN}"),
        ("/health", f"Bearer {TOKEN}"),
        ("/long", f"Bearer {TOKEN}"),
        ("/health", None),
    ]
    everything = [*OutputChunk.objects.values_list("text", flat=True), *map(str, Event.objects.values_list("data"))]
    assert not any(TOKEN in text for text in everything)
    assert AuditRecord.objects.filter(action="secret.use").count() > 0
    assert_nothing_left_behind()


def test_a_credential_is_not_sent_to_where_its_machine_was(workers: Workers, shop: Shop, requester: User) -> None:
    """Nobody approved it, so no approval is void; but whoever corrected the row did not mean the old address."""
    execution_id = submit(
        Submission({"steps": [ask("old"), ask("open", auth={"type": "none"})]}), by=requester
    ).execution_id
    assert Execution.objects.get(pk=execution_id).approval_level == 0
    Asset.objects.filter(name="shop").update(hostname="shop.example.org")
    workers.start(WORKER_PROCESSES="1", HTTP_ALLOWED_NETWORKS="127.0.0.0/8")

    ended(execution_id)
    old = target_of(execution_id, "old")
    assert (old.status, old.error_code, old.attempt) == ("failed", "target_moved", 1)
    assert "hostname was 127.0.0.1, is shop.example.org. Its credential was not used." in old.error
    assert target_of(execution_id, "open").error_code != "target_moved"
    assert shop.seen == [("/health", None)]
    assert not AuditRecord.objects.filter(action="secret.use").exists()
    assert_nothing_left_behind()


def refusals(step: dict[str, Any], by: User) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as refused:
        submit(Submission({"steps": [step]}), by=by)
    return [(problem["code"], problem["path"]) for problem in refused.value.problems()]


def test_what_has_no_address_is_refused_when_it_is_submitted(shop: Shop, requester: User) -> None:
    nowhere = {"tool": "http", "inputs": {"url": "/health"}}
    assert refusals(nowhere, requester) == [("missing_target", "steps[0].targets")]
    here = {**nowhere, "targets": ["localhost"]}
    assert refusals(here, requester) == [("invalid_input", "steps[0].inputs")]
    elsewhere = {"tool": "http", "inputs": {"url": "https://example.org/", "auth": {"type": "asset"}}}
    assert refusals(elsewhere, requester) == [("missing_target", "steps[0].targets")]
