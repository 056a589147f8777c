"""A plan's URL reaches what it may reach, whatever the name service says and whenever it says it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from executions.connectors import NO_TARGET, ErrorCode, HttpRequest, Invocation, Outcome, Stop
from executions.connectors.addresses import AddressPolicy
from executions.connectors.http import HttpConnector
from tests.executions.connectors.recording import RecordingSink
from tests.executions.connectors.web_servers import WebServer


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


async def get(url: str, *allowed: str) -> Outcome:
    connector = HttpConnector(allowed_networks=[ip_network(text) for text in allowed], connect_timeout_seconds=1)
    try:
        invocation = Invocation(http=HttpRequest("GET", url))
        return await connector.run(invocation, NO_TARGET, sink=RecordingSink(), stop=Stop(), fence=1)
    finally:
        await connector.close()


# fmt: off
REFUSED = [
    "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "169.254.1.1", "100.64.0.1", "100.100.100.200", "168.63.129.16", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
    "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    "2001:db8::1", "::127.0.0.1",
    "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:a9fe:a9fe::1",
    "2002:a00:1::1", "fec0::1", "3fff::1", "192.88.99.1", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:10.0.0.1",
    "::ffff:0:10.0.0.1", "2001:0:808:808::80ff:fffe",
]
WRITTEN_SO = [
    "127.0.0.1", "localhost", "LOCALHOST", "2130706433", "0x7f.1", "0x7f000001", "127.1",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0", "user:word@127.0.0.1", "example.org@127.0.0.1",
]
# fmt: on


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert AddressPolicy().refusal(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert AddressPolicy().refusal(address) is None


def test_an_allowed_network_opens_what_is_in_it_and_no_more() -> None:
    policy = AddressPolicy([ip_network("10.1.0.0/16"), ip_network("::1/128")])

    assert policy.refusal("10.1.2.3") is None
    assert policy.refusal("::ffff:10.1.2.3") is None
    assert policy.refusal("::1") is None
    assert policy.refusal("10.2.0.1")
    assert policy.refusal("127.0.0.1")


def test_opening_everything_does_not_open_the_metadata_service_but_naming_it_does() -> None:
    assert AddressPolicy([ip_network("0.0.0.0/0")]).refusal("10.1.1.1") is None
    assert AddressPolicy([ip_network("0.0.0.0/0")]).refusal("169.254.169.254") == "a metadata service"
    assert AddressPolicy([ip_network("169.254.169.254/32")]).refusal("169.254.169.254") is None
    assert AddressPolicy([ip_network("169.254.169.253/32")]).refusal("169.254.169.254")


@pytest.mark.parametrize("host", WRITTEN_SO)
async def test_this_machine_is_refused_in_whatever_way_it_is_written(web: WebServer, host: str) -> None:
    outcome = await get(f"http://{host}:{web.port}/hello")

    assert (outcome.exit_code, outcome.error_code) == (None, ErrorCode.ADDRESS_NOT_ALLOWED)
    assert "HTTP_ALLOWED_NETWORKS" in (outcome.error or "")
    assert web.seen == []


@pytest.mark.parametrize("host", ["localhost.", "0177.0.0.1", "0x7f.0x0.0x0.0x1", "127.0.0.1%00.example.org"])
async def test_what_name_services_read_in_different_ways_reaches_nothing_here(web: WebServer, host: str) -> None:
    outcome = await get(f"http://{host}:{web.port}/hello")

    assert (outcome.exit_code, web.seen) == (None, [])


async def test_this_machine_is_reached_when_it_is_allowed(web: WebServer) -> None:
    outcome = await get(f"http://localhost:{web.port}/hello", "127.0.0.0/8", "::1/128")

    assert outcome.exit_code == 0


class NameService:
    """Answers for one name with one list of addresses after the other, as a rebinding attacker's does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.asked = 0
        self._answers = answers
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._answer)

    def _answer(self, host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name != "rebinding.example":
            return self._real(host, port, *arguments, **named)
        addresses = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]


async def test_the_address_that_was_checked_is_the_one_connected_to(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first answer is allowed and nothing listens there; a second question would lead to the server.
    names = NameService(monkeypatch, ["127.0.0.9"], ["127.0.0.1"])
    outcome = await get(f"http://rebinding.example:{web.port}/hello", "127.0.0.9/32")

    assert outcome.error_code is ErrorCode.CONNECTION_REFUSED
    assert (names.asked, web.seen) == (1, [])


async def test_a_name_with_one_refused_address_is_refused(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    NameService(monkeypatch, ["127.0.0.9", "127.0.0.1"])
    outcome = await get(f"http://rebinding.example:{web.port}/hello", "127.0.0.9/32")

    assert outcome.error_code is ErrorCode.ADDRESS_NOT_ALLOWED
    assert "127.0.0.1" in (outcome.error or "")
    assert web.seen == []


async def test_the_next_address_is_tried_when_one_does_not_answer(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    NameService(monkeypatch, ["127.0.0.9", "127.0.0.1"])
    outcome = await get(f"http://rebinding.example:{web.port}/hello", "127.0.0.0/8")

    assert outcome.exit_code == 0
    assert web.seen[0][2]["Host"] == f"rebinding.example:{web.port}"


def test_a_name_service_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*arguments: Any, **named: Any) -> Any:
        await asyncio.Event().wait()

    async def ask() -> Outcome:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
        return await get("http://slow-name.example/")

    assert asyncio.run(ask()).error_code is ErrorCode.UNREACHABLE
