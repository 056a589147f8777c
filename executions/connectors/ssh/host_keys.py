"""Which key a host must have: as the asset says, else a known_hosts file. Nothing is trusted for coming first."""

from __future__ import annotations

import os
from functools import lru_cache
from ipaddress import ip_address

import asyncssh
from asyncssh.known_hosts import SSHKnownHosts, match_known_hosts

from executions.connectors.base import ErrorCode
from executions.connectors.ssh.way import NoWay, Way, no_way

FINGERPRINT = "SHA256:"


class KeyBook:
    """What is known of one host's keys, and what was seen of it."""

    def __init__(self, way: Way, known_hosts: str) -> None:
        """Raises NoWay when what is known cannot be read."""
        self._name = way.name
        self._keys: list[asyncssh.SSHKey] = []
        self._fingerprints: set[str] = set()
        self._certifiers: list[asyncssh.SSHKey] = []
        self._revoked: list[asyncssh.SSHKey] = []
        self.seen: asyncssh.SSHKey | None = None
        for line in way.host_keys:
            self._learn(line)
        if not way.host_keys and known_hosts:
            self._look_up(way, known_hosts)

    @property
    def is_empty(self) -> bool:
        return not (self._keys or self._fingerprints or self._certifiers)

    def trusted(self, *, any_kind: bool) -> tuple[list[asyncssh.SSHKey], ...]:
        """Keys, keys of authorities and revoked keys, as asyncssh takes them. With keys there, the host is asked for
        one of their kinds; with `any_kind`, or when only a fingerprint is known, for whichever it likes best."""
        if any_kind:
            return ([], [], list(self._revoked))
        keys = [] if self._fingerprints else self._keys
        return (list(keys), list(self._certifiers), list(self._revoked))

    @property
    def may_know_another_kind(self) -> bool:
        """The host may have a key of another kind beside the one that was seen, and that may be the known one. A
        fingerprint does not say of what kind its key is."""
        if self.seen is None:
            return False
        kind = self.seen.get_algorithm()
        return bool(self._fingerprints) or any(key.get_algorithm() != kind for key in self._keys)

    def knows(self, key: asyncssh.SSHKey) -> bool:
        self.seen = key
        return key in self._keys or key.get_fingerprint() in self._fingerprints

    def refusal(self, reason: str = "") -> NoWay:
        """What is said when the key that was seen is not known."""
        seen = reason or "none of a kind that is known"
        if self.seen is not None:
            seen = f"{self.seen.get_algorithm()} {self.seen.get_fingerprint()}"
        if self.is_empty:
            return no_way(
                ErrorCode.HOST_KEY_UNKNOWN,
                f"Nobody has said which host key {self._name} has; it showed {seen}. Compare it with what its console"
                " says, then pin it on the asset's page, or with manage.py pin_host_keys.",
            )
        return no_way(
            ErrorCode.HOST_KEY_CHANGED,
            f"The host key of {self._name} is not the one that is known; it showed {seen}. Either it was set up anew,"
            " or something else answers in its place. Find out which before you pin it on the asset's page, or with"
            " manage.py pin_host_keys --replace.",
        )

    def _learn(self, line: str) -> None:
        if line.startswith(FINGERPRINT):
            self._fingerprints.add(line.split()[0])
            return
        try:
            self._keys.append(asyncssh.import_public_key(line))
        except asyncssh.KeyImportError as error:
            raise no_way(
                ErrorCode.HOST_KEY_UNKNOWN,
                f'A host key of {self._name} cannot be read ({error}). It is a line such as "ssh-ed25519 AAAA..." or a'
                ' fingerprint such as "SHA256:...".',
            ) from None

    def _look_up(self, way: Way, known_hosts: str) -> None:
        try:
            stat = os.stat(known_hosts)
            book = _read(known_hosts, stat.st_mtime_ns, stat.st_size)
            port = way.port if way.port != 22 else None
            found = match_known_hosts(book, way.host, _numeric(way.host), port)
        except (OSError, ValueError) as error:
            raise no_way(
                ErrorCode.HOST_KEY_UNKNOWN, f"The file of SSH_KNOWN_HOSTS cannot be read: {error}. Mend or unset it."
            ) from None
        self._keys, self._certifiers, self._revoked = list(found[0]), list(found[1]), list(found[2])


def _numeric(host: str) -> str:
    """The address, where a host is named by one; asyncssh refuses a name in its place."""
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return ""


@lru_cache(maxsize=4)
def _read(path: str, changed_at: int, size: int) -> SSHKnownHosts:
    return asyncssh.read_known_hosts(path)
