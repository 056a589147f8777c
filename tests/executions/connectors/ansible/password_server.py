"""An SSH server that takes a password, and runs what it is told with sh: OpenSSH's would want an account for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncssh


class _Door(asyncssh.SSHServer):
    def __init__(self, username: str, password: str) -> None:
        self._known = (username, password)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == self._known


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """The command's end is the connection's: what a terminal does at a real server."""
    shell = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", process.command or "exit 1", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await shell.communicate()
    process.stdout.write(out)
    process.stderr.write(error)
    process.exit(shell.returncode or 0)


@asynccontextmanager
async def password_server(username: str, password: str) -> AsyncIterator[tuple[int, str]]:
    """Port and host key of a server on loopback."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        lambda: _Door(username, password),
        "127.0.0.1",
        0,
        server_host_keys=[key],
        process_factory=_run,
        encoding=None,
    )
    async with server:
        yield server.get_port(), key.export_public_key().decode().strip()
