"""Connections to checked addresses only: under the HTTP client, where no redirect and no second look at the name
service can get around it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, cast

import certifi
import httpcore
import httpx

from executions.connectors.addresses import AddressPolicy


class AddressRefused(Exception):
    """A name stands for an address that the policy does not allow. Nothing was connected."""

    def __init__(self, host: str, address: str, kind: str) -> None:
        super().__init__(host, address, kind)
        self.host = host
        self.address = address
        self.kind = kind


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks every address it stands for, and connects to one of those very addresses.

    One address that is not allowed refuses the name: a name that stands for a public and a private address is either
    a mistake or a trick. The name stays what the certificate is checked against.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        give_up_at = None if timeout is None else time.monotonic() + timeout
        addresses = await self._resolve(host, port, timeout)
        for address in addresses:
            kind = self._policy.refusal(address)
            if kind is not None:
                raise AddressRefused(host, address, kind)
        for position, address in enumerate(addresses, start=1):
            left = None if give_up_at is None else give_up_at - time.monotonic()
            if left is not None:
                # The addresses that follow must get their share of the time.
                left = max(0.0, left) / (len(addresses) - position + 1)
            try:
                return await self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(addresses):
                    raise
        raise httpcore.ConnectError(f"{host} stands for no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AddressRefused(path, path, "a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @staticmethod
    async def _resolve(host: str, port: int, within_seconds: float | None) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within_seconds):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("The name service did not answer in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedTransport(httpx.AsyncBaseTransport):
    """An httpx transport over httpcore with our own backend, which httpx's own transport has no door for."""

    def __init__(self, policy: AddressPolicy, ssl_context: ssl.SSLContext, *, keep_alive: bool) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=1000,
            max_keepalive_connections=50 if keep_alive else 0,
            keepalive_expiry=15.0,
            network_backend=CheckedBackend(policy),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=cast(AsyncIterable[bytes], request.stream),
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(cast(AsyncIterable[bytes], response.stream)),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()


def trusted_context() -> ssl.SSLContext:
    """Certificates are checked against the machine's store and certifi's: a company's own authority is in the first,
    and a slim container has only the second."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
