"""The address that the audit and the brute-force brake go by cannot be chosen by the client."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from pytest_django import Settings

from safety.client_address import forwarded_address


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # no proxy of ours: what it says of itself is nothing to us
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),  # the left one came from the client
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),  # two proxies of ours, one behind the other
        ("10.0.0.1", "2001:db8::5", "2001:db8::5"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711, <script>", "10.0.0.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_only_trusted_proxies_say_who_the_client_is(
    settings: Settings, peer: str, forwarded_for: str, address: str
) -> None:
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/24")]
    assert forwarded_address(peer, forwarded_for) == address


def test_without_a_trusted_proxy_the_header_is_never_looked_at(settings: Settings) -> None:
    settings.TRUSTED_PROXIES = []
    assert forwarded_address("10.0.0.1", "198.51.100.1") == "10.0.0.1"
