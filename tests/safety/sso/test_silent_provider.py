"""A provider that takes connections and says nothing: nobody queues up behind it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from safety.sso import client, remembered
from safety.sso.client import Client
from safety.sso.configuration import Provider
from safety.sso.faults import SsoFault
from tests.installations import wait_until

MANY = 12


class SilentProvider:
    """A listening socket that counts who comes. Silent, or answering every request with `says`."""

    def __init__(self) -> None:
        self.says: Any = None
        self.asked = 0
        self._held: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=MANY)
        self.issuer = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.asked += 1
            if self.says is None:
                self._held.append(connection)
                continue
            with connection:
                connection.recv(65_536)
                body = json.dumps(self.says).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + body)

    def discovery(self, **changes: str) -> dict[str, Any]:
        return {"issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize", **changes}

    def hang_up(self) -> None:
        for connection in self._held:
            connection.close()
        self._held.clear()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.hang_up()
        self._thread.join()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentProvider]:
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 60.0)  # it is the test that ends the silence
    monkeypatch.setattr(remembered, "WAIT_SECONDS", 0.05)
    provider = SilentProvider()
    yield provider
    provider.close()


def client_of(provider: SilentProvider) -> Client:
    return Client(
        Provider(
            issuer=provider.issuer, client_id="opsconductor", client_secret=None, name="Example", scopes=("openid",),
            groups_claim="groups", group_roles={}, tenant="default", tenant_claim="",
        )
    )  # fmt: skip


def begin(one: Client) -> str:
    try:
        return one.begin("http://testserver/login/sso/back/").url
    except SsoFault as fault:
        return fault.code


def test_of_many_strangers_one_asks_and_the_others_are_refused_while_it_does(silent: SilentProvider) -> None:
    one = client_of(silent)
    with ThreadPoolExecutor(MANY) as threads:
        first = threads.submit(begin, one)
        wait_until(lambda: silent.asked == 1, what="the first is asking")
        others = [threads.submit(begin, one) for _ in range(MANY - 1)]
        try:
            assert [other.result(timeout=20) for other in others] == ["sso_unreachable"] * (MANY - 1)
            assert not first.done()
        finally:
            silent.hang_up()
        assert first.result(timeout=20) == "sso_unreachable"
    assert silent.asked == 1


def test_a_failure_is_remembered_for_half_a_minute_and_then_asked_about_again(
    silent: SilentProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = client_of(silent)
    silent.says = silent.discovery(issuer="https://another.example")
    assert [begin(one) for _ in range(5)] == ["sso_unreachable"] * 5
    assert silent.asked == 1
    silent.says = silent.discovery()
    assert begin(one) == "sso_unreachable"
    later = time.monotonic() + remembered.FAILURE_KEPT_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert begin(one).startswith(f"{silent.issuer}/authorize?")
    assert silent.asked == 2


def test_what_the_provider_said_before_is_good_while_one_asks_and_after_that_failed(
    silent: SilentProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = client_of(silent)
    silent.says = silent.discovery()
    assert begin(one).startswith(silent.issuer)
    silent.says = None
    monkeypatch.setattr(remembered, "KEPT_SECONDS", 0.0)
    one._metadata._good_until = 0.0  # an hour later
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(begin, one)
        wait_until(lambda: silent.asked == 2, what="one is asking again")
        try:
            assert threads.submit(begin, one).result(timeout=20).startswith(silent.issuer)
            assert not first.done()
        finally:
            silent.hang_up()
        assert first.result(timeout=20).startswith(silent.issuer)
    assert begin(one).startswith(silent.issuer)
    assert silent.asked == 2


def test_who_comes_while_a_provider_that_is_well_is_asked_gets_its_answer(
    silent: SilentProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "WAIT_SECONDS", 20.0)
    silent.says = silent.discovery()
    one = client_of(silent)
    with ThreadPoolExecutor(MANY) as threads:
        assert all(url.startswith(silent.issuer) for url in threads.map(begin, [one] * MANY))
    assert silent.asked == 1


def test_keys_that_cannot_be_had_are_not_asked_for_by_everybody(silent: SilentProvider) -> None:
    one = client_of(silent)
    silent.says = silent.discovery(jwks_uri=f"{silent.issuer}/jwks")
    begin(one)
    silent.says = ["no object"]
    for anew in (False, True, False):
        with pytest.raises(SsoFault, match="sso_unreachable"):
            one._keys.get(anew=anew)
    assert silent.asked == 2
