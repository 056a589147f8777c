"""Which connector carries out which tool on which kind of target; one set of connectors for a worker process.

A connector is a module with `make(surroundings) -> Connector`. Those of this project stand in `BUILT_IN`; another
package adds one with an entry point of the group `opsconductor.connectors` whose module also has REACHES: the pairs
(what a tool asks for, how the target is connected) that it serves. See docs/how-to/write-a-connector.md.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from executions.connectors.addresses import Network
from executions.connectors.base import Connector
from executions.connectors.warden import Warden
from opsconductor.environment import ConfigError

log = logging.getLogger(__name__)

GROUP = "opsconductor.connectors"
ANY = "*"  # a connector that does not care how the target is connected

# (what a tool asks for, how the target is connected) -> the module that has `make`
BUILT_IN: dict[tuple[str, str], str] = {
    ("command", "local"): "executions.connectors.local",
    ("command", "ssh"): "executions.connectors.ssh",
    ("http", ANY): "executions.connectors.http",
    ("ansible", "ssh"): "executions.connectors.ansible.connector",
    ("ansible", "local"): "executions.connectors.ansible.connector",
    ("command", "powershell"): "executions.connectors.winrm",
    ("powershell", "powershell"): "executions.connectors.winrm",
}

# What the fleet page calls them, with the package without which a worker cannot do it.
_NAMES = {
    "executions.connectors.local": ("local", None),
    "executions.connectors.ssh": ("ssh", "asyncssh"),
    "executions.connectors.http": ("http", None),
    "executions.connectors.ansible.connector": ("ansible", "ansible_runner"),
    "executions.connectors.winrm": ("powershell", "pypsrp"),
}

# With an automation service (the option `automation`) it runs these in place of what is built in.
AUTOMATION = "executions.connectors.automation"
OF_AUTOMATION = frozenset(
    {("command", "local"), ("command", "ssh"), ("command", "powershell"), ("powershell", "powershell")}
)


class NoConnector(Exception):
    """There is no way to reach this kind of target from here. The text says which there are."""

    code = "no_connector"


class ConnectorConflict(ConfigError):
    """An added connector claims what another one does already, or is none. Nothing starts with it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The worker that a connector lives in, and the choices of its deployment.

    allowed_networks  private and loopback networks that HTTP requests may go to (HTTP_ALLOWED_NETWORKS)
    right_ends_at     the moment (time.monotonic) until which this worker may act; None while there is no limit
    options           settings that one connector alone looks at, by their names
    """

    warden: Warden
    allowed_networks: tuple[Network, ...] = ()
    grace_seconds: float = 5.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def may_act(self) -> bool:
        return not self.warden.right_is_over

    @property
    def right_ends_at(self) -> float | None:
        return self.warden.right_ends_at


_lock = threading.Lock()
_warden = Warden()
_surroundings = Surroundings(_warden)
_connectors: dict[str, Any] = {}


def configure_connectors(
    *,
    http_allowed_networks: Iterable[Network] = (),
    grace_seconds: float = 5.0,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Set the deployment's choices, before the first connector is asked for; later ones see the new choices."""
    global _surroundings
    with _lock:
        _surroundings = Surroundings(_warden, tuple(http_allowed_networks), grace_seconds, options or {})
        _connectors.clear()
    added()  # a connector that cannot be ends the worker now, not the first execution later


def worker_warden() -> Warden:
    """The warden of this worker process. The lease heartbeat extends it; it starts with the first command."""
    return _warden


def connector_for(tool_connector: str, connection: str) -> Connector:
    """The connector for what a tool asks for ("command", "http") on a target with this connection (local, ssh).

    Raises NoConnector.
    """
    connector: Connector = _get(_place_of(tool_connector, connection))
    return connector


def why_not(tool_connector: str, connection: str) -> str | None:
    """Return why no connector does what a tool asks for on a target with this connection; None when one does.

    Whether a worker has what that connector needs is another question, which only the worker can answer.
    """
    try:
        _place_of(tool_connector, connection)
    except NoConnector as reason:
        return str(reason)
    return None


def capabilities() -> tuple[str, ...]:
    """What this process can do, as the fleet page names it."""
    mine = (name for name, needs in _NAMES.values() if needs is None or importlib.util.find_spec(needs) is not None)
    return (*mine, *sorted({connection if connection != ANY else tool for tool, connection in added()}))


def connections() -> list[str]:
    """Every connection that an asset can have because some connector reaches it, besides the built-in ones."""
    return sorted({connection for _, connection in added() if connection != ANY})


def tool_connectors() -> set[str]:
    """What a tool of the catalog can ask for, besides what the engine does itself."""
    return {tool for tool, _ in (*BUILT_IN, *added())}


async def close_connectors() -> None:
    """Give up the connections that connectors keep. Nothing runs any more when this is called."""
    with _lock:
        connectors = list(_connectors.values())
        _connectors.clear()
    for connector in connectors:
        try:
            await connector.close()
        except Exception:
            log.exception("A connector could not be closed.")


@cache
def added() -> dict[tuple[str, str], ModuleType]:
    """The connectors of other packages. Raises ConnectorConflict."""
    found: dict[tuple[str, str], ModuleType] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            module = point.load()
        except Exception as error:  # whatever the package does when it is imported
            raise ConnectorConflict(
                f"The connector {point.name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}."
            ) from error
        reaches = getattr(module, "REACHES", None)
        if not reaches or not callable(getattr(module, "make", None)):
            raise ConnectorConflict(
                f"The connector {point.name} ({point.value}) is none: its module needs REACHES and make(surroundings)."
            )
        for tool, connection in reaches:
            if (tool, connection) in BUILT_IN or (tool, connection) in found:
                raise ConnectorConflict(
                    f"The connector {point.name} ({point.value}) claims {tool} on {connection}, which another one does"
                    " already. Remove one of the two packages, or give it a connection of its own."
                )
            found[tool, connection] = module
    return found


def _place_of(tool_connector: str, connection: str) -> str:
    if _surroundings.options.get("automation") is not None and (tool_connector, connection) in OF_AUTOMATION:
        return AUTOMATION
    for pair in ((tool_connector, connection), (tool_connector, ANY)):
        if pair in BUILT_IN:
            return BUILT_IN[pair]
        if pair in added():
            return added()[pair].__name__
    ways = sorted({place for tool, place in (*BUILT_IN, *added()) if tool == tool_connector})
    if not ways:
        known = ", ".join(sorted(tool_connectors()))
        raise NoConnector(f"There is no connector {tool_connector!r} that reaches a target; there are: {known}.")
    raise NoConnector(
        f"Tools of the kind {tool_connector!r} cannot be run on a target with connection {connection!r};"
        f" only with connection {', '.join(ways)}."
    )


def _get(module_name: str) -> Any:
    with _lock:
        connector = _connectors.get(module_name)
        if connector is None:
            # Imported here: a process that sends no requests need not load an HTTP client.
            make: Callable[[Surroundings], Any] = importlib.import_module(module_name).make
            connector = _connectors[module_name] = make(_surroundings)
        return connector
