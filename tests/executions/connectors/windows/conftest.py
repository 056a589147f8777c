"""A fake WinRM service with a certificate of a trusted authority, and the connector that talks to it."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from executions.connectors.base import Credential, Target
from executions.connectors.registry import Surroundings
from executions.connectors.warden import Warden
from executions.connectors.winrm.connector import WinRMConnector
from tests.executions.connectors.windows.fake_winrm import FakeWinRM, Handler

PASSWORD = "Tr0ub4dor&3"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def basic(handler: Handler) -> bool:
    expected = "Basic " + base64.b64encode(f"ops:{PASSWORD}".encode()).decode()
    if handler.headers.get("Authorization") == expected:
        return True
    handler.send(401, b"", WWW_Authenticate='Basic realm="WSMAN"')
    return False


@pytest.fixture
def windows(tls: ssl.SSLContext) -> Iterator[FakeWinRM]:
    server = FakeWinRM(tls, basic)
    yield server
    server.close()


@pytest.fixture
def options(ca_file: Path) -> dict[str, Any]:
    return {"winrm_ca_bundle": str(ca_file), "winrm_auth": "basic"}


@pytest.fixture
def warden() -> Iterator[Warden]:
    warden = Warden()
    yield warden
    warden.close()


@pytest.fixture
def connector(warden: Warden, options: dict[str, Any]) -> WinRMConnector:
    return WinRMConnector(Surroundings(warden, options=options))


@pytest.fixture
def target(windows: FakeWinRM) -> Target:
    return target_at(windows.port)


def target_at(port: int, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "name": "win-1",
        "hostname": "localhost",
        "connection": "powershell",
        "port": port,
        "credential": Credential(username="ops", password=PASSWORD),
    }
    return Target(**{**values, **changes})


ServerMaker = Callable[..., FakeWinRM]
