"""Ends the SSH connections that ansible keeps open for its next task, by the sockets through which ssh shares them.

The processes that hold them have written their title over their environment, so that the warden does not know them by
its marker. OpenSSH's PROTOCOL.mux has the two messages.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

_HELLO = struct.pack(">III", 8, 0x00000001, 4)
_TERMINATE = struct.pack(">III", 8, 0x10000005, 0)
_PATIENCE_SECONDS = 1.0


def end_connections(folder: Path) -> None:
    """Ask each holder of a connection to end, and wait until it did. One that does not answer ends when it is idle."""
    for path in folder.glob("*"):
        if not path.is_socket():
            continue
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as holder:
            holder.settimeout(_PATIENCE_SECONDS)
            holder.connect(str(path))
            holder.sendall(_HELLO + _TERMINATE)
            while holder.recv(1024):  # its own hello, its consent, and then its end
                pass
