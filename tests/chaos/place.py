"""The database of a chaos run: an embedded server of its own that can be restarted, and a small disk for the output."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg

from opsconductor import embedded_postgres

WITNESS = Path(__file__).with_name("witness.sql")
SOCKET = ".s.PGSQL.5432"
FILLER = "filler"
UP_SECONDS = 60.0
OTHERS = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"

# Stands in for a small file system where none can be mounted: the same error, at the same table, from the server.
FULL_BY_TRIGGER = """
CREATE TABLE chaos.disk (is_full boolean);
INSERT INTO chaos.disk VALUES (false);
CREATE FUNCTION chaos.refuse_when_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT is_full FROM chaos.disk) THEN
        RAISE EXCEPTION 'could not extend the table: no space left on device' USING ERRCODE = 'disk_full';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER chaos_disk BEFORE INSERT ON executions_outputchunk
    FOR EACH ROW EXECUTE FUNCTION chaos.refuse_when_full();
"""


class Place:
    """Starts the server. `url` goes past every relay, for the driver and the checker."""

    def __init__(self, folder: Path) -> None:
        self._var_dir = folder / "server"
        self._disk = folder / "small-disk"
        self._is_mounted = False
        self.full_disk_is = ""
        self.url = embedded_postgres.start(self._var_dir)

    @property
    def socket(self) -> str:
        return f"{parse_qs(urlsplit(self.url).query)['host'][0]}/{SOCKET}"

    def relayed_url(self, port: int) -> str:
        parts = urlsplit(self.url)
        return f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable"

    def close(self) -> None:
        embedded_postgres.release(self._var_dir)
        if self._is_mounted:
            subprocess.run(["umount", str(self._disk)], capture_output=True, check=False)

    # -- statements ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            yield connection

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement, again and again while the server is away. Only for what does no harm twice."""
        deadline = time.monotonic() + UP_SECONDS
        while True:
            try:
                with self.connection() as connection:
                    cursor = connection.execute(statement.encode())
                    return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def install_witness(self) -> None:
        with self.connection() as connection:
            connection.execute(WITNESS.read_bytes())

    # -- the small disk ----------------------------------------------------------------------------------------------

    def make_small_disk(self, mebibytes: int) -> None:
        """Put the output table on a file system of its own, or arrange for the error that a full one gives."""
        owner = (self._var_dir / "postgres").stat()
        self._disk.mkdir()
        options = f"size={mebibytes}m,uid={owner.st_uid},gid={owner.st_gid},mode=0700"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "chaos", str(self._disk)], capture_output=True, check=False
        )
        self._is_mounted = mounted.returncode == 0
        with self.connection() as connection:
            if not self._is_mounted:
                self.full_disk_is = (
                    "the server's error 53100, raised by a trigger: no file system could be mounted here"
                )
                connection.execute(FULL_BY_TRIGGER.encode())
                return
            self.full_disk_is = f"a file system of {mebibytes} MiB"
            space = self._disk / "tablespace"
            space.mkdir(mode=0o700)
            os.chown(space, owner.st_uid, owner.st_gid)
            connection.execute(f"CREATE TABLESPACE chaos_small LOCATION '{space}'".encode())
            connection.execute(b"ALTER TABLE executions_outputchunk SET TABLESPACE chaos_small")

    def fill_disk(self) -> None:
        if not self._is_mounted:
            self.ask("UPDATE chaos.disk SET is_full = true")
            return
        with contextlib.suppress(OSError), (self._disk / FILLER).open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(65536))

    def empty_disk(self) -> None:
        if self._is_mounted:
            (self._disk / FILLER).unlink(missing_ok=True)
        else:
            self.ask("UPDATE chaos.disk SET is_full = false")

    def bring_output_home(self) -> None:
        """Put the output table back beside the others: the small disk goes with the run."""
        if self._is_mounted:
            self.empty_disk()
            with self.connection() as connection:
                connection.execute(b"ALTER TABLE executions_outputchunk SET TABLESPACE pg_default")
                connection.execute(b"DROP TABLESPACE chaos_small")

    def refused_for_room(self) -> int:
        """How often the server said that the disk is full."""
        logs = (self._var_dir / "log").glob("postgres.log*")
        return sum(log.read_text(errors="replace").lower().count("no space left on device") for log in logs)

    # -- the server --------------------------------------------------------------------------------------------------

    def restart_server(self, number: signal.Signals) -> None:
        """End it by a signal and wait until its keeper has started it again.

        SIGINT is a fast stop, SIGQUIT an immediate one, from which it recovers as from a crash.
        """
        before = self._server_pid()
        os.kill(before, number)
        deadline = time.monotonic() + UP_SECONDS
        while self._server_pid() in (0, before) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.wait_until_up()

    def _server_pid(self) -> int:
        try:
            first = (self._var_dir / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0]
        except FileNotFoundError:
            return 0
        return int(first or 0)

    def kill_backend(self, dice: random.Random) -> bool:
        """SIGKILL of one server process: the server ends all others, too, and recovers."""
        pids = [row[0] for row in self.ask(f"SELECT pid {OTHERS} ORDER BY pid")]
        if not pids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(pids), signal.SIGKILL)
        self.wait_until_up()
        return True

    def break_connections(self, share: float) -> int:
        """Have the server end so many of its connections, the driver's own among them; return how many."""
        return len(self.ask(f"SELECT pg_terminate_backend(pid) {OTHERS} AND random() < {share}"))

    def wait_until_up(self) -> None:
        self.ask("SELECT 1")
