"""From which address a request comes: the peer's, or what the proxies say that TRUSTED_PROXIES names.

X-Forwarded-For is whatever its sender likes: only what a proxy of ours wrote into it counts, and that is what stands
furthest to the right.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the address of whoever sent the request; "" when the server knows none (a Unix socket)."""
    return forwarded_address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def forwarded_address(peer: str, forwarded_for: str) -> str:
    """Return the nearest address that is no trusted proxy: the peer's, or else the last such one of X-Forwarded-For."""
    address = peer
    for said in reversed(forwarded_for.split(",")):
        if not _is_trusted(address) or not _is_address(said.strip()):
            break
        address = said.strip()
    return address


def network_of(address: str) -> str:
    """Return whose address it is, as far as that can be told: of an IPv6 address the /64, which one customer has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, 64), strict=False))
    return address


def _is_trusted(address: str) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in settings.TRUSTED_PROXIES)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
