"""The process that keeps one embedded PostgreSQL: starts it, restarts it, writes its log, stops it after its last user.

Started by `embedded_postgres.start`, never by hand:

    python -m opsconductor.embedded_postgres.keeper VAR_DIR LOCK_FD STATUS_FD [--not-durable]

It holds the keeper's lock (inherited as LOCK_FD) for as long as it lives, so there is one. It takes the users' lock
exclusively to learn that nobody holds it shared any more, and keeps it until the server is down: a process that wants
the server meanwhile waits for that, and then starts a new keeper. Locks end with their holders, so no crash leaves one
behind.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType

from opsconductor.embedded_postgres.account import StartRefused
from opsconductor.embedded_postgres.cluster import Cluster, stop_server
from opsconductor.embedded_postgres.installation import Installation, try_lock

LOG_BYTES = 10 * 1024 * 1024
LOG_FILES = 5
TURN_SECONDS = 0.1
START_PATIENCE_SECONDS = 60.0  # recovery after a crash, and the backends of a killed server, need their time
LONGEST_PAUSE_SECONDS = 5.0
TRIES = 3
WORTH_WAITING_FOR = "still in use"  # shared memory of a killed server, whose backends are ending

log = logging.getLogger("opsconductor.embedded_postgres")


class Keeper:
    def __init__(self, installation: Installation, *, durable: bool) -> None:
        self.installation = installation
        self.durable = durable
        self.users = installation.open_lock(installation.users_lock)
        self.asked_to_stop = False
        self.last_words: deque[str] = deque(maxlen=5)

    def ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.asked_to_stop = True

    def run(self, status: int) -> None:
        """Keep the server until nobody uses it. Writes `ready` or one sentence of refusal to `status` and closes it."""
        try:
            cluster = Cluster(self.installation, durable=self.durable)
            cluster.prepare()
            server = self._start(cluster)
        except StartRefused as refusal:
            log.error("%s", refusal)
            os.write(status, str(refusal).encode())
            os.close(status)
            return
        os.write(status, b"ready")
        os.close(status)
        try:
            self._keep(cluster, server)
        except StartRefused as refusal:
            log.error("%s", refusal)

    def _keep(self, cluster: Cluster, server: subprocess.Popen[bytes]) -> None:
        while True:
            if self._is_deserted():
                log.info("Nobody uses the server any more: stopping it.")
                stop_server(server.pid, cluster.data)
                server.wait()
                return
            if server.poll() is not None:
                log.warning("The server ended with status %s: starting it again.", server.returncode)
                server = self._start(cluster)
            time.sleep(TURN_SECONDS)

    def _is_deserted(self) -> bool:
        """Say whether the last user has gone, the keeper was asked to stop, or VAR_DIR was removed under its feet."""
        if self.asked_to_stop or not self.installation.users_lock.exists():
            return True
        return try_lock(self.users, fcntl.LOCK_EX)

    def _start(self, cluster: Cluster) -> subprocess.Popen[bytes]:
        """Start the server and wait until it is ready; tries a few times. Raises StartRefused."""
        deadline = time.monotonic() + START_PATIENCE_SECONDS
        pause, tries = TURN_SECONDS, 0
        while True:
            self.last_words.clear()
            server = cluster.start()
            reader = threading.Thread(target=self._write_log, args=(server,), daemon=True)
            reader.start()
            while server.poll() is None and not self.asked_to_stop:
                if cluster.is_ready(server):
                    return server
                if time.monotonic() > deadline:
                    stop_server(server.pid, cluster.data)
                time.sleep(0.01)
            if self.asked_to_stop:
                stop_server(server.pid, cluster.data)
                server.wait()
                raise StartRefused("The keeper of the embedded PostgreSQL was stopped while it started the server.")
            reader.join(timeout=1.0)
            tries += 0 if any(WORTH_WAITING_FOR in words for words in self.last_words) else 1
            hopeless = tries >= TRIES or time.monotonic() > deadline
            if hopeless or not self.installation.users_lock.exists():
                raise StartRefused(self._why())
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _why(self) -> str:
        told = [words for words in self.last_words if "FATAL" in words] or list(self.last_words)
        reason = told[-1].split(":  ", 1)[-1] if told else "it said nothing"
        return f"The embedded PostgreSQL does not start: {reason} (see {self.installation.log})."

    def _write_log(self, server: subprocess.Popen[bytes]) -> None:
        assert server.stderr is not None
        for line in server.stderr:
            words = line.decode("utf-8", errors="replace").rstrip()
            self.last_words.append(words)
            log.info("%s", words)
        server.stderr.close()


def _open_log(installation: Installation) -> None:
    handler = RotatingFileHandler(installation.log, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    installation.hand_over(installation.log)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def main(arguments: list[str]) -> None:
    installation = Installation(Path(arguments[0]))
    status = int(arguments[2])  # arguments[1] is the lock, which only has to stay open
    os.chdir("/")
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    keeper = Keeper(installation, durable="--not-durable" not in arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keeper.ask_to_stop)
    _open_log(installation)
    keeper.run(status)


if __name__ == "__main__":
    main(sys.argv[1:])
