"""What OpenSSH's server does not do easily: passwords without accounts, questions, odd files; with asyncssh's."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncssh

from executions.connectors import Credential, Target

PASSWORD = "korrekt horse"


class Doorkeeper(asyncssh.SSHServer):
    """Lets `tester` in with PASSWORD; by questions instead where `asks` is set."""

    asks = False

    def password_auth_supported(self) -> bool:
        return not self.asks

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("tester", PASSWORD)

    def kbdint_auth_supported(self) -> bool:
        return self.asks

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        return list(responses) == [PASSWORD]


class AskingDoorkeeper(Doorkeeper):
    asks = True


async def run_a_shell(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """What a login shell does with a command line."""
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command or "",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    process.exit(await child.wait())
    await process.wait_closed()


class Served:
    def __init__(self, port: int, key: asyncssh.SSHKey) -> None:
        self.port = port
        self.host_key = key.export_public_key().decode().strip()

    def target(self, **changes: Any) -> Target:
        given: dict[str, Any] = {
            "name": "odd-1",
            "ip_address": "127.0.0.1",
            "port": self.port,
            "connection": "ssh",
            "host_keys": (self.host_key,),
            "credential": Credential(username="tester", password=PASSWORD),
        }
        return Target(**(given | changes))


@asynccontextmanager
async def served(
    doorkeeper: type[Doorkeeper] = Doorkeeper, *, process: Callable[..., Any] | None = run_a_shell, **options: Any
) -> AsyncIterator[Served]:
    """asyncssh's server on a free port of loopback, on the loop of whoever asks."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        doorkeeper,
        "127.0.0.1",
        0,
        server_host_keys=[key],
        process_factory=process,
        encoding=None,
        config=None,
        **options,
    )
    try:
        yield Served(server.get_port(), key)
    finally:
        server.close()


class Answerer:
    """Something else that listens: says `words` to whoever connects, and then nothing, or with `hangs_up` goodbye."""

    def __init__(self, words: bytes = b"", *, hangs_up: bool = False) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._words, self._hangs_up = words, hangs_up
        self._kept: list[socket.socket] = []
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
                connection.sendall(self._words)
            except OSError:
                return
            if self._hangs_up:
                connection.close()
            else:
                self._kept.append(connection)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._kept:
            connection.close()
        self._thread.join(5)
