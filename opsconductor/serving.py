"""What `serve` and `demo` share: which children there are, where they listen, and when they are ready."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connections

from opsconductor import embedded_postgres
from opsconductor.database_check import check_server
from opsconductor.environment import ConfigError
from opsconductor.supervisor import ChildSpec, Claim, Supervisor

TURN_SECONDS = 0.1
WORKER_STOP_SECONDS = 35.0  # on top of SHUTDOWN_GRACE, within which running steps may end
WEB_STOP_SECONDS = 10.0
READY_PATIENCE_SECONDS = 120.0
TRIES_BEFORE_READY = 5  # a child that ends so often before the first answer will not get better
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # where to reach what listens everywhere


@dataclass(frozen=True, slots=True)
class Address:
    bind: str
    port: int

    @property
    def reachable(self) -> str:
        return ANY_ADDRESS.get(self.bind, self.bind)

    @property
    def url(self) -> str:
        host = f"[{self.reachable}]" if ":" in self.reachable else self.reachable
        return f"http://{host}:{self.port}"

    def is_free(self) -> bool:
        """Say whether the port can be listened on now. Raises ConfigError when the address is none of this machine."""
        family = socket.AF_INET6 if ":" in self.bind else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.bind, self.port))
                probe.listen(1)
            except PermissionError:
                raise ConfigError(f"PORT {self.port} needs root: set PORT to 1024 or more.") from None
            except (OSError, OverflowError) as error:
                if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                    return False
                raise ConfigError(f"BIND {self.bind} with PORT {self.port} cannot be listened on: {error}.") from None
        return True


class Serving:
    """One installation being served: `prepare`, then `run` until a signal (or `until`) ends it."""

    def __init__(
        self,
        claim: Claim,
        address: Address,
        *,
        say: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.claim = claim
        self.address = address
        self.say = say
        self.embedded = not settings.DATABASE_URL
        self.var_dir: Path = settings.VAR_DIR
        extra = {"PYTHONUNBUFFERED": "1", **(environment or {})}  # what they say is seen when they say it
        python, manage = sys.executable, str(settings.BASE_DIR / "manage.py")
        listen = ("-b", address.bind, "-p", str(address.port))
        web = (python, "-m", "daphne", "-v", "0", *listen, "opsconductor.asgi:application")
        worker_stop = settings.SHUTDOWN_GRACE.total_seconds() + WORKER_STOP_SECONDS
        specs = [
            ChildSpec("web server", web, WEB_STOP_SECONDS, {"PYTHONPATH": _python_path(), **extra}),
            ChildSpec("worker", (python, manage, "worker"), worker_stop, extra),
        ]
        self.supervisor = Supervisor(specs, var_dir=self.var_dir, say=say)
        self._next_look_at = 0.0

    def prepare(self) -> None:
        """Bring the database up to date and print the first administrator's password. Raises ConfigError."""
        self.supervisor.handle_signals()
        Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)  # WhiteNoise warns about one that is not there
        if self.embedded:
            embedded_postgres.start(self.var_dir)
        else:
            check_server(settings.DATABASE_OWNER_URL or settings.DATABASE_URL)
        call_command("migrate", interactive=False, verbosity=0)
        from safety.accounts import ensure_first_admin
        from safety.audit.database_role import grant_configured

        grant_configured()
        password = ensure_first_admin()
        connections.close_all()
        if password is not None:
            self.say(f"First start: sign in as admin with the password {password} (it is shown this once).")

    def run(self, *, on_ready: Callable[[], None], until: Callable[[], bool] = lambda: False) -> None:
        """Serve until a signal comes or `until()` says so. Raises ConfigError when it never gets ready."""
        deadline = time.monotonic() + READY_PATIENCE_SECONDS
        ready = False
        while not self.supervisor.asked_to_stop and not until():
            self._keep_database()
            self.supervisor.turn()
            if not ready:
                ready = self._answers()
                if ready:
                    on_ready()
                else:
                    self._give_up_after(deadline)
            time.sleep(TURN_SECONDS)

    def stop(self) -> None:
        """Stop worker, web and, if nobody else uses it, the embedded PostgreSQL; then let another one serve."""
        self.claim.stopping()
        self.supervisor.stop()
        if self.embedded:
            connections.close_all()
            _close_pools()
            embedded_postgres.release(self.var_dir)
        self.claim.give_up()

    def _keep_database(self) -> None:
        """Bring the embedded server back when its keeper was killed; looked at once a second."""
        now = time.monotonic()
        if not self.embedded or now < self._next_look_at:
            return
        self._next_look_at = now + 1.0
        if not embedded_postgres.is_running(self.var_dir):
            self.say("The embedded PostgreSQL is gone: starting it again.")
            try:
                embedded_postgres.start(self.var_dir)
            except ConfigError as refusal:
                self.say(str(refusal))

    def _answers(self) -> bool:
        """Ask /healthz, under a host name that ALLOWED_HOSTS lets in."""
        named = next(
            (host for host in settings.ALLOWED_HOSTS if not host.startswith((".", "*"))), self.address.reachable
        )
        connection = http.client.HTTPConnection(self.address.reachable, self.address.port, timeout=2.0)
        try:
            connection.request("GET", "/healthz", headers={"Host": named})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _give_up_after(self, deadline: float) -> None:
        for child in self.supervisor.children:
            if child.ended >= TRIES_BEFORE_READY:
                raise ConfigError(
                    f"The {child.spec.name} ended {child.ended} times while starting: its last words are above."
                )
        if time.monotonic() > deadline:
            raise ConfigError(f"{self.address.url}/healthz did not answer within {READY_PATIENCE_SECONDS:g} s.")


def _close_pools() -> None:
    for connection in connections.all(initialized_only=True):
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()


def _python_path() -> str:
    """Daphne finds opsconductor.asgi wherever it is started from."""
    return os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH", "")]))


def first_free(address: Address, tries: int = 100) -> Address:
    """Return the first address from this port upwards that is free. Raises ConfigError when none is."""
    for port in range(address.port, min(address.port + tries, 65536)):
        candidate = Address(address.bind, port)
        if candidate.is_free():
            return candidate
    raise ConfigError(f"No port from {address.port} to {address.port + tries - 1} is free: set PORT.")
