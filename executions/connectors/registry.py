"""Which connector carries out which tool on which kind of target; one set of connectors for a worker process."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from executions.connectors.addresses import Network
from executions.connectors.base import Connector
from executions.connectors.warden import Warden


class NoConnector(Exception):
    """There is no way to reach this kind of target from here. The text says which there are."""

    code = "no_connector"


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """The choices of a deployment. `http_allowed_networks` comes from HTTP_ALLOWED_NETWORKS."""

    http_allowed_networks: tuple[Network, ...] = ()
    grace_seconds: float = 5.0


# What this release's connectors reach, as the fleet page names it.
CAPABILITIES = ("local", "http")

_lock = threading.Lock()
_settings = ConnectorSettings()
_warden = Warden()
_connectors: dict[str, Connector] = {}


def configure_connectors(*, http_allowed_networks: Iterable[Network] = (), grace_seconds: float = 5.0) -> None:
    """Set the deployment's choices, before the first connector is asked for; later ones see the new choices."""
    global _settings
    with _lock:
        _settings = ConnectorSettings(tuple(http_allowed_networks), grace_seconds)
        _connectors.clear()


def worker_warden() -> Warden:
    """The warden of this worker process. The lease heartbeat extends it; it starts with the first command."""
    return _warden


def connector_for(tool_connector: str, connection: str) -> Connector:
    """The connector for a tool ("command", "http") on a target reached by `connection` (local, ssh, ...).

    Raises NoConnector.
    """
    if tool_connector == "http":
        return _get("http")
    if tool_connector == "command" and connection == "local":
        return _get("local")
    if tool_connector != "command":
        raise NoConnector(f"The connector {tool_connector!r} is not one that reaches a target (command, http).")
    raise NoConnector(
        f"Commands cannot be run on a target with connection {connection!r} yet; only with connection 'local'."
    )


def _get(name: str) -> Connector:
    with _lock:
        connector = _connectors.get(name)
        if connector is None:
            connector = _connectors[name] = _make(name)
        return connector


def _make(name: str) -> Connector:
    # Imported here: a process that sends no requests need not load an HTTP client.
    if name == "http":
        from executions.connectors.http import HttpConnector

        return HttpConnector(
            allowed_networks=_settings.http_allowed_networks, may_act=lambda: not _warden.right_is_over
        )
    from executions.connectors.local import LocalConnector

    return LocalConnector(_warden, grace_seconds=_settings.grace_seconds)
