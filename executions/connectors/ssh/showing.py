"""Which host keys machines show, without signing in and without believing any of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import asyncssh

from executions.connectors.ssh.signing_in import CONNECT_SECONDS

AT_ONCE = 25


@dataclass(frozen=True, slots=True)
class Shown:
    """`key` is a line such as "ssh-ed25519 AAAA..."; without one, `error` says why."""

    key: str = ""
    fingerprint: str = ""
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


async def _show(host: str, port: int, seconds: float) -> Shown:
    try:
        async with asyncio.timeout(seconds):
            key = await asyncssh.get_server_host_key(host, port, config=None)
    except TimeoutError:
        return Shown(error=f"did not answer within {seconds:g} s")
    except (OSError, asyncssh.Error) as error:
        return Shown(error=(str(error).splitlines() or [type(error).__name__])[0][:200])
    if key is None:
        return Shown(error="showed no host key")
    line = " ".join(key.export_public_key().decode("ascii").split()[:2])
    return Shown(line, key.get_fingerprint())
