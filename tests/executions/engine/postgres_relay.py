"""A way to a PostgreSQL server that can be closed: a Unix socket that passes everything on, freezes, or refuses."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path

NAME = ".s.PGSQL.5432"


class Relay:
    """Listens in `directory` under the server's name and passes bytes on to the server in `server_directory`."""

    def __init__(self, server_directory: str, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self._server = str(Path(server_directory) / NAME)
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._passing = threading.Event()
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Take connections, and pass on."""
        self._passing.set()
        if self._listener is None:
            (self.directory / NAME).unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.directory / NAME))
            self._listener.listen(100)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def freeze(self) -> None:
        """Keep connections, and pass nothing on: what a broken network looks like."""
        self._passing.clear()

    def refuse(self) -> None:
        """Break every connection, and take no more: what a stopped server looks like."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        (self.directory / NAME).unlink(missing_ok=True)
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._passing.set()

    def close(self) -> None:
        self.refuse()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._listener is not listener:  # closed meanwhile; accept may still have got one
                client.close()
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while True:
                readable, _, _ = select.select([client, server], [], [])
                self._passing.wait()
                for end in readable:
                    data = end.recv(65536)
                    if not data:
                        return
                    (server if end is client else client).sendall(data)
