"""A real PostgreSQL under VAR_DIR for installations without a DATABASE_URL.

Every process of an installation that calls `start` shares one server. The first one finds no keeper and starts one (see
keeper.py); each holds a shared lock for as long as it lives or until `release`. The server stops when the last lock is
gone, however its holder went.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from opsconductor.embedded_postgres.installation import APP_ROLE, ROLE, Installation, try_lock
from opsconductor.environment import ConfigError

__all__ = ["APP_ROLE", "ROLE", "is_running", "release", "start"]

PROJECT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 90.0  # more than the keeper's own patience: its sentence says more than ours
PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "TMPDIR",
)

_guard = threading.Lock()
_held: dict[Path, int] = {}  # VAR_DIR -> descriptor that holds the users' lock; kept across fork, as it should be
_keepers: dict[Path, subprocess.Popen[bytes]] = {}  # those that this process started; kept to reap them


def start(var_dir: Path, *, durable: bool = True, role: str = ROLE) -> str:
    """Return the URL of the installation's database for this role, starting the server if nobody has.

    That takes about a second. Call it again at any time: it returns at once when all is well and brings the server back
    when its keeper was killed. `durable=False` is for tests: the server then forgoes fsync. Raises ConfigError with one
    sentence when the server cannot start.
    """
    installation = Installation(var_dir.expanduser().resolve())
    deadline = time.monotonic() + PATIENCE_SECONDS
    with _guard:
        try:
            installation.create_folders()
            _hold(installation, deadline)
            return _join_or_start(installation, deadline, role, durable=durable)
        except PermissionError as error:
            raise ConfigError(
                f"VAR_DIR {installation.var_dir} cannot be used: {error.strerror} ({error.filename})."
            ) from None
        except OSError as error:
            raise ConfigError(f"VAR_DIR {installation.var_dir} cannot be used: {error.strerror}.") from None


def _hold(installation: Installation, deadline: float) -> None:
    """Hold the users' lock shared. Waits while a keeper that saw no user is stopping its server."""
    held = _held.get(installation.var_dir)
    if held is not None and _is_same_file(held, installation.users_lock):
        return
    descriptor = installation.open_lock(installation.users_lock)
    while not try_lock(descriptor, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise ConfigError(f"The embedded PostgreSQL under {installation.var_dir} has been stopping for too long.")
        time.sleep(0.02)
    if held is not None:
        os.close(held)
    _held[installation.var_dir] = descriptor


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _join_or_start(installation: Installation, deadline: float, role: str, *, durable: bool) -> str:
    while time.monotonic() < deadline:
        lock = installation.open_lock(installation.keeper_lock)
        try:
            if try_lock(lock, fcntl.LOCK_EX):
                _start_keeper(installation, lock, durable=durable)
        finally:
            os.close(lock)
        owner, url = installation.url(), installation.url(role)
        if owner is not None and url is not None and _answers(owner):
            return url
        time.sleep(0.03)
    raise ConfigError(f"The embedded PostgreSQL under {installation.var_dir} does not answer: see {installation.log}.")


def _start_keeper(installation: Installation, lock: int, *, durable: bool) -> None:
    """Start a keeper, which inherits the lock, and wait until its server is ready. Raises ConfigError."""
    reading, writing = os.pipe()
    arguments = [str(installation.var_dir), str(lock), str(writing), *([] if durable else ["--not-durable"])]
    try:
        _keepers[installation.var_dir] = subprocess.Popen(
            [sys.executable, "-m", "opsconductor.embedded_postgres.keeper", *arguments],
            cwd=PROJECT,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock, writing),
            start_new_session=True,  # Ctrl-C in the terminal is for its users, not for the server
        )
    finally:
        os.close(writing)
    with open(reading, "rb") as status:
        told = status.read().decode(errors="replace")
    if told and told != "ready":
        _keepers.pop(installation.var_dir).wait()  # it has nothing to keep
        raise ConfigError(told)


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
            _ensure_app_role(connection)
    except psycopg.OperationalError:
        return False
    return True


def _ensure_app_role(connection: psycopg.Connection) -> None:
    """Make the role of web and workers if there is none: a new server, or one of an older release.

    What it may do is granted when the tables are made (safety/audit/database_role.py); a backup that is restored here
    grants to it too.
    """
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [APP_ROLE]).fetchone() is None:
        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):  # another process made it
            connection.execute(f"CREATE ROLE {APP_ROLE} LOGIN")


def is_running(var_dir: Path) -> bool:
    """Say whether a keeper holds a server of this installation now."""
    installation = Installation(var_dir.expanduser().resolve())
    if not installation.keeper_lock.exists():
        return False
    lock = installation.open_lock(installation.keeper_lock)
    try:
        return not try_lock(lock, fcntl.LOCK_EX)
    finally:
        os.close(lock)


def release(var_dir: Path, *, timeout_seconds: float = 40.0) -> bool:
    """Give the server up; return True when it is down, False when others still use it (or it does not stop in time).

    Close the connections first. Nothing to do for a process that simply ends: its lock ends with it.
    """
    installation = Installation(var_dir.expanduser().resolve())
    with _guard:
        held = _held.pop(installation.var_dir, None)
        if held is not None:
            os.close(held)
        deadline = time.monotonic() + timeout_seconds
        while is_running(installation.var_dir):
            if _has_users(installation) or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        keeper = _keepers.pop(installation.var_dir, None)
        if keeper is not None:
            keeper.wait()
        return True


def _has_users(installation: Installation) -> bool:
    """Say whether anybody holds the users' lock shared (the keeper holds it exclusively while it stops the server)."""
    descriptor = installation.open_lock(installation.users_lock)
    try:
        return not try_lock(descriptor, fcntl.LOCK_EX) and try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
