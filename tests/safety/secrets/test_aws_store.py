"""AWS Secrets Manager, against moto's server; what moto never answers comes from a server of ours, in AWS's form."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from safety.models import Tenant
from safety.secrets import SecretUnavailable
from safety.secrets.aws import AwsStore
from tests.installations import free_port
from tests.safety.secrets.moto_server import CREDENTIALS, MotoServer

REGION = "eu-west-1"


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    server = MotoServer()
    yield server
    server.close()


@pytest.fixture
def store(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> AwsStore:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return AwsStore(REGION)


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> Tenant:
    return Tenant(pk=1, name=request.node.name.replace("_", "-")[:50].rstrip("-"))


def value_in(store: AwsStore, tenant: Tenant, path: str = "db/orders", key: str | None = None) -> str:
    answer = store.read(tenant, [path])[path]
    if isinstance(answer, SecretUnavailable):
        raise answer
    return answer.value(key)


def test_what_is_stored_comes_back_and_is_gone_when_removed(store: AwsStore, tenant: Tenant) -> None:
    first = store.write(tenant, "db/orders", "first")
    assert store.write(tenant, "db/orders", '{"password": "p4ss"}') != first
    assert value_in(store, tenant) == '{"password": "p4ss"}'
    assert value_in(store, tenant, key="password") == "p4ss"
    assert store.paths(tenant) == ["db/orders"]
    assert store.delete(tenant, "db/orders")
    assert not store.delete(tenant, "db/orders")
    with pytest.raises(SecretUnavailable, match="There is no secret") as refused:
        value_in(store, tenant)
    assert not refused.value.transient


def test_another_tenants_secrets_are_out_of_reach(store: AwsStore, tenant: Tenant) -> None:
    store.write(Tenant(pk=2, name=f"{tenant.name}-2"), "db/orders", "theirs")
    with pytest.raises(SecretUnavailable, match="There is no secret"):
        value_in(store, tenant)
    assert store.paths(tenant) == []


def test_a_secret_that_is_marked_for_deletion_or_binary_is_told_of(store: AwsStore, tenant: Tenant) -> None:
    client = boto3.session.Session().client("secretsmanager", region_name=REGION)
    client.create_secret(Name=f"opsconductor/{tenant.name}/binary", SecretBinary=b"\x00\x01")
    client.create_secret(Name=f"opsconductor/{tenant.name}/marked", SecretString="x")
    client.delete_secret(SecretId=f"opsconductor/{tenant.name}/marked")
    answers = store.read(tenant, ["binary", "marked"])
    assert [str(answer).split(".")[0] for answer in answers.values()] == [
        "The secret binary is binary",
        "The secret marked is marked for deletion",
    ]


class Refusing:
    """Answers every call with one error, in the form of AWS's JSON protocol."""

    def __init__(self, code: str, status: int) -> None:
        body = json.dumps({"__type": code, "message": "told to"}).encode()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None: ...

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.mark.parametrize(
    ("code", "status", "transient"),
    [
        ("ThrottlingException", 400, True), ("InternalServiceError", 500, True), ("ServiceUnavailable", 503, True),
        ("AccessDeniedException", 400, False), ("ExpiredTokenException", 400, False),
        ("DecryptionFailure", 400, False), ("SomethingNew", 400, False),
    ],
)  # fmt: skip
def test_an_error_is_permanent_or_passes(
    code: str, status: int, transient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = Refusing(code, status)
    try:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_SECRETS_MANAGER": refusing.address}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SecretUnavailable, match=code if code != "DecryptionFailure" else "decrypt") as refused:
            value_in(AwsStore(REGION), Tenant(pk=1, name="acme"))
    finally:
        refusing.server.shutdown()
        refusing.server.server_close()
    assert refused.value.transient is transient
    assert refused.value.how_to_fix


def test_an_aws_that_is_not_there_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {**CREDENTIALS, "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{free_port()}"}
    for name, value in nowhere.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SecretUnavailable, match="cannot be reached") as refused:
        value_in(AwsStore(REGION), Tenant(pk=1, name="acme"))
    assert refused.value.transient


def test_without_credentials_it_is_said_what_to_give(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SecretUnavailable, match="no credentials") as refused:
        value_in(AwsStore(REGION), Tenant(pk=1, name="acme"))
    assert not refused.value.transient
