from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from executions.connectors import (
    NO_TARGET,
    ErrorCode,
    HttpRequest,
    Invocation,
    NoConnector,
    Stop,
    configure_connectors,
    connector_for,
    worker_warden,
)
from executions.connectors.http import HttpConnector
from executions.connectors.local import LocalConnector
from tests.executions.connectors.recording import RecordingSink
from tests.executions.connectors.web_servers import WebServer


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    configure_connectors()
    worker_warden().close()


async def test_a_command_on_this_machine_goes_to_the_local_connector_and_the_workers_warden() -> None:
    connector = connector_for("command", "local")
    sink = RecordingSink()
    outcome = await connector.run(Invocation(argv=("echo", "x")), NO_TARGET, sink=sink, stop=Stop(), fence=1)

    assert (outcome.exit_code, sink.stdout) == (0, "x\n")
    assert isinstance(connector, LocalConnector)
    assert connector.warden is worker_warden()
    assert connector_for("command", "local") is connector


@pytest.mark.parametrize("connection", ["", "local", "api", "ssh"])
def test_a_request_goes_to_the_http_connector_whatever_the_target(connection: str) -> None:
    assert isinstance(connector_for("http", connection), HttpConnector)


@pytest.mark.parametrize(
    ("tool", "connection"),
    [("command", "telnet"), ("powershell", "ssh"), ("powershell", "local"), ("command", ""), ("none", "local")],
)
def test_what_cannot_be_reached_is_refused_and_never_run_here_instead(tool: str, connection: str) -> None:
    with pytest.raises(NoConnector) as refused:
        connector_for(tool, connection)

    assert refused.value.code == "no_connector"
    assert str(refused.value)


async def test_the_deployments_networks_reach_the_http_connector() -> None:
    request = Invocation(http=HttpRequest("GET", "http://127.0.0.1:1/"))

    async def code() -> ErrorCode | None:
        connector = connector_for("http", "")
        assert isinstance(connector, HttpConnector)
        outcome = await connector.run(request, NO_TARGET, sink=RecordingSink(), stop=Stop(), fence=1)
        await connector.close()
        return outcome.error_code

    assert await code() is ErrorCode.ADDRESS_NOT_ALLOWED
    configure_connectors(http_allowed_networks=[ip_network("127.0.0.0/8")])
    assert await code() is ErrorCode.CONNECTION_REFUSED


async def test_no_request_is_sent_once_the_workers_right_to_act_has_ended() -> None:
    """A worker that was frozen goes on where it was, maybe before its heart has seen that it is late."""
    web = WebServer()
    configure_connectors(http_allowed_networks=[ip_network("127.0.0.0/8")])
    connector = connector_for("http", "")
    request = Invocation(http=HttpRequest("POST", f"http://127.0.0.1:{web.port}/hello"))

    async def send() -> ErrorCode | None:
        return (await connector.run(request, NO_TARGET, sink=RecordingSink(), stop=Stop(), fence=1)).error_code

    try:
        worker_warden().extend(time.monotonic() + 60)
        assert await send() is None
        worker_warden().extend(time.monotonic())
        assert await send() == ErrorCode.NOT_STARTED
        assert len(web.seen) == 1
        worker_warden().extend(time.monotonic() + 3600)
        assert await send() is None
        assert len(web.seen) == 2
    finally:
        web.close()
