"""Which host keys machines show, without signing in and without believing any of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncssh

from executions.connectors.ssh.signing_in import CONNECT_SECONDS, signatures_of

AT_ONCE = 25
_MOST_KINDS = 4  # of host keys that a server has: Ed25519, ECDSA, RSA


@dataclass(frozen=True, slots=True)
class HostKey:
    """`line` is such as "ssh-ed25519 AAAA...", `fingerprint` such as "SHA256:..."."""

    line: str
    fingerprint: str

    @property
    def kind(self) -> str:
        return self.line.partition(" ")[0]

    @property
    def fact(self) -> dict[str, str]:
        """How it goes through records: without its kind, since what follows that word is taken for a secret there."""
        return {"base64": self.line.partition(" ")[2], "fingerprint": self.fingerprint}

    @classmethod
    def of_fact(cls, fact: Mapping[str, Any]) -> HostKey | None:
        """None unless it is a public key with the fingerprint that it is said to have."""
        try:
            blob = base64.b64decode(str(fact.get("base64")), validate=True)
            kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode("ascii")
            line = f"{kind} {base64.b64encode(blob).decode('ascii')}"
            fingerprint = asyncssh.import_public_key(line).get_fingerprint()
        except (ValueError, asyncssh.KeyImportError):
            return None
        return cls(line, fingerprint) if fingerprint == fact.get("fingerprint") else None


@dataclass(frozen=True, slots=True)
class Shown:
    """The keys that a machine showed, the one it likes best first; without any, `error` says why."""

    keys: tuple[HostKey, ...] = ()
    error: str = ""


async def show_host_keys(
    addresses: Sequence[tuple[str, int]], *, seconds: float = CONNECT_SECONDS
) -> AsyncIterator[tuple[int, Shown]]:
    """Ask many hosts at the same time; yield each answer with its place in `addresses` as it comes."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(place: int) -> tuple[int, Shown]:
        async with turns:
            return place, await _show(*addresses[place], seconds)

    asking = [asyncio.ensure_future(ask(place)) for place in range(len(addresses))]
    try:
        for answer in asyncio.as_completed(asking):
            yield await answer
    finally:
        for one in asking:
            one.cancel()


async def host_keys_at(
    host: str, port: int, *, seconds: float, through: asyncssh.SSHClientConnection | None = None
) -> tuple[HostKey, ...]:
    """Return the keys of every kind that a server has; one connection for each, and nothing is signed in to.

    Raises what connecting raises, TimeoutError after `seconds` for all of them together.
    """
    found: list[HostKey] = []
    kinds: list[str] = []
    async with asyncio.timeout(seconds):
        while len(found) < _MOST_KINDS:
            asked: Any = "-" + ",".join(signatures_of(kinds)) if kinds else ()
            try:
                key = await asyncssh.get_server_host_key(
                    host, port, tunnel=through or (), server_host_key_algs=asked, config=None
                )
            except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionResetError):
                if not found:
                    raise
                break  # it has none of the kinds that are left: it says so, or just hangs up
            if key is None or key.get_algorithm() in kinds:
                break
            kinds.append(key.get_algorithm())
            line = " ".join(key.export_public_key().decode("ascii").split()[:2])
            found.append(HostKey(line, key.get_fingerprint()))
    return tuple(found)


async def _show(host: str, port: int, seconds: float) -> Shown:
    try:
        keys = await host_keys_at(host, port, seconds=seconds)
    except TimeoutError:
        return Shown(error=f"did not answer within {seconds:g} s")
    except (OSError, asyncssh.Error) as error:
        return Shown(error=(str(error).splitlines() or [type(error).__name__])[0][:200])
    return Shown(keys) if keys else Shown(error="showed no host key")
