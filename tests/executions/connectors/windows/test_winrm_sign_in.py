"""Signing in: by NTLM, with the channel bound to the certificate, and by a certificate whose key is in no file."""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import spnego
import spnego.exceptions
import trustme
from cryptography.hazmat.primitives import serialization

from executions.connectors import ErrorCode, Invocation, Outcome, Stop, Target
from executions.connectors.base import Credential, Script
from executions.connectors.registry import Surroundings
from executions.connectors.warden import Warden
from executions.connectors.winrm.connector import WinRMConnector
from tests.executions.connectors.recording import RecordingSink, wait_until
from tests.executions.connectors.windows.conftest import PASSWORD, target_at
from tests.executions.connectors.windows.fake_winrm import FakeWinRM, Handler

MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
Serve = Callable[..., FakeWinRM]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[FakeWinRM] = []

    def start(tls: ssl.SSLContext, sign_in: Callable[[Handler], bool]) -> FakeWinRM:
        servers.append(FakeWinRM(tls, sign_in))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


async def run(options: dict[str, Any], warden: Warden, target: Target) -> tuple[Outcome, str]:
    sink = RecordingSink()
    connector = WinRMConnector(Surroundings(warden, options=options))
    invocation = Invocation(script=Script("echo signed in"))
    outcome = await connector.run(invocation, target, sink=sink, stop=Stop(), fence=1)
    return outcome, sink.stdout


def ntlm(handler: Handler) -> bool:
    """As http.sys does: for each connection, in two turns, and the second token says who it is."""
    if handler.signed_in:
        return True
    kind, _, token = handler.headers.get("Authorization", "").partition(" ")
    if kind != "Negotiate":
        handler.send(401, b"", WWW_Authenticate="Negotiate")
        return False
    given = base64.b64decode(token)
    if handler.context is None:
        handler.context = spnego.server(protocol="ntlm" if given.startswith(b"NTLMSSP") else "negotiate")
    try:
        answer = handler.context.step(given)
    except spnego.exceptions.SpnegoError:
        handler.context = None
        handler.send(401, b"", WWW_Authenticate="Negotiate")
        return False
    if handler.context.complete:
        handler.signed_in = True
        handler.server.signed_in_as.append(handler.context.client_principal)
        return True
    handler.send(401, b"", WWW_Authenticate=f"Negotiate {base64.b64encode(answer).decode()}")
    return False


@pytest.mark.parametrize("authentication", ["ntlm", "negotiate"])
async def test_a_password_signs_in_by_ntlm_and_is_never_sent(
    serve: Serve,
    tls: ssl.SSLContext,
    options: dict[str, Any],
    warden: Warden,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    authentication: str,
) -> None:
    accounts = tmp_path / "accounts"
    accounts.write_text(f"EXAMPLE:ops:{PASSWORD}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(accounts))  # what the service knows
    server = serve(tls, ntlm)
    credential = Credential(username="ops", domain="EXAMPLE", password=PASSWORD)
    target = target_at(server.port, credential=credential)

    outcome, printed = await run({**options, "winrm_auth": authentication}, warden, target)

    assert (outcome.exit_code, printed) == (0, "signed in\n"), outcome
    assert set(server.signed_in_as) == {"EXAMPLE\\ops"}


async def test_a_wrong_password_is_refused_by_ntlm(
    serve: Serve,
    tls: ssl.SSLContext,
    options: dict[str, Any],
    warden: Warden,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accounts = tmp_path / "accounts"
    accounts.write_text("EXAMPLE:ops:another one\n")
    server = serve(tls, ntlm)
    target = target_at(server.port, credential=Credential(username="ops", domain="EXAMPLE", password=PASSWORD))
    monkeypatch.setenv("NTLM_USER_FILE", str(accounts))

    outcome, _ = await run({**options, "winrm_auth": "ntlm"}, warden, target)

    assert outcome.error_code == ErrorCode.AUTHENTICATION_FAILED
    assert PASSWORD not in (outcome.error or "")
    assert server.seen == []


async def test_a_certificate_signs_in_and_its_key_is_in_no_file_on_disk(
    serve: Serve, authority: trustme.CA, options: dict[str, Any], warden: Warden
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    def sign_in(handler: Handler) -> bool:
        certificate = handler.connection.getpeercert() or {}
        assert handler.headers["Authorization"] == MUTUAL
        handler.server.signed_in_as.append(str(certificate["subjectAltName"]))
        return True

    server = serve(context, sign_in)
    leaf = authority.issue_cert("ops@example.com")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"of the key"),
    )
    credential = Credential(
        certificate=leaf.cert_chain_pems[0].bytes().decode(), private_key=locked.decode(), passphrase="of the key"
    )
    opened = open_memory_files()

    outcome, printed = await run(options, warden, target_at(server.port, credential=credential))

    assert (outcome.exit_code, printed) == (0, "signed in\n"), outcome
    assert "ops@example.com" in server.signed_in_as[0]
    wait_until(lambda: open_memory_files() == opened)


def open_memory_files() -> int:
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return sum("memfd:" in link for link in links)


@pytest.mark.parametrize("key", ["no key at all", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
async def test_a_key_that_is_none_is_told_and_nothing_is_sent(
    serve: Serve, tls: ssl.SSLContext, authority: trustme.CA, options: dict[str, Any], warden: Warden, key: str
) -> None:
    server = serve(tls, lambda handler: True)
    certificate = authority.issue_cert("ops@example.com").cert_chain_pems[0].bytes().decode()
    credential = Credential(certificate=certificate, private_key=key)

    outcome, _ = await run(options, warden, target_at(server.port, credential=credential))

    assert outcome.error_code == ErrorCode.CREDENTIAL_UNUSABLE
    assert server.seen == []
