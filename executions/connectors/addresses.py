"""Which addresses the worker may connect to on somebody's behalf.

A plan names a URL, and the worker stands inside the network: without a check a plan could reach whatever the worker
reaches, the cloud's metadata service with its credentials first of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Metadata services that give out credentials. Opening a wide network does not open these; naming them narrowly does.
_METADATA = (
    ip_network("169.254.0.0/16"),  # AWS, Google, Azure, Oracle, and others
    ip_network("fd00:ec2::/32"),  # AWS over IPv6
    ip_network("100.100.100.200/32"),  # Alibaba
    ip_network("168.63.129.16/32"),  # Azure's wire server, a public address
)
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # the middle of an IPv6 address whose end is an IPv4 one
# Not for the internet, and not known as such to every Python that this runs on.
_NOT_PUBLIC = (ip_network("192.88.99.0/24"), ip_network("3fff::/20"), ip_network("5f00::/16"))


class AddressPolicy:
    """Public addresses, and those of the allowed networks."""

    def __init__(self, allowed_networks: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed_networks)

    def refusal(self, text: str) -> str | None:
        """Why this address may not be connected to, as the end of a sentence; None when it may.

        `text` is a numeric address, as the resolver gives it, with or without a zone.
        """
        address = _plain(ip_address(text.split("%", 1)[0]))
        for network in _METADATA:
            if address.version == network.version and address in network:
                if any(_is_within(allowed, network) and address in allowed for allowed in self._allowed):
                    return None
                return "a metadata service"
        if any(address.version == allowed.version and address in allowed for allowed in self._allowed):
            return None
        return _kind(address)


def _is_within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _plain(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, where there is one: that is where the connection goes in the end."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _kind(address: Address) -> str | None:
    if address.is_loopback:
        return "this machine itself"
    if address.is_unspecified:
        return "no address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_private or (isinstance(address, IPv6Address) and address.is_site_local):
        return "a private address"
    if any(address.version == network.version and address in network for network in _NOT_PUBLIC):
        return "a reserved address"
    if not address.is_global or address.is_reserved:
        return "a reserved address"
    return None
